"""The command line of curation: stages, questions, exit codes and one-line errors."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation import shards
from curation.__main__ import STAGES, main


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def ask(curated, capsys, tmp_path: Path):
    """Runs `query` on the small catalog; gives exit code, output and error text."""

    def query(sql: str, *options: str) -> tuple[int, str, str]:
        places = ["--data", str(curated.data_dir), "--results", str(tmp_path / "results")]
        code = main(["query", sql, *places, *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return query


def predict(folder: Path, run: str, seed: int, rows: list[dict[str, Any]]) -> None:
    """Leaves predictions as stage `evaluate` does."""
    path = folder / run / str(seed) / "predictions.parquet"
    path.parent.mkdir(parents=True)
    columns = [("post_id", pa.int64()), ("split", pa.string()), ("predicted", pa.int32())]
    schema = pa.schema([*columns, ("probabilities", pa.list_(pa.float32()))])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def test_table_is_aligned_and_readable(ask) -> None:
    """Numbers stand to the right under their heading, words to the left."""
    code, out, _ = ask("SELECT 'a' AS word, 5 AS number UNION ALL SELECT 'long', 1234 ORDER BY 2")

    assert 0 == code
    assert ["word  number", "────  ──────", "a          5", "long    1234"] == out.splitlines()


def test_csv_and_json_hold_the_same_rows(ask) -> None:
    """Both shapes carry every row, lists and nothing included."""
    sql = "SELECT post_id, tags_general, md5, NULL AS nothing, phash FROM posts JOIN measures USING (post_id)"
    _, text, _ = ask(sql, "--csv")
    _, objects, _ = ask(sql, "--json")
    from_csv = list(csv.DictReader(io.StringIO(text)))
    from_json = json.loads(objects)

    assert len(from_json) > 50
    assert [str(row["post_id"]) for row in from_json] == [row["post_id"] for row in from_csv]
    assert [row["tags_general"] for row in from_json] == [
        json.loads(row["tags_general"]) for row in from_csv
    ]
    assert {None} == {row["nothing"] for row in from_json}
    assert {64, 0} >= {len(row["phash"]) for row in from_csv}


def test_limit_cuts_and_says_so(ask) -> None:
    """A cut answer says on standard error that there is more."""
    code, out, err = ask("SELECT post_id FROM posts", "--limit", "3")

    assert 0 == code
    assert 2 + 3 == len(out.splitlines())
    assert "more than 3 rows" in err
    assert 2 + 50 == len(ask("SELECT post_id FROM posts")[1].splitlines())


def test_empty_answer_is_empty_in_every_shape(ask) -> None:
    """No rows give a heading, a header or an empty list."""
    sql = "SELECT post_id FROM posts WHERE false"

    assert "post_id\n───────\n" == ask(sql)[1]
    assert "post_id\n" == ask(sql, "--csv")[1]
    assert [] == json.loads(ask(sql, "--json")[1])


def test_tags_cannot_write_on_the_terminal(ask) -> None:
    """Control characters in an answer are shown as dots, and long cells are cut."""
    _, out, _ = ask("SELECT chr(27) || '[2J' || repeat('x', 100) AS tag")

    assert "\x1b" not in out
    assert "·[2J" + "x" * 55 + "…" == out.splitlines()[-1]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "syntax error"),
        ("SELECT nosuch FROM posts", '"nosuch" not found'),
        ("FROM nosuch", "nosuch does not exist"),
        ("", "one statement at a time"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("DELETE FROM posts", "read-only"),
        ("CREATE TABLE x AS SELECT 1", "read-only"),
        ("COPY posts TO '/tmp/never.csv'", "Permission Error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission Error"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("ATTACH '/tmp/never.duckdb'", "Permission Error"),
        ("INSTALL httpfs", "Permission Error"),
        ("SET enable_external_access = true", "enable_external_access"),
        ("SET memory_limit = '1GB'", "locked"),
        ("SELECT 1 FROM range(10) WHERE error('boom')", "boom"),
    ],
)
def test_wrong_or_forbidden_sql_is_one_line_and_exit_2(ask, sql: str, message: str) -> None:
    """SQL that is wrong, writes, or reaches out of the catalog is refused in one line."""
    code, out, err = ask(sql)

    assert 2 == code
    assert "" == out
    assert message in err
    assert 1 == len(err.splitlines())


def test_predictions_join_as_a_table(ask, tmp_path: Path) -> None:
    """Predictions of all runs and seeds are one table, also of files with different columns."""
    rows = [{"post_id": 1000, "split": "val", "predicted": 2, "probabilities": [0.1, 0.9]}]
    predict(tmp_path / "results", "flat", 0, rows)
    predict(tmp_path / "results", "it's", 11, rows * 2)
    code, out, _ = ask(
        "SELECT run, seed, count(*) AS n, any_value(label) AS label FROM predictions "
        "JOIN splits USING (post_id) GROUP BY ALL ORDER BY run",
        "--csv",
    )

    assert 0 == code
    assert ["run,seed,n,label", "flat,0,1,amber", "it's,11,2,amber"] == out.splitlines()


def test_absent_or_damaged_predictions_are_named(ask, tmp_path: Path) -> None:
    """The error says which stage writes them."""
    code, _, err = ask("FROM predictions")
    assert (2, True) == (code, "stage 'evaluate' writes them" in err)

    predict(tmp_path / "results", "flat", 0, [])
    (tmp_path / "results" / "flat" / "0" / "predictions.parquet").write_bytes(b"PAR1")
    code, _, err = ask("FROM predictions")
    assert (5, True) == (code, "Run the stage 'evaluate' again" in err)


def test_query_without_catalog_names_the_stage(tmp_path: Path, capsys) -> None:
    """Before the catalog is built, the error says how to build it."""
    code = main(["query", "SELECT 1", "--data", str(tmp_path)])

    assert 5 == code
    assert "stage 'catalog' writes it" in capsys.readouterr().err


def test_query_reads_standard_input(ask, monkeypatch) -> None:
    """A dash stands for SQL on standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 7 AS seven"))

    assert "seven\n7\n" == ask("-", "--csv")[1]


