"""Tests the catalog while another program uses it: queries, checks and builds."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curation import catalog
from curation.__main__ import main
from personae.catalog import connect


@pytest.fixture
def path(curated) -> Path:
    return curated.data_dir / "catalog" / "catalog.duckdb"


def run(data_dir: Path) -> None:
    catalog.run(catalog.Params(), data_dir=data_dir, work_dir=data_dir)


def rows(path: Path, sql: str) -> list[Any]:
    with connect(path) as connection:
        return connection.execute(sql).fetchall()


HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(path: Path):
    """Holds the catalog open for writing in another process; returns its process id."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        yield child.pid
        child.stdin.close()


@pytest.mark.parametrize("command", [["query", "SELECT 1"], ["verify"], ["browse", "--port", "0"]])
def test_catalog_open_elsewhere_names_its_holder(curated, held: int, command, capsys) -> None:
    """A catalog open for writing names program and process, and is not called damaged."""
    code = main([*command, "--data", str(curated.data_dir)])
    streams = capsys.readouterr()

    assert code == 3
    assert f"(process {held})" in streams.err
    assert "python" in streams.err
    assert "open it there for reading only" in streams.err
    assert "emove" not in streams.err
    assert "do not hold" not in streams.err
    assert streams.out == ""


def test_catalog_is_built_while_others_hold_it(curated, held: int, path: Path) -> None:
    """A build replaces a catalog that another program has open."""
    run(curated.data_dir)

    assert rows(path, "SELECT count(*) FROM builds") == [(1,)]


def test_catalog_can_be_queried_while_it_is_built(curated, path: Path, monkeypatch) -> None:
    """Until the new catalog is whole, queries read the old one."""
    count = rows(path, "SELECT count(*) FROM samples")
    asked = []
    build = catalog.build

    def slow(*arguments, **keywords):
        result = build(*arguments, **keywords)
        asked.append(rows(path, "SELECT count(*) FROM samples"))
        return result

    monkeypatch.setattr(catalog, "build", slow)
    run(curated.data_dir)

    assert asked == [count]
