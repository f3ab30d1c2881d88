"""Tests the commands of docs/howto/storage.md for a DVC remote, against a real S3 server."""

import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.storage_server import BUCKET, MARKS, SECRET, write_build
from tests.storage_server import _server as _server  # noqa: PLC0414  # a fixture of a fixture
from tests.storage_server import server as server  # noqa: PLC0414  # a fixture

pytestmark = [
    *MARKS,
    pytest.mark.skipif(find_spec("dvc_s3") is None, reason="dvc-s3 is absent"),
]


# One process for all: each start of DVC takes a second and more. Between push and pull all goes.
RUN = """
import shutil, sys
from dvc.cli import main
for command in sys.argv[1:]:
    if command == "pull":
        shutil.rmtree("data")
        shutil.rmtree(".dvc/cache")
    assert 0 == main(command.split()), command
"""


def test_dvc_remote_on_s3(server, tmp_path):
    """`dvc push` and `dvc pull` carry shards through S3; no file of the project has the secret."""
    write_build(tmp_path / "data", segment_bytes=1000)
    original = shutil.copytree(tmp_path / "data", tmp_path / "original")
    stage = "stages: {shards: {cmd: 'true', outs: [data/shards, data/download]}}\n"
    (tmp_path / "dvc.yaml").write_text(stage)

    commands = (
        "init --no-scm --quiet",
        "commit --force --quiet",
        f"remote add --default storage s3://{BUCKET}/dvc",
        "push",
        "pull",
    )
    subprocess.run([sys.executable, "-c", RUN, *commands], cwd=tmp_path, check=True)

    paths = [path for path in original.rglob("*") if path.is_file()]
    assert 7 == len(paths)
    for path in paths:
        pulled = tmp_path / "data" / path.relative_to(original)
        assert path.read_bytes() == pulled.read_bytes()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes()
