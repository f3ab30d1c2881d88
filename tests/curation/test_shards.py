"""Tests the shards: equal inputs give equal bytes, and webdataset reads every sample."""

import gc
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import sample, shards, verify
from curation.errors import TamperedData
from personae.errors import MissingInput

PARAMS = shards.Params(samples_per_shard=7)
LABELS = ["alpha", "beta_(winter)", "gamma"]


def save(path: Path, rows: list[dict[str, Any]], columns: dict[str, pa.DataType], **metadata: str):
    """Writes rows with a fixed schema and metadata, as stages do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=pa.schema(columns))
    pq.write_table(table.replace_schema_metadata(metadata), path)


def build(data_dir: Path, images: dict[int, bytes]) -> None:
    """Writes the tables of `measure`, `persona` and `split`, with the given bytes as images."""
    measured, sides = [], []
    (data_dir / "measure").mkdir(parents=True)
    with tarfile.open(data_dir / "measure" / "images-00000.tar", "w") as tar:
        for number, (post_id, data) in enumerate(sorted(images.items())):
            info = tarfile.TarInfo(f"{post_id}.png")
            info.size = len(data)
            start = tar.offset + 512
            tar.addfile(info, io.BytesIO(data))
            measured.append(
                {
                    "post_id": post_id,
                    "image_tar": "images-00000.tar",
                    "offset": start,
                    "image_bytes": len(data),
                    "image_sha256": hashlib.sha256(data).hexdigest(),
                }
            )
            sides.append(
                {
                    "post_id": post_id,
                    "label": LABELS[number % 3],
                    "leaf": number % 3,
                    "group_id": post_id,
                    "split": ("train", "train", "test", "val", "train")[number % 5],
                    "white_background": number % 4 == 0,
                }
            )
    whole, text = pa.int64(), pa.string()
    save(
        data_dir / "measure" / "measures.parquet",
        measured,
        {
            "post_id": whole,
            "image_tar": text,
            "offset": whole,
            "image_bytes": whole,
            "image_sha256": text,
        },
        **{
            "personae.params": json.dumps({"side": 48, "format": "png"}),
            "personae.versions": json.dumps({"pillow": "1.2.3"}),
        },
    )
    save(
        data_dir / "split" / "split.parquet",
        sides,
        {
            "post_id": whole,
            "label": text,
            "leaf": pa.int32(),
            "group_id": whole,
            "split": text,
            "white_background": pa.bool_(),
        },
    )
    save(
        data_dir / "persona" / "classes.parquet",
        [
            {"label": label, "leaf": leaf, "base": label.partition("_")[0], "copyright": None}
            for leaf, label in enumerate(LABELS)
        ],
        {"label": text, "leaf": pa.int32(), "base": text, "copyright": text},
    )


def run(data_dir: Path, params: shards.Params = PARAMS) -> Path:
    """Runs the stage and returns its folder."""
    shards.run(params, data_dir=data_dir, work_dir=data_dir / "work")
    return data_dir / "shards"


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def samples_of(folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of samples.parquet."""
    return pq.read_table(folder / "samples.parquet").to_pylist()


@pytest.fixture
def images() -> dict[int, bytes]:
    """Returns the bytes of forty images of odd sizes."""
    chance = random.Random(3)
    return {100 + 3 * n: chance.randbytes(chance.choice([1, 511, 512, 513])) for n in range(40)}


@pytest.fixture
def data_dir(tmp_path: Path, images: dict[int, bytes]) -> Path:
    """Returns a data folder with all inputs of the stage."""
    build(tmp_path / "data", images)
    return tmp_path / "data"


def test_webdataset_reads_every_sample(data_dir: Path, images: dict[int, bytes]) -> None:
    """The webdataset library reads key, image, leaf and facts of every sample."""
    folder = run(data_dir)
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves its tars open
        dataset = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
        samples = {int(entry["__key__"]): entry for entry in dataset}
        del dataset
        gc.collect()
    rows = {row["post_id"]: row for row in samples_of(folder)}

    assert images == {post_id: entry["png"] for post_id, entry in samples.items()}
    for post_id, entry in samples.items():
        row = rows[post_id]
        assert row["leaf"] == int(entry["cls"])
        assert {
            "post_id": post_id,
            "label": row["label"],
            "leaf": row["leaf"],
            "split": row["split"],
            "white_background": row["white_background"],
            "group_id": post_id,
        } == json.loads(entry["json"])


