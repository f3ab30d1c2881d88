"""Tests the command `query`: table, CSV and JSON output, refused SQL, and predictions."""

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

from curation import query
from curation.__main__ import main


@pytest.fixture
def ask(curated, capsys, tmp_path: Path):
    """Runs `query` on the small catalog; returns exit code, output and error text."""

    def query(sql: str, *options: str) -> tuple[int, str, str]:
        folders = ["--data", str(curated.data_dir), "--results", str(tmp_path / "results")]
        code = main(["query", sql, *folders, *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return query


def predict(folder: Path, run: str, seed: int, rows: list[dict[str, Any]]) -> None:
    """Writes predictions as stage `evaluate` does."""
    path = folder / run / str(seed) / "predictions.parquet"
    path.parent.mkdir(parents=True)
    columns = [("post_id", pa.int64()), ("split", pa.string()), ("predicted", pa.int32())]
    schema = pa.schema([*columns, ("probabilities", pa.list_(pa.float32()))])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def test_table_is_aligned_and_readable(ask) -> None:
    """Numbers are aligned to the right, words to the left."""
    code, out, _ = ask("SELECT 'a' AS word, 5 AS number UNION ALL SELECT 'long', 1234 ORDER BY 2")

    assert 0 == code
    assert ["word  number", "────────────", "a          5", "long    1234"] == out.splitlines()


def test_csv_and_json_hold_the_same_rows(ask) -> None:
    """CSV and JSON hold every row, lists and NULL included."""
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


def test_limit_cuts_the_rows_and_is_announced(ask) -> None:
    """A truncated result is announced on standard error."""
    code, out, err = ask("SELECT post_id FROM posts", "--limit", "3")

    assert 0 == code
    assert 2 + 3 == len(out.splitlines())
    assert "more than 3 rows" in err
    assert 2 + 50 == len(ask("SELECT post_id FROM posts")[1].splitlines())


def test_empty_result_is_empty_in_every_format(ask) -> None:
    """An empty result prints only the header, or an empty JSON list."""
    sql = "SELECT post_id FROM posts WHERE false"

    assert "post_id\n───────\n" == ask(sql)[1]
    assert "post_id\n" == ask(sql, "--csv")[1]
    assert [] == json.loads(ask(sql, "--json")[1])


def test_tags_cannot_write_on_the_terminal(ask) -> None:
    """Control characters are shown as dots, and long cells are truncated."""
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
    """SQL that is wrong, writes, or opens another file is refused in one line with exit code 2."""
    code, out, err = ask(sql)

    assert 2 == code
    assert "" == out
    assert message in err
    assert 1 == len(err.splitlines())


def test_predictions_join_as_a_table(ask, tmp_path: Path) -> None:
    """Predictions of all runs and seeds form one table, even if their columns differ."""
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
    """If predictions are absent or damaged, the error gives the stage that writes them."""
    code, _, err = ask("FROM predictions")
    assert (2, True) == (code, "stage 'evaluate' writes them" in err)

    predict(tmp_path / "results", "flat", 0, [])
    (tmp_path / "results" / "flat" / "0" / "predictions.parquet").write_bytes(b"PAR1")
    code, _, err = ask("FROM predictions")
    assert (5, True) == (code, "Run the stage 'evaluate' again" in err)


def test_query_without_catalog_names_the_stage(tmp_path: Path, capsys) -> None:
    """If the catalog is absent, the error gives the stage that builds it."""
    code = main(["query", "SELECT 1", "--data", str(tmp_path)])

    assert 5 == code
    assert "stage 'catalog' writes it" in capsys.readouterr().err


def test_query_reads_standard_input(ask, monkeypatch) -> None:
    """With `-`, the SQL is read from standard input."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 7 AS seven"))

    assert "seven\n7\n" == ask("-", "--csv")[1]


def test_sql_of_other_bytes_than_utf8_is_refused(curated) -> None:
    """Bytes that are no UTF-8, in the command or on standard input, give one line and exit code 2."""
    program = [sys.executable, "-m", "curation"]
    folder = ["--data", str(curated.data_dir)]
    sql = b"SELECT '\xff'"
    for command in (["query", sql], ["query", "-"], ["select", sql, "-o", "x.parquet"]):
        done = subprocess.run(
            [*program, *command, *folder], input=sql, check=False, capture_output=True
        )

        assert (2, b"error: The SQL is not valid UTF-8.\n") == (done.returncode, done.stderr)


def test_reader_that_leaves_early_is_no_error(curated) -> None:
    """`query … | head -1` ends without an error message."""
    command = (
        f"{sys.executable} -m curation query 'SELECT range, repeat(md5(range::VARCHAR), 50) "
        f"FROM range(20000)' --csv --data '{curated.data_dir}' | head -1"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], check=False, capture_output=True, text=True
    )

    assert 1 == len(done.stdout.splitlines())
    assert "" == done.stderr


def test_wide_table_is_not_folded(monkeypatch, ask) -> None:
    """A line is never wrapped, however narrow the terminal is."""
    monkeypatch.setenv("COLUMNS", "20")
    _, out, _ = ask("SELECT repeat('x', 50) AS a, repeat('y', 50) AS b, [[1, 2]] AS c")

    assert f"{'x' * 50}  {'y' * 50}  1 2" == out.splitlines()[-1]


def test_markup_in_a_cell_is_text() -> None:
    """Square brackets in tags and column names are printed unchanged."""
    file = io.StringIO()
    query.write_table(query.QueryResult(("[bold]",), (("[red]x[/red] :smile:",),), False), file)

    assert ["[bold]", "─" * 20, "[red]x[/red] :smile:"] == file.getvalue().splitlines()


def test_colours_are_for_terminals_alone(ask) -> None:
    """A table written to a file has no control characters."""
    assert "\x1b" not in ask("SELECT 1 AS number")[1]


TWICE = (
    "SELECT s.post_id, m.post_id, s.label, k.persona AS label, 1 AS label_1 FROM samples AS s "
    "JOIN measures AS m USING (post_id) JOIN kept AS k USING (post_id) ORDER BY 1 LIMIT 2"
)
NAMES = ["post_id", "post_id_1", "label", "label_2", "label_1"]


def test_columns_of_one_name_are_all_kept(ask, tmp_path: Path) -> None:
    """A join with two columns of one name gives both, in every format, the second with a number."""
    path = tmp_path / "rows.parquet"
    objects = json.loads(ask(TWICE, "--json")[1])
    header = ask(TWICE, "--csv")[1].splitlines()[0]
    ask(TWICE, "--parquet", str(path))

    assert [NAMES, NAMES] == [list(row) for row in objects]
    assert objects[0]["post_id"] == objects[0]["post_id_1"]
    assert header.split(",") == NAMES
    assert pq.read_table(path).column_names == NAMES


def test_parquet_holds_every_row_with_its_type(ask, tmp_path: Path) -> None:
    """Parquet keeps lists, bytes, times and NULL, and all rows; the command prints their number."""
    path = tmp_path / "new" / "posts.parquet"
    sql = "SELECT post_id, tags_general, created_at_utc, phash, NULL AS nothing FROM posts LEFT JOIN measures USING (post_id)"
    code, out, _ = ask(sql, "--parquet", str(path))
    table = pq.read_table(path)

    assert code == 0
    assert out == f"{path}: {table.num_rows} rows\n"
    assert table.num_rows > 50
    assert pa.types.is_list(table.schema.field("tags_general").type)
    assert pa.types.is_timestamp(table.schema.field("created_at_utc").type)
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT if(range = 400000, error('late'), 1) FROM range(500000)", "Input Error: late\n"),
        (
            "SELECT updated_at_utc - created_at_utc AS age FROM posts",
            "Cast it, such as an INTERVAL",
        ),
    ],
)
def test_rows_that_parquet_cannot_hold_are_a_wrong_query(ask, tmp_path: Path, sql, message) -> None:
    """An error in a late row and a type that Parquet lacks give one line, and no file."""
    path = tmp_path / "rows.parquet"
    code, _, error = ask(sql, "--parquet", str(path))

    assert 2 == code
    assert message in error
    assert not list(tmp_path.glob("rows.parquet*"))


def test_refused_query_leaves_no_parquet(ask, tmp_path: Path) -> None:
    """Wrong SQL gives exit code 2 and no file."""
    path = tmp_path / "rows.parquet"

    assert ask("SELECT nosuch FROM posts", "--parquet", str(path))[0] == 2
    assert ask("SELECT error('boom') FROM range(9)", "--parquet", str(path))[0] == 2
    assert not path.exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("shape", ["--csv", "--json", "--limit=5"])
def test_any_encoding_can_be_written(curated, encoding: str, shape: str) -> None:
    """A terminal without the characters gets escapes; JSON stays the same JSON."""
    sql = "SELECT '✓é' AS \"naïve ☃\", 1 AS a"
    command = [sys.executable, "-m", "curation", "query", sql, shape]
    done = subprocess.run(
        [*command, "--data", str(curated.data_dir)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    text = done.stdout.decode(encoding)

    assert b"" == done.stderr
    assert "1" in text.splitlines()[-1 if shape != "--json" else 1]
    if shape == "--json":
        assert [{"naïve ☃": "✓é", "a": 1}] == json.loads(text)
    elif encoding == "utf-8":
        assert "✓é" in text
