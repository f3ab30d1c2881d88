"""Tests that a grown listing costs only its new images: what was measured before is copied."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import measure
from tests.curation.conftest import IMAGES
from tests.curation.test_exclusions import rows


def files(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def measured_posts(monkeypatch) -> list[int]:
    """Returns the posts that are decoded and measured from here on."""
    posts: list[int] = []
    original = measure.measure_one

    def counted(data, stored, params):
        posts.append(stored.post_id)
        return original(data, stored, params)

    monkeypatch.setattr(measure, "measure_one", counted)
    return posts


PARAMS = {"workers": 1, "pictures_per_tar": 20}


def run(data, **changed) -> None:
    measure.run(measure.Params(**PARAMS | changed), data_dir=data.data_dir, work_dir=data.work_dir)


def listed(data, keep) -> None:
    """Keeps some rows of images.parquet."""
    path = data.data_dir / "download" / "images.parquet"
    kept = [row for row in rows(path) if keep(row)]
    pq.write_table(pa.Table.from_pylist(kept, schema=IMAGES), path)


def unreadable(data) -> set[int]:
    table = rows(data.data_dir / "measure/measures.parquet")
    return {row["post_id"] for row in table if row["error"] is not None}


def test_only_new_images_are_measured(tiny_data, tmp_path, measured_posts) -> None:
    """New posts among the old ones, before and after them, give the bytes of a run from nothing."""
    path = tiny_data.data_dir / "download/images.parquet"
    everything = path.read_bytes()
    posts = {row["post_id"] for row in rows(path)}
    listed(tiny_data, lambda row: row["post_id"] % 5)
    run(tiny_data)
    first = set(measured_posts)
    measured_posts.clear()
    path.write_bytes(everything)
    run(tiny_data)
    grown = files(tiny_data.data_dir / "measure")
    bad = unreadable(tiny_data)

    assert 0 < len(posts - first) < 20
    assert posts - first | bad == set(measured_posts)
    shutil.rmtree(tiny_data.data_dir / "measure")
    run(tiny_data)
    assert grown == files(tiny_data.data_dir / "measure")
    assert posts <= set(measured_posts)


def test_the_same_run_measures_nothing_again(tiny_data, measured_posts) -> None:
    """Other workers and other sizes of the tars need no second measuring; removed posts neither."""
    run(tiny_data)
    bad = unreadable(tiny_data)
    measured_posts.clear()
    run(tiny_data)
    run(tiny_data, pictures_per_tar=7)
    listed(tiny_data, lambda row: row["post_id"] % 3)
    run(tiny_data)

    assert set(measured_posts) <= bad


@pytest.mark.parametrize(
    "change", ["parameter", "program", "versions", "table", "record", "absent"]
)
def test_another_program_or_table_measures_everything(
    tiny_data, measured_posts, monkeypatch, change
) -> None:
    """Rows of other parameters, programs or libraries, or of a changed table, are not used."""
    run(tiny_data)
    count = len(measured_posts)
    measured_posts.clear()
    table = tiny_data.data_dir / "measure/measures.parquet"
    record = tiny_data.data_dir / "measured.json"
    if change == "program":
        monkeypatch.setattr(measure, "_code", lambda: "another")
    elif change == "versions":
        monkeypatch.setattr(measure, "_versions", lambda: {"pillow": "0"})
    elif change == "table":
        old = pq.read_table(table)
        pq.write_table(old.set_column(2, "detail", pa.array(["x"] * len(old))), table)
    elif change == "record":
        record.write_text("[]")
    elif change == "absent":
        record.unlink()
    run(tiny_data, **({"side": 24} if change == "parameter" else {}))

    assert count == len(measured_posts)
    assert {"code", "measures_sha256"} == json.loads(record.read_text()).keys()


def test_replaced_damaged_and_relisted_images_are_measured(tiny_data, measured_posts) -> None:
    """Other stored bytes, another listed size or a damaged tar cost the images concerned."""
    run(tiny_data)
    before = files(tiny_data.data_dir / "measure")
    good = [
        row for row in rows(tiny_data.data_dir / "measure/measures.parquet") if not row["error"]
    ]
    damaged, relisted, replaced = good[0], good[1]["post_id"], good[2]["post_id"]
    bad = unreadable(tiny_data)
    tar = tiny_data.data_dir / "measure" / damaged["image_tar"]
    content = bytearray(tar.read_bytes())
    content[damaged["offset"] + 9] ^= 1
    tar.write_bytes(content)
    path = tiny_data.data_dir / "download/images.parquet"
    stored = rows(path)
    other = next(row for row in stored if row["post_id"] == good[3]["post_id"])
    for row in stored:
        if row["post_id"] == relisted:
            row["width"] = row["height"] = 999
        if row["post_id"] == replaced:
            row |= {name: other[name] for name in other if name != "post_id"}
    measured_posts.clear()
    pq.write_table(pa.Table.from_pylist(stored, schema=IMAGES), path)
    run(tiny_data)
    again = {row["post_id"]: row for row in rows(tiny_data.data_dir / "measure/measures.parquet")}

    assert {damaged["post_id"], relisted, replaced} | bad == set(measured_posts)
    assert "wrong_size" == again[relisted]["error"]
    assert again[replaced]["sha256"] == again[good[3]["post_id"]]["sha256"]
    assert before.keys() == files(tiny_data.data_dir / "measure").keys()
