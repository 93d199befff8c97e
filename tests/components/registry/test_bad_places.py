"""Registries that cannot be used, and documents that others have changed: one line each."""

import json
import os
import tempfile
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.registry import open_registry
from tests.components.registry.conftest import make_parts, make_version
from tests.pipeline.serving import RefusedError, serving
from trainer.errors import InputError, WalsError

NAME = make_version(0).name


@pytest.fixture
def registry(tmp_path):
    """A registry on this machine with a champion."""
    opened = open_registry(str(tmp_path / "registry"))
    opened.add(make_version(0), make_parts(tmp_path))
    opened.promote(NAME, None)
    return opened


def document(registry, path):
    return Path(registry.address) / path


MANIFEST = f"versions/{NAME}/_manifest.json"


def change(registry, path, change):
    file = document(registry, path)
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | change), "utf-8")


@pytest.mark.parametrize(
    "address", ["", " ", "gs://", "s3:///path", "ftp://host/path", "http://host/path", "gs:// key:secret@b"]
)
def test_an_address_that_is_none(address):
    with pytest.raises(InputError, match=r"^registry .*; "):
        open_registry(address)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"schema": "wals.version"}, "is \\('wals.version', 1\\), not \\('wals.champion', 1\\)"),
        ({"schema_version": 2}, "is \\('wals.champion', 2\\)"),
        ({"version": "../../etc"}, "has an invalid version: is not the name of a version"),
        ({"version": 5}, "has an invalid version"),
        ({"promoted": "yesterday"}, "has an invalid promoted"),
        ({"promoted": "2026-11-26T20:15:00"}, "has an invalid promoted: has no time zone"),
        ({"history": []}, "history does not begin with the champion"),
        ({"previous": ""}, "has an invalid previous"),
    ],
)
def test_a_pointer_that_others_have_changed(registry, fields, line):
    change(registry, "champion.json", fields)
    for use in (registry.champion, registry.rollback, lambda: registry.retain(1)):
        with pytest.raises(InputError, match=line):
            use()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000])
def test_a_pointer_that_is_no_pointer(registry, content):
    document(registry, "champion.json").write_bytes(content)
    with pytest.raises(InputError, match=r"wals\.champion"):
        registry.champion()


def test_a_pointer_to_a_version_that_is_gone(registry):
    document(registry, MANIFEST).unlink()
    champion = registry.champion()
    with (
        pytest.raises(InputError, match=f"version '{NAME}': is not in"),
        registry.local(champion.version, "model"),
    ):
        pass


FILE = {"path": "factors.npy", "bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"name": make_version(1).name}, f"is that of {make_version(1).name}"),
        ({"name": "../x"}, "has an invalid name"),
        ({"schema_version": True}, "is \\('wals.version', True\\)"),
        ({"refit_iters": -1}, "has an invalid refit_iters"),
        ({"model_checksum": "x"}, "has an invalid model_checksum"),
        ({"metrics": {"ndcg_at_20": "high"}}, "has an invalid metrics.ndcg_at_20"),
        ({"parts": {"../model": []}}, "has an invalid parts"),
        *(
            ({"parts": {"model": [FILE | {"path": path}]}}, "has an invalid parts.model.0.path")
            for path in (
                "../x",
                "/etc/x",
                "a/../../x",
                "a//b",
                "a/",
                "..",
                ".",
                "a\\b",
                "a\0b",
                "a\nb",
                "é",
                "x" * 2000,
            )
        ),
        ({"parts": {"model": [FILE | {"bytes": -1}]}}, "has an invalid parts.model.0.bytes"),
    ],
)
def test_a_manifest_that_others_have_changed(registry, fields, line, caplog):
    change(registry, MANIFEST, fields)
    with pytest.raises(InputError, match=line), registry.local(NAME, "model"):
        pass
    assert registry.versions() == []
    assert "the version is ignored" in caplog.text
    assert registry.retain(1) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.attack
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_document_is_refused_in_one_line_or_read(registry, data):
    path = data.draw(st.sampled_from([MANIFEST, "champion.json"]))
    file = document(registry, path)
    original = file.read_text("utf-8")
    fields = json.loads(original)
    name = data.draw(st.sampled_from(sorted(fields)))
    file.write_text(json.dumps(fields | {name: data.draw(VALUES)}), "utf-8")
    try:
        champion = registry.champion()
        with registry.local(champion.version, "model") as folder:
            assert folder.is_relative_to(registry.address)
        registry.versions()
    except InputError:
        pass  # its text is one line
    finally:
        file.write_text(original, "utf-8")