@settings(max_examples=25)
@given(
    st.dictionaries(st.integers(0, 2**63 - 1), st.binary(max_size=2000), max_size=12),
    st.integers(1, 5),
)
def test_any_bytes_come_back(tmp_path_factory, images, size) -> None:
    """For any image bytes, the recorded offsets and the tar members return the same bytes."""
    data_dir = tmp_path_factory.mktemp("any") / "data"
    build(data_dir, images)
    folder = run(data_dir, shards.Params(samples_per_shard=size))
    members = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                members[member.name] = tar.extractfile(member).read()

    assert {f"{post_id}.png": data for post_id, data in images.items()} == {
        name: data for name, data in members.items() if name.endswith(".png")
    }
    for row in samples_of(folder):
        data = (folder / row["shard"]).read_bytes()
        start = row["image_offset"]
        assert images[row["post_id"]] == data[start : start + row["image_bytes"]]
        assert images[row["post_id"]] == sample.stored_bytes(data_dir, row["post_id"])


def test_members_have_no_trace_of_time_and_place(data_dir: Path) -> None:
    """Members are plain USTAR files in the order image, cls, json, with zeroed metadata."""
    folder = run(data_dir)
    names = []
    for path in sorted(folder.glob("*.tar")):
        raw = path.read_bytes()
        assert 0 == len(raw) % tarfile.RECORDSIZE
        assert bytes(1024) == raw[-1024:]
        with tarfile.open(path) as tar:
            for member in tar:
                names.append(member.name.partition(".")[2])
                assert b"ustar\x0000" == raw[member.offset + 257 : member.offset + 265]
                assert (0, 0, 0, "", "", 0o644, tarfile.REGTYPE) == (
                    member.mtime,
                    member.uid,
                    member.gid,
                    member.uname,
                    member.gname,
                    member.mode,
                    member.type,
                )

    assert ["png", "cls", "json"] * 40 == names


def test_two_builds_are_equal_whatever_the_hash_seed(data_dir: Path) -> None:
    """Another process with another PYTHONHASHSEED writes the same bytes in every file."""
    first = contents(run(data_dir))
    for seed in ("1", "2"):
        code = (
            "import sys; from pathlib import Path; from curation import shards; "
            "shards.run(shards.Params(samples_per_shard=7), data_dir=Path(sys.argv[1]), "
            "work_dir=Path(sys.argv[1]))"
        )
        subprocess.run(
            [sys.executable, "-c", code, str(data_dir)],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )

        assert first == contents(data_dir / "shards")


def test_several_processes_give_the_same_bytes(data_dir: Path) -> None:
    """Shards, tables and manifest of two worker processes are those of one."""
    expected = contents(run(data_dir))
    again = contents(run(data_dir, PARAMS.model_copy(update={"workers": 2})))

    assert expected == again


def test_order_of_the_split_table_does_not_matter(data_dir: Path) -> None:
    """Another row order of split.parquet gives the same bytes."""
    first = contents(run(data_dir))
    path = data_dir / "split" / "split.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(list(range(len(table)))[::-1]), path)

    assert first == contents(run(data_dir))


def test_manifest_tells_the_truth(data_dir: Path) -> None:
    """Counts, sizes and hashes of the manifest match the files and the output of sha256sum."""
    folder = run(data_dir)
    manifest = json.loads((folder / "manifest.json").read_text())
    lines = ""
    for entry in manifest["shards"]:
        data = (folder / entry["shard"]).read_bytes()
        lines += f"{hashlib.sha256(data).hexdigest()}  {entry['shard']}\n"
        assert len(data) == entry["bytes"]
        assert entry["samples"] <= 7

    assert hashlib.sha256(lines.encode()).hexdigest() == manifest["root_sha256"]
    assert {"train": 24, "val": 8, "test": 8} == manifest["samples"]
    assert 3 == manifest["labels"]
    assert {"side": 48, "format": "png"} == manifest["image"]
    assert {"pillow": "1.2.3"} == manifest["versions"]
    assert LABELS == json.loads((folder / "classes.json").read_text())["labels"]


def test_manifest_names_a_white_margin(data_dir: Path) -> None:
    """What `predict` needs to know of stage `measure` stands beside side and format."""
    path = data_dir / "measure" / "measures.parquet"
    params = json.dumps({"side": 48, "format": "png", "background": "white"})
    table = pq.read_table(path)
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"personae.params": params}), path
    )
    manifest = json.loads((run(data_dir) / "manifest.json").read_text())

    assert {"side": 48, "format": "png", "background": "white"} == manifest["image"]


def test_labels_are_mixed_within_a_shard(data_dir: Path) -> None:
    """A shard of seven training samples holds more than one label."""
    folder = run(data_dir)
    first = {row["label"] for row in samples_of(folder) if row["shard"] == "train-000000.tar"}

    assert len(first) > 1


def test_another_seed_mixes_otherwise(data_dir: Path) -> None:
    """Another seed changes the order of the samples, not the set."""
    first = samples_of(run(data_dir))
    other = samples_of(run(data_dir, shards.Params(samples_per_shard=7, seed=1)))

    assert {row["post_id"] for row in first} == {row["post_id"] for row in other}
    assert [row["offset"] for row in first] != [row["offset"] for row in other]


