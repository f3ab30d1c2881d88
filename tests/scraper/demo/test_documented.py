"""Tests the tables of `docs/demo-board.md`: every behaviour has a test, and every fault is listed."""

import ast
import re
from pathlib import Path

from scraper.demo.board.unusual import UNUSUAL
from scraper.demo.server.strikes import KINDS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/demo-board.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "`test_" in line]


def functions():
    """Returns the names of all test functions of the scraper."""
    names = set()
    for path in (ROOT / "tests/scraper").rglob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
    return names


def test_every_behaviour_of_the_page_names_tests_that_exist():
    """Each of the 43 behaviours has tests, and each of them is a function of our tests."""
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row)}

    assert 43 == len(ROWS)
    assert set() == named - functions()


def test_every_fault_and_every_unusual_post_is_on_the_page():
    """The tables name all kinds of faults and all kinds of unusual posts, and no other kind."""
    kinds = [set(re.findall(r"`(\w+)`", row.split("|")[2])) for row in ROWS]
    named = {kind for some in kinds for kind in some if not kind.startswith("test_")}

    assert {*KINDS, *UNUSUAL} == named