def test_get_writes_the_picture_of_a_sample(curated, tmp_path: Path, capsys) -> None:
    """The image comes out of its shard, by its offset, as an image of the wanted side."""
    output = tmp_path / "picture.png"
    code = main(["get", "1000", "--data", str(curated.data_dir), "-o", str(output)])
    with Image.open(output) as picture:
        size = picture.size

    assert 0 == code
    assert (48, 48) == size
    assert f"{output}: {output.stat().st_size} bytes" in capsys.readouterr().out
    assert 5 == main(["get", "5", "--data", str(curated.data_dir)])
    assert "No sample has the key 5" in capsys.readouterr().err


def test_get_writes_to_standard_output(curated) -> None:
    """A dash sends the bytes on, and nothing but them."""
    command = [sys.executable, "-m", "curation", "get", "1000", "-o", "-"]
    done = subprocess.run(
        [*command, "--data", str(curated.data_dir)], check=True, capture_output=True
    )

    assert shards.picture(curated.data_dir, 1000)[1] == done.stdout


def test_stage_runs_with_parameters_of_file_and_command_line(curated, tmp_path: Path) -> None:
    """The command line wins over params.yaml, and the effective values are stored."""
    params = tmp_path / "params.yaml"
    params.write_text("shards: {samples_per_shard: 5, seed: 3}")
    places = ["--data", str(curated.data_dir), "--params", str(params)]
    code = main(["shards", "--samples-per-shard", "6", *places])
    metadata = pq.read_schema(curated.data_dir / "shards" / "samples.parquet").metadata

    assert 0 == code
    assert {"samples_per_shard": 6, "seed": 3} == json.loads(metadata[b"personae.params"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "split: {tolerence: 0.2}",
            "'split.tolerence' is not a parameter. Did you mean 'tolerance'?",
        ),
        ("split: {seed: many}", "'split.seed' is 'many'"),
        ("split: {train: 0.9}", "add up to 1.3"),
        ("split: 5", "Section 'split'"),
        ("split: {", "cannot be read as YAML"),
    ],
)
def test_bad_parameters_are_one_line_and_exit_2(tmp_path, capsys, text, message) -> None:
    """Unknown, ill-typed and impossible parameters are named before anything is read."""
    params = tmp_path / "params.yaml"
    params.write_text(text)
    code = main(["split", "--params", str(params), "--data", str(tmp_path)])

    assert 2 == code
    assert message in capsys.readouterr().err


