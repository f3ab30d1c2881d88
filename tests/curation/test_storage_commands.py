"""Tests `push`, `pull` and `--url` on the command line: exit codes, messages, and no secret anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from curation.__main__ import main
from personae.storage.address import Address
from personae.storage.store import RemoteStore
from tests.curation.browse_fixture import edit_catalog
from tests.curation.stored_fixture import stored
from tests.storage_server import BUCKET, KEY, MARKS, SECRET, write_build
from tests.storage_server import _server as _server  # noqa: PLC0414  # a fixture of a fixture
from tests.storage_server import server as server  # noqa: PLC0414  # a fixture

pytestmark = MARKS


def answer(status: int, code: str):
    """Returns a fault: every request is answered with an error of S3."""
    body = f"<Error><Code>{code}</Code><Message>{code} of the test</Message></Error>"
    return lambda _kind, _key: web.Response(status=status, text=body, content_type="text/xml")


def test_whole_build_through_the_storage(server, curated, tmp_path, capsys, monkeypatch):
    """After a push, another machine queries, reads images, and pulls what `verify` accepts."""
    data = str(curated.data_dir)
    folders = [path.name for path in curated.data_dir.iterdir() if path.is_dir()]
    everything = ["--only", *sorted(folders)]
    assert 0 == main(["push", server.target, "--data", data, *everything])
    assert "root hash" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    sql = "SELECT count(*) AS n FROM samples"
    assert 0 == main(["query", sql, "--csv", "--data", data])
    expected = capsys.readouterr().out

    assert 0 == main(["query", sql, "--csv", "--url", server.target])
    assert expected == capsys.readouterr().out
    assert 0 == main(["get", "1000", "-o", "there.png", "--url", server.target])
    assert 0 == main(["get", "1000", "-o", "here.png", "--data", data])
    assert Path("here.png").read_bytes() == Path("there.png").read_bytes()
    assert 0 == main(["pull", server.target, "--data", "copy"])
    assert 0 == main(["verify", "--data", "copy"])
    assert 5 == main(["get", "5", "--url", server.target])


def test_get_by_path_needs_what_push_copies(server, curated, tmp_path, capsys, monkeypatch):
    """The path of an original is looked up in the catalog, which every push copies."""
    edit_catalog(
        curated.data_dir,
        "UPDATE posts SET original_url = 'folder:miku/03.jpg' WHERE post_id = 1000",
    )
    monkeypatch.chdir(tmp_path)

    assert 0 == main(["push", server.target, "--data", str(curated.data_dir)])
    assert 0 == main(["get", "miku/03.jpg", "-o", "there.png", "--url", server.target])
    assert stored(curated.data_dir / "shards")[1000][2] == Path("there.png").read_bytes()
    assert 5 == main(["get", "miku/04.jpg", "--url", server.target])
    assert (
        "No listed post has the key or the original file 'miku/04.jpg'" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "fault",
    [
        (503, "ServiceUnavailable", 3, "The server is busy or out of reach"),
        (500, "InternalError", 3, "The server is busy or out of reach"),
        (403, "AccessDenied", 2, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"),
        (404, "NoSuchBucket", 5, "is absent, or its bucket is"),
    ],
)
def test_faults_of_the_server_are_named(server, tmp_path, capsys, fault):
    """A fault of the server is one line with an exit code, in both directions."""
    data = write_build(tmp_path / "data")
    status, code, exit_code, message = fault
    server.fault = answer(status, code)

    assert exit_code == main(["push", server.target, "--data", str(data)])
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert exit_code == main(["pull", server.target, "--data", str(tmp_path / "copy")])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", None, 3, "out of reach"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", None, 2, "The storage refuses to"),
        ("AWS_ACCESS_KEY_ID", "", None, 2, "has only one of"),
        ("AWS_ENDPOINT_URL", f"http://{KEY}:{SECRET}@127.0.0.1:9", None, 2, "holds an @"),
        ("AWS_REGION", "", "s3://no-such-bucket/a", 5, "bucket is"),
        ("AWS_REGION", "", f"s3://{KEY}:{SECRET}@{BUCKET}/a", 2, "Credentials never"),
        ("AWS_REGION", "", f"s3://{BUCKET}/a?secret={SECRET}", 2, "Credentials never"),
    ],
)
def test_wrong_settings_are_named(server, tmp_path, capsys, monkeypatch, setting):
    """A wrong address, key or bucket is one line that repeats no secret."""
    data = write_build(tmp_path / "data")
    variable, value, url, exit_code, message = setting
    monkeypatch.setenv(variable, value)

    assert exit_code == main(["push", url or server.target, "--data", str(data)])
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert SECRET not in error


def test_no_credentials_are_said_to_be_absent(server, tmp_path, capsys, monkeypatch):
    """Without credentials, requests are anonymous; a file of credentials is not read."""
    data = write_build(tmp_path / "data")
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    assert 2 == main(["push", server.target, "--data", str(data)])
    assert "The environment holds no credentials" in capsys.readouterr().err


def test_secret_is_nowhere(server, tmp_path):
    """After runs that succeed and fail, with every log line on, no file and no output has a secret."""
    data = write_build(tmp_path / "data")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    outputs = []
    for command in (
        ["push", server.target, "--data", str(data)],
        ["pull", server.target, "--data", "copy"],
        ["get", "1", "-o", "1.png", "--url", server.target],
        ["pull", "s3://no-such-bucket/a", "--data", "copy"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "curation", *command, "--verbose"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
        outputs.append(done.stdout + done.stderr)
        assert b"Traceback" not in done.stderr

    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    store = RemoteStore(Address.parse(server.target))
    stored = [server.path(name).read_bytes() for name in store.sizes()]
    assert len(written) > 10
    for content in (*outputs, *written, *stored):
        assert SECRET.encode() not in content
        assert KEY.encode() not in content
