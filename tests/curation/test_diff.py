"""Tests `diff`: two builds are compared sample by sample."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import diff, shards
from curation.__main__ import main
from tests.curation.test_exclusions import rows, run_stages


@pytest.fixture
def old(curated, tmp_path: Path) -> Path:
    """Returns a copy of the shards of the small data folder."""
    shutil.copytree(curated.data_dir / "shards", tmp_path / "old" / "shards")
    return tmp_path / "old"


def change_split(data_dir: Path, **columns) -> None:
    """Changes rows of split.parquet by `columns[name](row)` and packs again."""
    path = data_dir / "split" / "split.parquet"
    changed = [row | {name: new(row) for name, new in columns.items()} for row in rows(path)]
    pq.write_table(pa.Table.from_pylist(changed, schema=pq.read_schema(path)), path)
    shards.run(shards.Params(samples_per_shard=10), data_dir=data_dir, work_dir=data_dir)


def test_equal_builds_have_no_difference(old, curated, capsys) -> None:
    """A build compared with its copy differs in nothing, and no image is read."""
    changes = diff.compare(old, curated.data_dir)
    code = main(["diff", str(old), str(curated.data_dir)])

    assert not any(getattr(changes, name) for name in ("added", "removed", "moved", "shards"))
    assert 0 == code
    assert "The builds are equal." in capsys.readouterr().out


def test_removed_and_added_samples_have_reasons(old, curated, tmp_path, capsys) -> None:
    """A removed sample is listed with the stage and reason; its copy is listed as added."""
    removed = curated.original[2000]
    (tmp_path / "exclude.txt").write_text(f"post {removed}\n")
    before = {row["post_id"]: row for row in rows(old / "shards/samples.parquet")}
    run_stages(curated.data_dir, curated.work_dir, tmp_path / "exclude.txt")
    after = {row["post_id"]: row for row in rows(curated.data_dir / "shards/samples.parquet")}
    changes = diff.compare(old, curated.data_dir)
    code = main(["diff", str(old), str(curated.data_dir)])
    out = capsys.readouterr().out
    row = before[removed]

    assert sorted(before.keys() - after.keys()) == [entry.post_id for entry in changes.removed]
    assert sorted(after.keys() - before.keys()) == [entry.post_id for entry in changes.added]
    assert (removed, row["label"], row["split"], "filters: excluded") in changes.removed
    assert () == changes.rewritten == changes.relabelled
    assert 0 == code
    assert f"  {removed} {row['label']}, {row['split']} (filters: excluded)\n" in out
    back = diff.compare(curated.data_dir, old)
    assert [entry.post_id for entry in changes.removed] == [entry.post_id for entry in back.added]
    assert {entry.detail for entry in back.removed} == {"no decision"}


def test_moved_relabelled_and_rewritten_samples_are_named(old, curated, capsys) -> None:
    """Each kind of change is found at exactly the samples that have it, with the value before."""
    data = curated.data_dir
    before = rows(data / "split/split.parquet")
    moved = next(row for row in before if row["split"] == "train")
    named = next(row for row in before if row["label"] == "beryl" and row is not moved)
    change_split(
        data,
        split=lambda row: "val" if row["post_id"] == moved["post_id"] else row["split"],
        label=lambda row: "amber" if row["post_id"] == named["post_id"] else row["label"],
        leaf=lambda row: 0 if row["post_id"] == named["post_id"] else row["leaf"],
    )
    changes = diff.compare(old, data)
    code = main(["diff", str(old), str(data), "--json"])
    document = json.loads(capsys.readouterr().out)

    assert ((moved["post_id"], moved["label"], "val", "train"),) == changes.moved
    assert ((named["post_id"], "amber", named["split"], "beryl"),) == changes.relabelled
    assert () == changes.rewritten == changes.added == changes.removed
    totals = [
        sum(row["split"] == "val" for row in rows(d / "shards/samples.parquet"))
        for d in (old, data)
    ]
    assert tuple(totals) == changes.splits["val"]
    assert totals[0] + 1 == totals[1]
    assert 0 == code
    assert totals == document["splits"]["val"]
    assert {"post_id", "label", "split", "detail"} == document["moved"][0].keys()
    assert set(changes.shards.values()) <= {"added", "removed", "changed"}


def test_image_with_other_bytes_is_named(old, curated) -> None:
    """One changed bit in a stored image is one sample with another image."""
    data = curated.data_dir
    sample = rows(data / "shards/samples.parquet")[7]
    path = data / "shards" / sample["shard"]
    content = bytearray(path.read_bytes())
    content[sample["image_offset"] + 30] ^= 1
    path.write_bytes(content)
    manifest = json.loads((data / "shards/manifest.json").read_text())
    for entry in manifest["shards"]:
        if entry["shard"] == path.name:
            entry["sha256"] = "0" * 64
    (data / "shards/manifest.json").write_text(json.dumps(manifest))
    changes = diff.compare(old, data)

    assert ((sample["post_id"], sample["label"], sample["split"], ""),) == changes.rewritten
    assert {path.name: "changed"} == changes.shards


@pytest.mark.parametrize("damage", ["absent", "offset", "twice"])
def test_damaged_build_is_a_named_error(old, curated, capsys, damage) -> None:
    """A folder without a build, a position outside of its shard, and a post of two rows are errors."""
    path = old / "shards" / "samples.parquet"
    if damage == "absent":
        shutil.rmtree(old / "shards")
    else:
        table = rows(path)
        if damage == "offset":
            table[0]["image_offset"] = 2**50
        else:
            table[1]["post_id"] = table[0]["post_id"]
        pq.write_table(pa.Table.from_pylist(table, schema=pq.read_schema(path)), path)
    code = main(["diff", str(old), str(curated.data_dir)])
    err = capsys.readouterr().err

    assert 5 == code
    assert 1 == sum(line.startswith("error: ") for line in err.splitlines())
    expected = {"absent": "samples.parquet", "offset": "at byte", "twice": "two rows of one post"}
    assert expected[damage] in err


def test_lists_are_cut_at_the_limit(old, curated, capsys) -> None:
    """At most --limit samples of a kind are printed, and the number of the others is named."""
    change_split(curated.data_dir, split=lambda _: "train")
    main(["diff", str(old), str(curated.data_dir), "--limit", "2"])
    lines = capsys.readouterr().out.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("in another split: "))
    count = int(lines[start].split(": ")[1])

    assert f"  and {count - 2} more: raise --limit, or use --json" == lines[start + 3]