def test_leftovers_of_an_earlier_build_are_removed(data_dir: Path) -> None:
    """Old shards that the new build does not write, and torn parts, are removed."""
    run(data_dir, shards.Params(samples_per_shard=2))
    (data_dir / "shards" / "train-000099.tar.part").write_bytes(b"torn")
    again = contents(run(data_dir))

    assert 4 + 2 + 2 + 3 == len(again)


@pytest.mark.parametrize("kill_at", [1, 5, 8, 9, 10, 11])  # of eleven renames
def test_killed_anywhere_and_run_again_gives_the_same(tmp_path, images, kill_at) -> None:
    """A process killed before any rename leaves no manifest, and a rerun gives the full result."""
    build(tmp_path / "whole", images)
    build(tmp_path / "killed", images)
    code = (
        "import os, sys, pathlib; from curation import shards\n"
        "replace, left = pathlib.Path.replace, [int(sys.argv[2])]\n"
        "def dying(self, target):\n"
        "    left[0] -= 1\n"
        "    if not left[0]: os._exit(9)\n"
        "    return replace(self, target)\n"
        "pathlib.Path.replace = dying\n"
        "shards.run(shards.Params(samples_per_shard=7), data_dir=pathlib.Path(sys.argv[1]), "
        "work_dir=pathlib.Path(sys.argv[1]))"
    )
    killed = tmp_path / "killed"
    died = subprocess.run([sys.executable, "-c", code, str(killed), str(kill_at)], check=False)

    assert 9 == died.returncode
    assert not (killed / "shards" / "manifest.json").exists()
    assert contents(run(tmp_path / "whole")) == contents(run(killed))


def test_changed_image_is_noticed(data_dir: Path) -> None:
    """One flipped bit in a tar of `measure` stops the stage and leaves no manifest."""
    path = data_dir / "measure" / "images-00000.tar"
    data = bytearray(path.read_bytes())
    data[512] ^= 1
    path.write_bytes(data)

    with pytest.raises(TamperedData, match="The image of post 100 at byte 512 of images-00000"):
        run(data_dir)
    assert not (data_dir / "shards" / "manifest.json").exists()


def test_split_without_image_is_named(data_dir: Path) -> None:
    """A post of the split without a measured image is an error with its id."""
    path = data_dir / "measure" / "measures.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)

    with pytest.raises(MissingInput, match="Post 100 is in the split but has no"):
        run(data_dir)


def test_measures_without_provenance_are_refused(data_dir: Path) -> None:
    """If the metadata of the measures are missing, the stage refuses the table."""
    path = data_dir / "measure" / "measures.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)

    with pytest.raises(MissingInput, match=r"no metadata personae\.params, personae\.versions"):
        run(data_dir)


def test_unknown_key_says_where_to_look(data_dir: Path) -> None:
    """For an unknown key, the error gives the query for the journey of that post."""
    run(data_dir)

    with pytest.raises(MissingInput, match="No sample has the key 5"):
        sample.stored_bytes(data_dir, 5)


def test_provenance_stands_in_the_shard_on_request(curated) -> None:
    """With `provenance`, the JSON has original, source, artist, rating and licence."""
    folder = curated.data_dir / "shards"
    before = (folder / "samples.parquet").read_bytes()
    plain = shards.Params(samples_per_shard=10)
    shards.run(plain, data_dir=curated.data_dir, work_dir=curated.work_dir)
    same = (folder / "samples.parquet").read_bytes()
    described = plain.model_copy(update={"provenance": True})
    shards.run(described, data_dir=curated.data_dir, work_dir=curated.work_dir)
    with tarfile.open(folder / "train-000000.tar") as archive:
        record = json.loads(archive.extractfile(archive.getmembers()[2]).read())

    assert before == same
    assert {"original": "", "source": "", "rating": "g"}.items() <= record.items()
    assert record["artist"] == f"artist_{record['post_id'] % 5}"
    assert record["licence"] == f"CC BY {record['post_id'] % 3}.0"
    assert [p for p in verify.problems(curated.data_dir) if "catalog" not in p] == []


def test_provenance_of_an_unlisted_post_is_named(curated) -> None:
    """A post of the split that the listing lacks is an error with its id."""
    path = curated.data_dir / "listing" / "posts.parquet"
    pq.write_table(pq.read_table(path).slice(0, 3), path)
    params = shards.Params(provenance=True)

    with pytest.raises(MissingInput, match=r"Post \d+ is in the split but not in .*posts\.parquet"):
        shards.run(params, data_dir=curated.data_dir, work_dir=curated.work_dir)