def test_missing_input_is_exit_5(tmp_path: Path, capsys) -> None:
    """A stage without its inputs says which stage to run."""
    params = tmp_path / "params.yaml"
    params.write_text("")
    code = main(["split", "--params", str(params), "--data", str(tmp_path)])

    assert 5 == code
    assert "stage 'persona' writes it" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["split", "--nosuch", "1"], ["get", "x"]])
def test_wrong_usage_is_exit_2(arguments: list[str], capsys) -> None:
    """Usage errors leave with 2 and say how it is used."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert 2 == caught.value.code
    assert "usage: python -m curation" in capsys.readouterr().err


@pytest.mark.parametrize("command", [*STAGES, "query", "get", "verify"])
def test_every_command_explains_itself(command: str, capsys) -> None:
    """`--help` of each command exits with 0 and describes its options."""
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])

    assert 0 == caught.value.code
    assert "--data DIR" in capsys.readouterr().out


def test_help_teaches_by_examples(capsys) -> None:
    """The help shows commands to copy, and the exit codes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out

    assert 'python -m curation query "SELECT * FROM funnel"' in out
    assert "exit codes" in out
    assert all(stage in out for stage in STAGES)


def test_reader_that_leaves_early_is_no_error(curated) -> None:
    """`query … | head -1` ends quietly."""
    command = (
        f"{sys.executable} -m curation query 'SELECT range, repeat(md5(range::VARCHAR), 50) "
        f"FROM range(20000)' --csv --data '{curated.data_dir}' | head -1"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], check=False, capture_output=True, text=True
    )

    assert 1 == len(done.stdout.splitlines())
    assert "" == done.stderr


@pytest.mark.skipif(
    os.geteuid() != 0 and not os.access("/dev/full", os.W_OK), reason="no /dev/full"
)
def test_full_disk_is_exit_3(curated, tmp_path: Path, capsys) -> None:
    """A disk that takes no more bytes is named, and the same command may be run again."""
    (tmp_path / "full.png.part").symlink_to("/dev/full")
    code = main(["get", "1000", "--data", str(curated.data_dir), "-o", str(tmp_path / "full.png")])

    assert 3 == code
    assert "No space left on device. Free space" in capsys.readouterr().err


def test_place_that_cannot_be_written_is_exit_3(curated, tmp_path: Path, capsys) -> None:
    """A file where a folder is meant is named in one line, not in a traceback."""
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "x.png"
    code = main(["get", "1000", "--data", str(curated.data_dir), "-o", str(place)])

    assert 3 == code
    assert "could not be written: Not a directory" in capsys.readouterr().err


def test_stages_leave_the_same_bytes_as_before(curated, tmp_path: Path) -> None:
    """Running split and shards again from the command line changes no byte."""
    before = {name: files(curated.data_dir / name) for name in ("split", "shards")}
    params = tmp_path / "params.yaml"
    params.write_text(
        "split: {train: 0.4, val: 0.3, test: 0.3, tolerance: 1, seed: 2}\n"
        "shards: {samples_per_shard: 10}\n"
    )
    for stage in before:
        assert 0 == main([stage, "--data", str(curated.data_dir), "--params", str(params)])

    assert before == {name: files(curated.data_dir / name) for name in before}
