"""Tests `remove`: it adds rules, and says which samples, shards, copies and trained runs they concern."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation import query
from curation.__main__ import main
from personae import selection
from tests.curation.test_exclusions import rows, run_stages

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def remove(curated, capsys, tmp_path: Path):
    """Runs `remove` on the small data folder; returns exit code, output and error text."""
    (tmp_path / "params.yaml").write_text(f"filters: {{exclude: {tmp_path / 'exclude.txt'}}}")

    def run(*arguments: str) -> tuple[int, str, str]:
        folders = ["--data", str(curated.data_dir), "--results", str(tmp_path / "results")]
        code = main(["remove", *arguments, *folders, "--params", str(tmp_path / "params.yaml")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def trained(results_dir: Path, run: str, root: str, **fields) -> None:
    """Writes the description of a trained run."""
    folder = results_dir / run / "0"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"root_sha256": root, **fields}))


def root_of(data_dir: Path) -> str:
    return json.loads((data_dir / "shards" / "manifest.json").read_text())["root_sha256"]


@pytest.mark.parametrize("arguments", [("tag", "\udcff"), ("post", "1000", "--why", "\udcff")])
def test_rule_of_other_bytes_than_utf8_is_wrong_usage(remove, tmp_path: Path, arguments) -> None:
    """A value or a reason that is no UTF-8, as the shell may give it, is refused in one line."""
    with pytest.raises(SystemExit, match="2"):
        remove(*arguments)

    assert not (tmp_path / "exclude.txt").exists()


def test_removal_names_what_it_concerns(remove, curated, tmp_path: Path) -> None:
    """A rule is added with its reason; samples, shard and runs are named, and what to run next."""
    samples = rows(curated.data_dir / "shards/samples.parquet")
    sample = next(row for row in samples if row["post_id"] not in curated.original.values())
    trained(tmp_path / "results", "flat", root_of(curated.data_dir))
    trained(tmp_path / "results", "older", "0" * 64)
    code, out, _ = remove("post", str(sample["post_id"]), "--why", "by request")

    assert 0 == code
    assert [
        f"{tmp_path / 'exclude.txt'}: added `post {sample['post_id']}`",
        f"listed posts: 1; samples of them: 1 ({sample['split']} 1) in {sample['shard']}",
        f"trained runs that saw them: flat/0 ({sample['split']} 1)",
        "trained runs of builds that are not recorded: older/0",
        "Next, to leave the posts out of the data set and to train again:",
        "  dvc repro",
    ] == out.splitlines()
    text = f"post {sample['post_id']}  # by request\n"
    assert text == (tmp_path / "exclude.txt").read_text()

    code, out, _ = remove("post", str(sample["post_id"]))
    assert 0 == code
    assert f"has `post {sample['post_id']}` already" in out
    assert text == (tmp_path / "exclude.txt").read_text()


def test_copies_are_named_and_removed_on_request(remove, curated, tmp_path: Path) -> None:
    """The duplicates of a removed post are named, since they may take its place; --copies adds them."""
    original = curated.original[2000]
    code, out, _ = remove("post", str(original))

    assert 0 == code
    assert re.search(r"copies: .*\b2000\b.* in the same duplicate groups stay", out)
    code, out, _ = remove("post", str(original), "--copies", "--why", "all of them")
    assert 0 == code
    assert "copies:" not in out
    assert "post 2000  # all of them\n" in (tmp_path / "exclude.txt").read_text()
    run_stages(curated.data_dir, curated.work_dir, tmp_path / "exclude.txt")
    left = {row["post_id"] for row in rows(curated.data_dir / "shards/samples.parquet")}
    assert not left & {original, 2000}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["post", "123456"], 2, "No listed post matches `post 123456`"),
        (["post", "1000", "123456"], 2, "No listed post matches `post 123456`"),
        (["tag", "no_such_tag"], 2, "add --anyway to exclude such posts when they are listed"),
        (["md5", "xyz"], 2, "'xyz', which is not 32 hexadecimal digits"),
    ],
)
def test_rule_without_effect_is_refused(remove, tmp_path, arguments, code, message) -> None:
    """A rule that matches no listed post is an error, and no rule of the command is written."""
    actual, out, err = remove(*arguments)

    assert (code, "") == (actual, out)
    assert message in err
    assert not (tmp_path / "exclude.txt").exists()


def test_rule_for_later_listings_is_added_on_request(remove, tmp_path: Path) -> None:
    """With --anyway, a tag that no post has yet is excluded from later listings."""
    code, out, _ = remove("tag", "no_such_tag", "--anyway")

    assert 0 == code
    assert "listed posts: 0; samples of them: 0\n" in out
    assert "tag no_such_tag\n" == (tmp_path / "exclude.txt").read_text()


def documented() -> str:
    """Returns the query of docs/changes.md."""
    text = (ROOT / "docs" / "changes.md").read_text(encoding="utf-8")
    return re.findall(r"```sql\n(.*?)```", text, re.DOTALL)[0]


def asked(sql: str, data_dir: Path, results_dir: Path) -> list[tuple]:
    """Returns the rows of a query."""
    path = data_dir / "catalog/catalog.duckdb"
    return list(query.run_query(sql, catalog_path=path, results_dir=results_dir).rows)


def test_one_query_names_the_runs_that_saw_a_removed_post(remove, curated, tmp_path) -> None:
    """
    After the rebuild, the documented query names each run that saw a removed post, and its split.

    Runs on the build before, on a selection of it, and merged runs saw the post; a run on the build
    after did not.
    """
    data, results = curated.data_dir, tmp_path / "results"
    before = rows(data / "shards/samples.parquet")
    sample = next(row for row in before if row["split"] == "train")
    root = root_of(data)
    trained(results, "flat", root)
    trained(results, "merged", "0" * 64, parts=[{"root_sha256": root}])
    for name, own in (("with_it", True), ("without_it", False)):
        posts = f"post_id {'=' if own else '<>'} {sample['post_id']} OR split <> 'train'"
        path = tmp_path / f"{name}.parquet"
        table = pq.read_table(data / "shards/samples.parquet", filters=None).cast(selection.SCHEMA)
        ids = {r for (r,) in asked(f"SELECT post_id FROM samples WHERE {posts}", data, results)}
        keep = [post_id in ids for post_id in table["post_id"].to_pylist()]
        origin = selection.SelectionOrigin(root_sha256=root, query="")
        chosen = selection.SampleSelection(table.filter(keep), origin)
        selection.write(path, chosen)
        params = {"data": {"selection": chosen.reference(path)}}
        trained(results, name, chosen.sha256, params=params)
    remove("post", str(sample["post_id"]))
    run_stages(data, curated.work_dir, tmp_path / "exclude.txt")
    trained(results, "again", root_of(data))

    assert root != root_of(data)
    assert [
        (run, 0, sample["post_id"], "train", f"post {sample['post_id']}", "")
        for run in ("flat", "merged", "with_it")
    ] == asked(documented(), data, results)
    runs = asked("SELECT run, is_known FROM runs ORDER BY ALL", data, results)
    assert [
        ("again", True),
        ("flat", True),
        ("merged", False),
        ("merged", True),
        ("with_it", True),
        ("without_it", True),
    ] == runs


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"root_sha256": 5, "params": [], "parts": [3]}', '{"parts": {}}']
)
def test_damaged_model_is_an_error_or_unknown(curated, tmp_path, text, capsys) -> None:
    """A damaged model.json is a named error, or a run whose build is unknown."""
    trained(tmp_path / "results", "odd", "")
    (tmp_path / "results/odd/0/model.json").write_text(text)
    folders = ["--data", str(curated.data_dir), "--results", str(tmp_path / "results")]
    code = main(["query", "SELECT run, is_known FROM runs", "--csv", *folders])
    captured = capsys.readouterr()

    assert (code, captured.out) == (0, "run,is_known\nodd,False\n") or (
        code == 5 and "model.json" in captured.err
    )


def test_damaged_list_of_samples_is_named(curated, tmp_path, capsys) -> None:
    """A list of samples of an earlier build that is no Parquet is a named error."""
    trained(tmp_path / "results", "old", "1" * 64)
    (curated.data_dir / f"catalog/samples-{'1' * 64}.parquet").write_bytes(b"torn")
    folders = ["--data", str(curated.data_dir), "--results", str(tmp_path / "results")]
    code = main(["query", "SELECT * FROM seen", *folders])

    assert 5 == code
    assert f"samples-{'1' * 64}.parquet cannot be read" in capsys.readouterr().err
