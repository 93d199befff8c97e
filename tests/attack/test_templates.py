"""Hostile stores of compiled pipelines: a template is read, or refused in one line."""

import pytest
from google.auth.credentials import AnonymousCredentials

from components import answers as whole_answers
from components import limits
from pipeline.platforms.google import templates
from tests.components.notify import receiver as receivers
from tests.components.notify.receiver import Answer, answers, receiver
from trainer.errors import WalsError

pytestmark = pytest.mark.attack

BOMB = "root:\n  a0: &a0 [x]\n" + "".join(
    f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
NO_PIPELINE = "is not a compiled pipeline"


def body(text: str | bytes) -> Answer:
    return answers("200 OK", body=text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (body(BOMB), NO_PIPELINE),
        (body("root: &a\n  b: *a\n"), NO_PIPELINE),
        (body("root: " + "[" * 50_000), NO_PIPELINE),
        (body("root: " + '{"a": ' * 50_000), NO_PIPELINE),
        (body("- root"), NO_PIPELINE),
        (body("root: !!python/object/apply:os.system [id]"), NO_PIPELINE),
        (body(b"root: \xff\xfe"), NO_PIPELINE),
        (body("root: 2026-99-99"), NO_PIPELINE),
        (body("root: 1\n---\nroot: 2\n"), NO_PIPELINE),
        (body(""), NO_PIPELINE),
        (receivers.is_endless, "returned more than 1,048,576 bytes"),
        (receivers.is_slow, "did not answer in 1 s"),
        (receivers.drips, "did not answer in 1 s"),
        (receivers.hangs, "did not answer in 1 s"),
        (receivers.breaks_off, "cannot be reached"),
        (receivers.talks_nonsense, "cannot be reached"),
    ],
)
def test_a_template_that_is_none_is_refused_in_one_line(
    answer: Answer, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(whole_answers, "LARGEST_ANSWER", 1 << 20)
    with receiver([answer]) as store:
        location = f"{store.url}/wals-train/sha256:{'0' * 64}"
        with pytest.raises(WalsError) as refused:
            templates.read_template(location, AnonymousCredentials())
    assert problem in str(refused.value)


def test_a_template_is_read() -> None:
    with receiver([body("root:\n  dag: {tasks: {}}\n")]) as store:
        location = f"{store.url}/wals-train/sha256:{'0' * 64}"
        spec = templates.read_template(location, AnonymousCredentials())
    assert spec == {"root": {"dag": {"tasks": {}}}}
