"""Messages of ML Metadata, as the package ml-metadata 1.17.1 writes them, and its errors."""

from typing import Any

import pytest

from pipeline.platforms.kubeflow.client import Client
from pipeline.platforms.kubeflow.metadata import framed, run_artifacts
from tests.pipeline.serving import Call, Content, serving
from trainer.errors import WalsError

_REQUESTS = {
    "GetContextByTypeAndName": b"\n\x12system.PipelineRun\x12\x03run",
    "GetArtifactsByContext": b"\x08\x07",
}
# With fields that are not read: id and name of the type, state, time, a boolean.
_RESPONSES = {
    "GetContextByTypeAndName": bytes.fromhex(
        "0a1d080710031a0372756e321273797374656d2e506970656c696e6552756e"
    ),
    "GetArtifactsByContext": bytes.fromhex(
        "0ab7010829100c1a1d6d696e696f3a2f2f6d6c706970656c696e652f76322f6d6574726963732a190a0c646973706c61"
        "795f6e616d6512091a076d6574726963732a0a0a04646f6e65120230012a170a0a6e6463675f61745f32301209110000"
        "00000000d03f2a2c0a1273746f72655f73657373696f6e5f696e666f12161a147b2250726f7669646572223a226d696e"
        "696f227d2a0b0a0575736572731202083c3002420e73797374656d2e4d6574726963734880d0eab6b733"
    ),
}
_TYPE = "application/grpc-web+proto"


def metadata(answer: Any) -> Any:
    return serving([("POST", r"/ml_metadata\.MetadataStoreService/(\w+)", answer)], lambda *_: {}, [])


def test_the_artifacts_of_a_run_are_read_as_the_published_messages() -> None:
    def answer(call: Call) -> Content:
        assert call.body == framed(0, _REQUESTS[call.match[1]])
        return Content(framed(0, _RESPONSES[call.match[1]]) + framed(0x80, b"grpc-status:0\r\n"), _TYPE)

    # The UI's server has the address at its root, even if its other addresses are under a path.
    with metadata(answer) as url:
        (artifact,) = run_artifacts(Client(f"{url}/pipeline"), "run")
    assert artifact.name == "metrics"
    assert artifact.uri == "minio://mlpipeline/v2/metrics"
    assert artifact.metrics == {"ndcg_at_20": 0.25, "users": 60}
    assert artifact.session == '{"Provider":"minio"}'


def test_a_run_without_a_context_has_no_artifacts() -> None:
    with metadata(lambda _: Content(framed(0, b"") + framed(0x80, b"grpc-status: 0\r\n"), _TYPE)) as url:
        assert run_artifacts(Client(url), "run") == []


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (Content(framed(0x80, b"grpc-status: 13\r\ngrpc-message: no database\r\n"), _TYPE), "no database"),
        (Content(b"<html>Sign in</html>", "text/html"), "does not serve ML Metadata"),
        (Content(framed(0, b"\xff\xff"), _TYPE), "ML Metadata does not answer with a Get"),
    ],
    ids=["an error", "a login page", "not a message"],
)
def test_another_answer_is_one_line(content: Content, reported: str) -> None:
    with metadata(lambda _: content) as url, pytest.raises(WalsError, match=reported):
        run_artifacts(Client(url), "run")