def refusal_of_another_user(action):
    """Return the error that an action raises in a process of a user who may read only."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            action()
        except InputError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        error = answer.read()
    os.waitpid(child, 0)
    return error


def test_a_place_that_is_read_only(tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        registry = open_registry(f"{folder}/registry")
        registry.add(make_version(0), make_parts(tmp_path))
        champion = registry.promote(NAME, None)
        parts = make_parts(Path(folder), 1)
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o555)
        for use in (
            lambda: registry.add(make_version(1), parts),
            lambda: registry.claimed(NAME).__enter__(),
            lambda: registry.promote(NAME, champion.model_copy(update={"version": make_version(1).name})),
        ):
            assert "cannot be used (Permission denied); give a folder" in refusal_of_another_user(use)
        assert refusal_of_another_user(registry.serving) == ""
        for path in (Path(folder), *Path(folder).rglob("*")):
            path.chmod(0o755)


def test_a_file_is_no_registry(tmp_path):
    (tmp_path / "file").touch()
    for use in (lambda r: r.champion(), lambda r: r.versions(), lambda r: r.add(make_version(1), {})):
        with pytest.raises(InputError, match=r"cannot be used \(Not a directory\)"):
            use(open_registry(str(tmp_path / "file")))


def test_a_registry_where_vertex_mounts_buckets_is_in_the_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "components.registry.registry.is_mounted_bucket", lambda folder: "/gcs/" in str(folder)
    )
    mounted = open_registry("/gcs/bucket/models")
    mounted.add(make_version(0), make_parts(tmp_path))
    mounted.promote(NAME, None)
    assert open_registry("gs://bucket/models").serving().version == NAME


def test_a_registry_in_the_spelling_of_kubeflow(s3_bucket, tmp_path):
    kubeflow = open_registry("minio://bucket/models")
    kubeflow.add(make_version(0), make_parts(tmp_path))
    kubeflow.promote(NAME, None)
    assert open_registry("s3://bucket/models").serving().version == NAME


def test_another_mounted_bucket_is_refused(mounted_bucket):
    with pytest.raises(InputError, match=r"is in a mounted bucket, .*; give the bucket itself, as gs://"):
        open_registry(str(mounted_bucket.folder / "registry"))


@pytest.mark.parametrize(("fixture", "scheme"), [("bucket", "gs"), ("s3_bucket", "s3")])
def test_a_bucket_that_does_not_exist(request, tmp_path, fixture, scheme):
    request.getfixturevalue(fixture)
    registry = open_registry(f"{scheme}://elsewhere/models")
    for use in (
        registry.champion,
        registry.versions,
        lambda: registry.add(make_version(0), make_parts(tmp_path)),
        lambda: registry.promote(NAME, None),
    ):
        with pytest.raises(WalsError, match=f"registry .*{scheme}://elsewhere.*") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_cloud_storage_that_denies_access(monkeypatch, tmp_path):
    def deny(_):
        raise RefusedError(403, "wals-steps lacks storage.objects.get")

    def body(status, message):
        return {"error": {"code": status, "message": message}}

    with serving([(method, ".*", deny) for method in ("GET", "POST")], body, []) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        registry = open_registry("gs://bucket/models")
        for use in (registry.champion, registry.versions, lambda: registry.add(make_version(0), {})):
            with pytest.raises(InputError, match=r"denies you access; ask for roles/storage.objectUser"):
                use()


def test_s3_that_denies_access(monkeypatch):
    error = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"

    def deny(_):
        raise RefusedError(403, error)

    with serving([(method, ".*", deny) for method in ("GET", "PUT")], lambda _, text: text, []) as address:
        environment = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        registry = open_registry("s3://bucket/models")
        for use in (registry.champion, registry.versions):
            with pytest.raises(InputError, match=r"denies you access \(AccessDenied\); allow s3:ListBucket"):
                use()


def test_s3_without_credentials(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(WalsError, match="Unable to locate credentials"):
        open_registry("s3://bucket/models").champion()


@pytest.mark.parametrize("address", ["store:9000", "ftp://store"])
def test_an_address_of_a_store_that_cannot_be_one(monkeypatch, address):
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    with pytest.raises(InputError, match=f"AWS_ENDPOINT_URL '{address}': is not the address of a store"):
        open_registry("s3://bucket/models")


def test_a_store_that_ignores_conditions_is_refused(s3_bucket, tmp_path, monkeypatch):
    registry = open_registry("s3://bucket/models")
    registry.add(make_version(0), make_parts(tmp_path))
    client = type(boto3.client("s3"))
    real = client._make_api_call

    def without_conditions(self, operation, arguments):
        kept = {name: value for name, value in arguments.items() if name not in ("IfMatch", "IfNoneMatch")}
        return real(self, operation, kept)

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", without_conditions)
    with pytest.raises(InputError, match="is in a store that ignores If-Match"):
        registry.promote(NAME, None)
    monkeypatch.undo()
