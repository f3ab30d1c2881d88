"""Tests kept splits: the file, the command that writes it, and a folder that grows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curation import diff, keep, split
from curation.__main__ import main
from personae.errors import BadParams
from personae.selection import SPLITS
from scraper.__main__ import main as scraper
from tests.curation.split_fixture import LOOSE, Folder, apart, write

STAGES = ("measure", "filters", "duplicates", "persona", "split", "shards")
FILES = ("split.parquet", "decisions.parquet", "certificate.json")


def built(data_dir: Path, splits: dict[int, str]) -> Path:
    """Writes split.parquet with the given splits; returns the data folder."""
    rows = [{"post_id": post, "split": name} for post, name in splits.items()]
    columns = {"post_id": pa.int64(), "split": pa.string()}
    write(data_dir / "split" / "split.parquet", rows, columns)
    return data_dir


def read(path: Path) -> dict[int, str]:
    """Returns the posts of a file of splits with their splits."""
    kept = keep.read(path)
    names = [SPLITS[bits >> 1] for bits in kept.splits.tolist()]
    return dict(zip(kept.posts.tolist(), names, strict=True))


IDS = st.integers(-(2**63), 2**63 - 1)
KEPT = st.dictionaries(IDS, st.sampled_from(SPLITS), max_size=20)


@given(KEPT, KEPT)
def test_builds_are_added_to_the_file(tmp_path_factory, first, second) -> None:
    """The file has the posts of all builds by id, those of the present build with its splits."""
    root = tmp_path_factory.mktemp("kept")
    path = root / "splits.csv"
    keep.run(path, data_dir=built(root / "first", first))
    report = keep.run(path, data_dir=built(root / "second", second))
    lines = [f"{post},{name}" for post, name in sorted((first | second).items())]

    assert "".join(f"{line}\n" for line in ["post_id,split", *lines]).encode() == path.read_bytes()
    assert first | second == read(path)
    assert list(read(path)) == sorted(first | second)
    assert (len(first | second), len(second.keys() - first), len(first.keys() - second)) == (
        report.posts,
        report.new,
        report.absent,
    )


@pytest.mark.parametrize(
    "text", ["post_id,split\n", "\ufeffpost_id,split\r\n5,val\r\n", '"post_id","split"\n5,"val"\n']
)
def test_files_of_other_programs_are_read(tmp_path: Path, text) -> None:
    """A byte order mark, quotes and other line ends are accepted; an absent file keeps nothing."""
    path = tmp_path / "splits.csv"
    path.write_text(text, encoding="utf-8", newline="")

    assert ({5: "val"} if "5" in text else {}) == read(path)
    assert {} == read(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "splits.csv cannot be read as splits"),
        (b"\0" * 100, "splits.csv cannot be read as splits"),
        (b"5,train\n6,val\n", "splits.csv, line 1: '5,train' is not the header"),
        (b"split,post_id\ntrain,5\n", "line 1: 'split,post_id' is not the header"),
        (b"post_id,split,fold\n5,train,1\n", "line 1: 'post_id,split,fold' is not the header"),
        (b"post_id,split\n5,train\n6,valid\n", "splits.csv, line 3: 'valid' is no split"),
        (b"post_id,split\n5,train\n6,\n", "line 3: '' is no split"),
        (b"post_id,split\n5,train\nsix,val\n", "splits.csv, line 3 cannot be read as splits"),
        (b"post_id,split\n5.0,train\n", "line 2 cannot be read as splits"),
        (b"post_id,split\n,train\n", "line 2 cannot be read as splits"),
        (b"post_id,split\n9223372036854775808,train\n", "line 2 cannot be read as splits"),
        (b"post_id,split\n5,train\n6\n", "line 3 cannot be read as splits"),
        (b"post_id,split\n5,train\n\n6,val\n", "line 3 cannot be read as splits"),
        (b"post_id,split\n5,\xff\n", "line 2 cannot be read as splits"),
        (b"post_id,split\n7,val\n5,train\n7,val\n", "line 4: post 7 stands there a second time"),
        (b"post_id,split\n" + b"9" * 3_000_000, "splits.csv cannot be read as splits"),
        (
            b"post_id,split\n" + b"".join(b"%d,val\n" % n for n in range(300_000)) + b"x,val\n",
            "splits.csv, line 300002 cannot be read as splits",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_damaged_file_is_named_with_its_line(tmp_path: Path, capsys, content, message) -> None:
    """Whatever is wrong, stage and command end with exit code 2, and the file keeps its bytes."""
    path, data = tmp_path / "splits.csv", built(tmp_path / "data", {1: "train"})
    Folder(tmp_path, posts=3).write()
    path.write_bytes(content)
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"split": {"keep": str(path)}}))

    for command in ("split", "keep"):
        code = main([command, "--data", str(data), "--params", str(params)])
        err = capsys.readouterr().err
        assert (2, True) == (code, message in err), err
        assert "Below the header `post_id,split` a line is a post id and train, val or test" in err
    assert content == path.read_bytes()


def test_files_that_never_end_are_refused(tmp_path: Path) -> None:
    """A huge file, a device and a folder are errors at once."""
    huge = tmp_path / "splits.csv"
    with huge.open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "zero").symlink_to("/dev/zero")

    with pytest.raises(BadParams, match=r"has 1099511627776 bytes, more than the 1073741824"):
        keep.read(huge)
    for path in (tmp_path / "zero", tmp_path):
        with pytest.raises(BadParams, match="no regular file"):
            keep.read(path)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([(5, "train"), (5, "val")], "post 5 stands there a second time"),
        ([(5, "dev")], "'dev' is no split"),
    ],
)
def test_damaged_build_is_not_kept(tmp_path: Path, capsys, splits, message) -> None:
    """Of a split.parquet that stage `split` did not write, nothing is kept."""
    rows = [{"post_id": post, "split": name} for post, name in splits]
    columns = {"post_id": pa.int64(), "split": pa.string()}
    write(tmp_path / "data" / "split" / "split.parquet", rows, columns)
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"split": {"keep": str(tmp_path / "splits.csv")}}))
    code = main(["keep", "--data", str(tmp_path / "data"), "--params", str(params)])
    err = capsys.readouterr().err

    assert (5, True) == (code, f"split.parquet: {message}. Run stage 'split' again." in err), err
    assert not (tmp_path / "splits.csv").exists()


def test_file_without_posts_changes_no_byte(tmp_path: Path) -> None:
    """With an absent file and with a header alone, the stage writes the bytes of older versions."""
    folder, path = Folder(tmp_path, posts=60), tmp_path / "splits.csv"
    folder.links = [(1, 20), (20, 31)]
    outputs = []
    for text in (None, "post_id,split\n", "post_id,split\n20,test\n"):
        if text is not None:
            path.write_text(text)
        folder.run(LOOSE.model_copy(update={"keep": str(path)}))
        outputs.append([(folder.data_dir / "split" / name).read_bytes() for name in FILES])
        schema = pq.read_schema(folder.data_dir / "split" / "split.parquet")
        recorded = json.loads(schema.metadata[b"personae.params"])

        assert ({"keep": str(path)} if text and "20" in text else {}) == {
            name: value for name, value in recorded.items() if name == "keep"
        }
    assert outputs[0] == outputs[1]
    assert outputs[0] != outputs[2]


def test_a_post_of_the_file_decides_for_those_linked_to_it(tmp_path: Path) -> None:
    """A kept post has the split of the file, smaller ids that are linked to it join, others draw."""
    folder, path = Folder(tmp_path), tmp_path / "splits.csv"
    drawn = {row["post_id"]: row["split"] for row in folder.run()}
    other = "test" if drawn[1] == "train" else "train"
    folder.links = [(1, 40)]
    path.write_text(f"post_id,split\n40,{other}\n999999,val\n")
    rows = {
        row["post_id"]: row["split"]
        for row in folder.run(LOOSE.model_copy(update={"keep": str(path)}))
    }

    assert drawn | {1: other, 40: other} == rows


def test_kept_posts_that_turn_out_to_be_copies(tmp_path: Path) -> None:
    """Of two linked posts that the file keeps in different splits, the larger id is refused."""
    folder, path = Folder(tmp_path), tmp_path / "splits.csv"
    folder.links = [(10, 20), (10, 31)]
    folder.hashes[10] = folder.hashes[20] = folder.hashes[31]
    path.write_text("post_id,split\n20,test\n31,train\n10,test\n")
    rows = {
        row["post_id"]: row["split"]
        for row in folder.run(LOOSE.model_copy(update={"keep": str(path)}))
    }

    assert ("test", "test") == (rows[10], rows[20])
    assert 31 not in rows
    assert folder.certificate()["passed"]


def test_new_post_that_would_bridge_is_refused(tmp_path: Path) -> None:
    """A new post with the smallest id that is linked to kept posts of two splits leaves both there."""
    folder, path = Folder(tmp_path), tmp_path / "splits.csv"
    first, second = apart("train", "test")
    folder.links = [(-1, first), (-1, second)]
    folder.labels[-1], folder.hashes[-1] = "label_0", b"\x0f" * 32
    path.write_text(f"post_id,split\n{first},train\n{second},test\n")
    rows = {
        row["post_id"]: row["split"]
        for row in folder.run(LOOSE.model_copy(update={"keep": str(path)}))
    }

    assert ("train", "test") == (rows[first], rows[second])
    assert -1 not in rows


def test_given_splits_and_kept_splits_exclude_each_other(tmp_path: Path) -> None:
    """With `mode: given` the file must have no posts; the error says what to do."""
    folder, path = Folder(tmp_path, posts=60), tmp_path / "splits.csv"
    folder.given = dict.fromkeys(folder.labels, "train")
    params = split.Params(mode="given", keep=str(path))
    path.write_text("post_id,split\n")
    assert folder.run(params)

    path.write_text("post_id,split\n1,val\n")
    with pytest.raises(
        BadParams, match=r"in their split \(1\).*Delete all lines .* but its header"
    ):
        folder.run(params)


def save(path: Path, number: int) -> None:
    """Writes one image of noise, as JPEG or PNG."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(path)


