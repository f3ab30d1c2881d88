"""Tests that no crafted data set harms: named errors, no memory taken, nothing written elsewhere."""

import contextlib
import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from curation import verify
from curation.__main__ import main
from personae.errors import PersonaeError
from tests.curation.crafted import CRAFTED
from tests.curation.crafting import column, first, first_row
from train.data.images import open_split

_MOST_MEMORY = 300_000  # KiB that one crafted data set may cost


@pytest.fixture
def sound(curated, tmp_path: Path, monkeypatch) -> Path:
    """Returns the shards alone, as somebody else would have them; the current folder is empty."""
    folder = tmp_path / "elsewhere" / "shards"
    shutil.copytree(curated.data_dir / "shards", folder)
    shutil.rmtree(curated.data_dir)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def files_below(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if "cache" not in path.parts}


@pytest.mark.parametrize("way", CRAFTED)
def test_crafted_data_set_is_reported_and_harmless(
    sound: Path, tmp_path: Path, capsys, way: str
) -> None:
    """`verify` reports it; `get` and the trainer end with a named error, or with the true images."""
    true = np.array(open_split(sound, tmp_path / "cache" / "true", "train", storage="cache").images)
    key = first_row(sound)["post_id"]
    CRAFTED[way](sound)
    before = files_below(tmp_path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    reported = [problem for problem in _problems(sound.parent) if "catalog" not in problem]
    code = main(["get", str(key), "--data", str(sound.parent)])
    streams = capsys.readouterr()
    for storage in ("cache", "stream"):
        with contextlib.suppress(PersonaeError):
            images = open_split(
                sound, tmp_path / "cache" / storage, "train", storage=storage
            ).images
            assert np.array_equal(images[0 : len(images)], true)

    written = files_below(tmp_path) - before[0]
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1]
    assert reported
    assert code in (0, 5)
    assert "Traceback" not in streams.err
    assert not any(sign in streams.err for sign in "\x1b\0")
    assert written <= {tmp_path / "here" / f"{key}.png"}
    assert growth < _MOST_MEMORY


def _problems(data_dir: Path) -> list[str]:
    try:
        return list(verify.problems(data_dir))
    except PersonaeError as error:
        return [str(error)]


def test_sound_data_set_is_not_reported(sound: Path) -> None:
    """The shards alone are sound; only the catalog is absent."""
    assert ["catalog"] == [
        Path(problem.split()[0]).parts[-2] for problem in _problems(sound.parent)
    ]


def test_labels_cannot_write_on_the_terminal(sound: Path, capsys) -> None:
    """Control characters of a label are shown as dots by `verify`."""
    column("label", first("\x1b[2Jamber"))(sound)
    path = sound / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["samples"]["\x1b[2J"] = 5
    path.write_text(json.dumps(manifest))
    main(["verify", "--data", str(sound.parent)])
    streams = capsys.readouterr()

    assert "·[2Jamber" in streams.out
    assert "5 samples in ·[2J" in streams.out
    assert "\x1b" not in streams.out + streams.err
