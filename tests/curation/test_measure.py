"""Tests stage `measure` on the small data folder: measures, reasons, bytes, and tampering."""

import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation import measure
from curation.errors import TamperedData
from personae.errors import MissingColumn, MissingInput


def run(tiny_data, **changes) -> None:
    options = {"workers": 1, "pictures_per_tar": 16} | changes
    measure.run(measure.Params(**options), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def rows(data_dir: Path) -> dict[int, dict]:
    table = pq.read_table(data_dir / "measure" / "measures.parquet")
    return {row["post_id"]: row for row in table.to_pylist()}


def test_every_image_gets_a_row_and_every_flaw_its_reason(tiny_data) -> None:
    """Each stored post has one row; only undecodable images lack a normalised image."""
    run(tiny_data)
    measured = rows(tiny_data.data_dir)
    errors = {"truncated", "undecodable", "animated_file"}

    assert list(tiny_data.truth) == list(measured)
    for post_id, row in measured.items():
        truth = tiny_data.truth[post_id]
        assert (truth if truth in errors else None) == row["error"]
        assert (truth in errors) == (row["image_tar"] is None) == bool(row["detail"])


def test_the_table_points_into_the_tars(tiny_data) -> None:
    """Offset, size and sha256 address a square image, which tarfile lists under the post's name."""
    run(tiny_data, side=32, format="webp")
    folder = tiny_data.data_dir / "measure"
    count = 0
    for row in rows(tiny_data.data_dir).values():
        if row["image_tar"] is None:
            continue
        count += 1
        data = (folder / row["image_tar"]).read_bytes()
        encoded = data[row["offset"] : row["offset"] + row["image_bytes"]]
        with tarfile.open(folder / row["image_tar"]) as tar:
            member = tar.extractfile(f"{row['post_id']}.webp")
            assert member is not None
            assert encoded == member.read()
        assert hashlib.sha256(encoded).hexdigest() == row["image_sha256"]
        assert (32, 32) == Image.open(io.BytesIO(encoded)).size

    assert 58 == count


def test_white_grounds_are_measured_white(tiny_data) -> None:
    """The border is white for every drawing on paper and for none on a coloured background."""
    run(tiny_data)
    kept = pq.read_table(tiny_data.data_dir / "decide" / "kept.parquet").to_pylist()
    white = {row["post_id"]: row["white_background_tag"] for row in kept}
    for post_id, row in rows(tiny_data.data_dir).items():
        if tiny_data.truth[post_id] == "good":
            assert white[post_id] == (row["border_white"] >= 0.9)


def test_same_bytes_for_any_number_of_workers(tiny_data) -> None:
    """One worker and two workers write the same bytes, and leave no unfinished work."""
    run(tiny_data, workers=1)
    calm = digests(tiny_data.data_dir / "measure")
    run(tiny_data, workers=2)

    assert calm == digests(tiny_data.data_dir / "measure")
    assert 5 == len(calm)
    assert [] == list((tiny_data.work_dir / "measure").iterdir())


def test_partitions_of_any_size_give_the_same_bytes(tiny_data, monkeypatch) -> None:
    """Tars that are joined of many partitions, or are one, have the same bytes and rows."""
    folder = tiny_data.data_dir / "measure"
    contents = []
    for most in (200, 7, 1):
        monkeypatch.setattr(measure, "_MOST_IMAGES", most)
        shutil.rmtree(folder, ignore_errors=True)
        run(tiny_data)
        contents.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})

    assert len(contents[0]) > 2
    assert contents[0] == contents[1] == contents[2]


def test_fewer_partitions_leave_no_old_tar(tiny_data) -> None:
    """A run with larger partitions removes the surplus tars of an earlier run."""
    run(tiny_data, pictures_per_tar=5)
    run(tiny_data, pictures_per_tar=50)

    assert ["images-00000.tar", "images-00001.tar", "measures.parquet"] == list(
        digests(tiny_data.data_dir / "measure")
    )