def test_folder_that_grows_moves_no_kept_post(tmp_path: Path, monkeypatch, capsys) -> None:
    """
    Copies are added to a folder, whose ids are hashes of paths, and other images are removed.

    Without the file, old images change their split; after `keep`, none does.
    """
    monkeypatch.chdir(tmp_path)
    params = {
        "site": {"name": "folder", "folder": "images"},
        "personae": {"min_images": 1},
        "decide": {"ratings": ["g"], "min_side": 0},
        "filters": {"min_side": 0, "min_sharpness": 0},
        "measure": {"workers": 1},
        "duplicates": {"keep": "all", "artwork": "ignore", "workers": 1},
        "persona": {"min_samples": 1, "balance": "none"},
        "split": {"tolerance": 1.0, "least_difference": 0},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")

    def build(data: str) -> dict[int, str]:
        assert 0 == scraper(["--data", data])
        for stage in STAGES:
            assert 0 == main([stage, "--data", data, "--work", f"{data}-work"]), stage
        capsys.readouterr()
        return {
            row["post_id"]: row["split"]
            for row in pq.read_table(f"{data}/split/split.parquet").to_pylist()
        }

    for number in range(40):
        save(Path(f"images/{number % 2}/{number}.png"), number)
        if number < 20:  # linked from the beginning
            save(Path(f"images/{number % 2}/first {number}.jpg"), number)
    old = build("old")
    for number in range(40):
        save(Path(f"images/{number % 2}/copy {number}.jpg"), number)
    for number in range(10):
        Path(f"images/{number % 2}/{number}.png").unlink()

    drawn = build("drawn")
    assert 0 == main(["keep", "--data", "old"])
    assert "splits.csv: 60 posts keep their split (train " in capsys.readouterr().out
    kept = build("kept")
    assert 0 == main(["keep", "--data", "kept"])
    assert "; 40 of them are new in the file, 10 are not in this build" in capsys.readouterr().out

    there = old.keys() & kept.keys()
    assert 50 == len(there)
    assert any(old[post] != drawn.get(post) for post in there)
    assert {post: old[post] for post in there} == {post: kept[post] for post in there}
    assert diff.compare(Path("old"), Path("drawn")).moved
    assert () == diff.compare(Path("old"), Path("kept")).moved
    shutil.rmtree("kept-work")
    before = Path("kept/shards/manifest.json").read_bytes()
    assert kept == build("kept")
    assert before == Path("kept/shards/manifest.json").read_bytes()
