"""The artifacts of a run: their metadata from ML Metadata, their contents from the object store.

Kubeflow Pipelines 2.17 keeps the artifacts' metadata, metrics among them, only in ML Metadata, which the UI's
server passes on as gRPC-web: a protobuf message after five bytes, its kind and its length. The package
ml-metadata has the messages, but its releases need either protobuf 4 or a newer C library than Debian 12's,
so the few fields that are read here are declared here.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pipeline.platforms.kubeflow.client import Client
from trainer.errors import WalsError

_PACKAGE = "ml_metadata"
_SERVICE = f"{_PACKAGE}.MetadataStoreService"
_TRAILER = 0x80
_WHERE = "only the address of the UI serves it, up to version 2.17"
_CONTENT_TYPE = "application/grpc-web+proto"
# The UI's server calls the stores by other names than the artifacts' addresses do.
_STORES = {"minio": "minio", "s3": "s3", "gs": "gcs"}

# Number, type and name of the fields, from ml_metadata/proto/metadata_store.proto and …_service.proto. Maps
# are lists of keys and values on the wire.
_FIELDS = {
    "Value": ((1, "int64", "int_value"), (2, "double", "double_value"), (3, "string", "string_value")),
    "Property": ((1, "string", "key"), (2, "Value", "value")),
    "Artifact": ((1, "int64", "id"), (3, "string", "uri"), (5, "*Property", "custom_properties")),
    "Context": ((1, "int64", "id"),),
    "GetContextByTypeAndNameRequest": ((1, "string", "type_name"), (2, "string", "context_name")),
    "GetContextByTypeAndNameResponse": ((1, "Context", "context"),),
    "GetArtifactsByContextRequest": ((1, "int64", "context_id"),),
    "GetArtifactsByContextResponse": ((1, "*Artifact", "artifacts"),),
}


@dataclass(frozen=True)
class Artifact:
    """An artifact of a run.

    Attributes:
        name: name of the step's output.
        uri: address in an object store.
        metrics: the numbers among its metadata.
        texts: the texts among them.
        session: how the store is reached, as JSON that the UI's server takes; may be empty.
    """

    name: str
    uri: str
    metrics: Mapping[str, float]
    texts: Mapping[str, str]
    session: str


def run_artifacts(client: Client, run_id: str) -> list[Artifact]:
    """Return the artifacts that a run has written or taken from the cache so far, oldest first.

    Raises:
        WalsError: the address does not serve ML Metadata, or ML Metadata fails.
        kfp_server_api.ApiException: access is denied.
    """
    named = {"type_name": "system.PipelineRun", "context_name": run_id}
    context = _call(client, "GetContextByTypeAndName", named).context
    if not context.id:
        return []
    found = _call(client, "GetArtifactsByContext", {"context_id": context.id}).artifacts
    return [_artifact(artifact) for artifact in sorted(found, key=lambda artifact: artifact.id)]


def read_artifact(client: Client, artifact: Artifact, namespace: str) -> bytes:
    """Return the contents of an artifact that is a single file.

    Raises:
        WalsError: the artifact is in a store that the UI's server cannot read.
        kfp_server_api.ApiException: the server refuses, or has no such artifact.
    """
    try:
        parts = urlsplit(artifact.uri)
    except ValueError as error:
        raise WalsError(
            f"{client.host}: the uri of the artifact {artifact.name} is not an address"
        ) from error
    if parts.scheme not in _STORES:
        raise WalsError(f"{artifact.uri}: is in a store that {client.host} cannot read")
    query = {"source": _STORES[parts.scheme], "bucket": parts.netloc, "key": parts.path.lstrip("/")}
    optional = {"namespace": namespace, "providerInfo": artifact.session}
    return client.read_bytes(
        "/artifacts/get", {**query, **{name: value for name, value in optional.items() if value}}
    )


def message(name: str) -> Any:
    """Return the class of one of the messages above."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def framed(flag: int, payload: bytes) -> bytes:
    """Return a frame of gRPC-web: 0 is the flag of a message, and 0x80 that of the trailers at the end."""
    return struct.pack(">BI", flag, len(payload)) + payload


def _call(client: Client, method: str, fields: Mapping[str, Any]) -> Any:
    """Return the answer to a call of the metadata service."""
    request = message(f"{method}Request")(**fields).SerializeToString()
    # The UI's server has this address at its root, whatever path the rest is under.
    host = urlsplit(client.host)
    address = f"{host.scheme}://{host.netloc}/{_SERVICE}/{method}"
    try:
        answer = client.post(address, framed(0, request), _CONTENT_TYPE)
    except kfp_server_api.ApiException as error:
        if error.status in (401, 403):
            raise
        raise WalsError(f"{client.host}: answers {error.status} for ML Metadata; {_WHERE}") from error
    if "grpc-web" not in answer.headers.get("Content-Type", ""):
        raise WalsError(f"{client.host}: does not serve ML Metadata; {_WHERE}")
    response = message(f"{method}Response")()
    # An error may have no frames, and its status in the headers.
    status = {name.lower(): value for name, value in answer.headers.items()}
    for flag, payload in _frames(answer.data, client.host):
        if flag & _TRAILER:
            lines = [line.partition(":") for line in payload.decode("utf-8", "replace").splitlines()]
            status |= {name.strip().lower(): value.strip() for name, _, value in lines}
            continue
        try:
            response.ParseFromString(payload)
        except DecodeError as error:
            raise WalsError(f"{client.host}: ML Metadata does not answer with a {method}Response") from error
    if "grpc-status" not in status:
        raise WalsError(f"{client.host}: the answer of ML Metadata has no end")
    if status["grpc-status"] != "0":
        problem = status.get("grpc-message") or status["grpc-status"]
        raise WalsError(f"{client.host}: ML Metadata answers {problem}")
    return response


def _frames(data: bytes, host: str) -> list[tuple[int, bytes]]:
    frames = []
    while data:
        flag, length = struct.unpack(">BI", data[:5]) if len(data) >= 5 else (0, len(data))
        payload, data = data[5 : 5 + length], data[5 + length :]
        if len(payload) != length:
            raise WalsError(f"{host}: the answer of ML Metadata is cut off")
        frames.append((flag, payload))
    return frames


def _artifact(found: Any) -> Artifact:
    values = {item.key: item.value for item in found.custom_properties}
    texts = {name: value.string_value for name, value in values.items() if value.HasField("string_value")}
    numbers = {
        name: float(getattr(value, kind))
        for name, value in values.items()
        for kind in ("double_value", "int_value")
        if value.HasField(kind)
    }
    session = texts.get("store_session_info", "")
    return Artifact(texts.get("display_name", ""), found.uri, numbers, texts, session)


def _pool() -> descriptor_pool.DescriptorPool:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ml_metadata.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _FIELDS.items():
        declared = file.message_type.add(name=name)
        for number, kind, field in fields:
            added = declared.field.add(name=field, number=number)
            added.label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            if kind.lstrip("*") in _FIELDS:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind.lstrip('*')}"
            else:
                added.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL = _pool()