def test_records_parameters_and_versions(tiny_data) -> None:
    """The metadata of the table hold parameters and versions, but not the number of workers."""
    run(tiny_data, side=40)
    metadata = pq.read_schema(tiny_data.data_dir / "measure" / "measures.parquet").metadata

    assert 40 == json.loads(metadata[b"personae.params"])["side"]
    assert "workers" not in json.loads(metadata[b"personae.params"])
    assert {"pillow", "numpy", "libwebp", "libjpeg", "zlib"} <= set(
        json.loads(metadata[b"personae.versions"])
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_refuses_a_tampered_segment(tiny_data, workers: int) -> None:
    """One flipped bit stops the stage without a table; the error gives post, segment and offset."""
    row = pq.read_table(tiny_data.data_dir / "download" / "images.parquet").to_pylist()[3]
    path = tiny_data.data_dir / "download" / "segments" / "00000.tar"
    data = bytearray(path.read_bytes())
    data[row["offset"] + 100] ^= 4
    path.write_bytes(data)

    with pytest.raises(TamperedData, match=rf"{row['post_id']} at byte {row['offset']} of 00000"):
        run(tiny_data, workers=workers)
    assert not (tiny_data.data_dir / "measure" / "measures.parquet").exists()


def test_refuses_a_cut_segment(tiny_data) -> None:
    """A segment that ends early is reported as cut, not as a damaged image."""
    path = tiny_data.data_dir / "download" / "segments" / "00000.tar"
    os.truncate(path, path.stat().st_size - 40_000)

    with pytest.raises(TamperedData, match="changed or cut"):
        run(tiny_data)


def test_names_what_is_missing(tiny_data) -> None:
    """An absent segment, table or column is an error with the stage that writes it."""
    (tiny_data.data_dir / "download" / "segments" / "00000.tar").unlink()
    with pytest.raises(MissingInput, match=r"00000\.tar.*'download'"):
        run(tiny_data)
    path = tiny_data.data_dir / "download" / "images.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["sha256"]), path)
    with pytest.raises(MissingColumn, match=r"images\.parquet lacks column sha256"):
        run(tiny_data)
    path.unlink()
    with pytest.raises(MissingInput, match=r"images\.parquet is absent"):
        run(tiny_data)


def test_refuses_an_image_of_another_size() -> None:
    """An image of another size than listed is refused; a difference of 1 pixel is accepted."""
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, "PNG")
    right = measure.SegmentImage(7, "00000.tar", 512, 1, "", 40, 61)
    params = measure.Params()

    assert measure.measure_one(buffer.getvalue(), right, params)[0].get("error") is None
    for width, height, difference in ((60, 42, 2), (120, 80, 60), (1, 1, 59)):
        wrong = right._replace(width=width, height=height)
        row, encoded = measure.measure_one(buffer.getvalue(), wrong, params)
        assert ("wrong_size", b"") == (row["error"], encoded)
        assert f"60 × 40, listed as {width} × {height}" == row["detail"]
        assert (difference, 1) == (row["measured"], row["threshold"])


def test_finished_partitions_are_not_measured_again(tiny_data) -> None:
    """A rerun decodes only unfinished partitions; with other parameters it decodes all again."""
    path = tiny_data.data_dir / "download" / "segments" / "00000.tar"
    data = bytearray(path.read_bytes())
    offsets = pq.read_table(path.parent.parent / "images.parquet")["offset"].to_pylist()
    os.truncate(path, offsets[40])
    with pytest.raises(TamperedData):
        run(tiny_data)
    data[offsets[0]] ^= 1
    path.write_bytes(data)
    run(tiny_data, workers=2)

    assert list(tiny_data.truth) == list(rows(tiny_data.data_dir))
    with pytest.raises(TamperedData, match=f"post {next(iter(tiny_data.truth))} "):
        run(tiny_data, side=40)
