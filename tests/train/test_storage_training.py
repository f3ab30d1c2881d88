"""Tests trainings from a URL: the same weights and records as from the folder, and no trace of it."""

from pathlib import Path

import pytest
from aiohttp import web

from personae.storage import copies
from tests.storage_server import MARKS, SECRET, write_build
from tests.storage_server import _server as _server  # noqa: PLC0414  # a fixture of a fixture
from tests.storage_server import server as server  # noqa: PLC0414  # a fixture
from train.__main__ import main

pytestmark = MARKS
PARAMS = """
data: {batch_size: 16}
backbone: {widths: [8, 16, 16, 16, 16], dense: 32, batch_norm: true, init: he}
loop: {epochs: 2, threads: 1, device: cpu}
evaluate: {latency_seconds: 0.1}
"""


@pytest.mark.parametrize(
    ("storage", "cache_bytes"),
    [
        ("stream", 20_000),  # single images
        ("stream", 10**6),  # whole shards
        ("cache", 10**6),  # decoded once
    ],
)
def test_training_from_a_url_is_that_of_the_folder(
    server, tmp_path, monkeypatch, storage, cache_bytes
):
    """Weights, description and predictions are equal byte by byte; no file names the storage."""
    copies.push(write_build(tmp_path / "data"), server.target)
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    train = ["flat", "--storage", storage]
    assert 0 == main([*train, "--work", "w1", "--results", "here"])
    assert 0 == main(["evaluate", "flat", "--work", "w1", "--results", "here"])
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    there = ["--work", "w2", "--results", "there", "--url", server.target]
    assert 0 == main([*train, *there, "--cache-bytes", str(cache_bytes)])
    assert 0 == main(["evaluate", "flat", *there])

    for name in ("weights.safetensors", "model.json", "predictions.parquet"):
        assert Path("here/flat/0", name).read_bytes() == Path("there/flat/0", name).read_bytes()
    for path in (path for path in Path("there").rglob("*") if path.is_file()):
        assert b"bucket" not in path.read_bytes()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes()


def test_training_goes_on_after_a_fault(server, tmp_path, monkeypatch, capsys):
    """A server that fails in the second epoch ends the run as resumable; the end is the same."""
    copies.push(write_build(tmp_path / "data"), server.target)
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    train = ["flat", "--storage", "stream", "--epochs", "3"]
    assert 0 == main([*train, "--work", "w1", "--results", "here"])
    there = ["--work", "w2", "--results", "there", "--url", server.target, "--cache-bytes", "20000"]
    images = []

    def fail(kind: str, key: str) -> web.Response | None:
        images.append("train-" in key)
        return web.Response(status=503) if sum(images) > 75 else None  # of 28 for each epoch

    server.fault = fail
    capsys.readouterr()
    assert 3 == main([*train, *there])
    assert "The server is busy or out of reach" in capsys.readouterr().err
    server.fault = lambda _kind, _key: None
    server.requests.clear()
    assert 0 == main([*train, *there])

    weights = [Path(each, "flat/0/weights.safetensors").read_bytes() for each in ("here", "there")]
    assert weights[0] == weights[1]
    # The mean of the channels, the second epoch and the third, and late requests of the first run:
    # not the first epoch again.
    assert 3 * 28 <= sum("train-" in key for _, key, _ in server.requests) < 4 * 28


def test_credentials_in_params_are_refused(server, tmp_path, monkeypatch, capsys):
    """A URL with a password is a wrong parameter, whose message repeats nothing of it."""
    (tmp_path / "params.yaml").write_text(
        f"data: {{url: 's3://key:{SECRET}@bucket/a'}}", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)

    assert 2 == main(["flat"])
    assert 2 == main(["flat", "--url", f"s3://bucket/a?secret={SECRET}"])
    error = capsys.readouterr().err
    assert "Credentials never belong in a URL" in error
    assert SECRET not in error
