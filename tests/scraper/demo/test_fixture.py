"""Tests the pytest plugin as a stranger uses it: entry point, light start, documented examples."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[3]
OURS = ("asyncio", "hypothesispytest", "jaxtyping", "pytest_cov", "xdist")
QUIET = ("-p", "no:cacheprovider", *(f"-pno:{name}" for name in OURS))
"""Options without the plugins of our own environment, which a stranger need not have."""
PAGE = ROOT / "docs/demo-board.md"
HEAVY = ("aiohttp", "numpy", "PIL", "pydantic", "scraper.demo.board", "scraper.demo.server")

LIST_IMPORTS = """
import sys
import scraper.demo.fixture
print("pytest" in sys.modules, sorted(set(sys.argv[1:]) & set(sys.modules)))
"""

IMPORT_ALL_BUT_THE_PLUGIN = """
import importlib, pkgutil, sys
import scraper.demo
names = [module.name for module in pkgutil.walk_packages(scraper.demo.__path__, "scraper.demo.")]
names.remove("scraper.demo.fixture")
for name in names:
    importlib.import_module(name)
print(len(names), "pytest" in sys.modules, "_pytest" in sys.modules)
"""


def python(*arguments, cwd):
    """Returns the output of a Python process that can import from this repository."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == result.returncode, result.stdout + result.stderr
    return result.stdout


def test_loading_the_plugin_imports_neither_board_nor_server(tmp_path):
    """Loading the plugin imports neither aiohttp nor the board: every pytest run loads it."""
    assert "True []" == python("-c", LIST_IMPORTS, *HEAVY, cwd=tmp_path).strip()


def test_no_other_module_of_the_board_imports_pytest(tmp_path):
    """No other module of the board imports pytest, so the board runs without it."""
    count, *imported = python("-c", IMPORT_ALL_BUT_THE_PLUGIN, cwd=tmp_path).split()

    assert int(count) > 35
    assert ["False", "False"] == imported


@pytest.fixture
def stranger(pytester, monkeypatch):
    """Returns a project elsewhere, whose environment has the plugin installed and nothing else of ours."""
    plugins = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    installed = pytester.mkdir("site") / "personae_elsewhere-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: personae-elsewhere\nVersion: 0\n"
    )
    assert {"personae_demo": "scraper.demo.fixture"} == plugins["pytest11"]
    lines = [f"{name} = {module}" for name, module in plugins["pytest11"].items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed.parent), str(ROOT)]))
    return pytester


def test_the_examples_of_the_page_pass_in_a_project_of_a_stranger(stranger):
    """All examples run as they stand, warnings as errors, with no other file in the project."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    stranger.makeini("[pytest]\nfilterwarnings = error")
    stranger.makepyfile(example)

    result = stranger.runpytest_subprocess(*QUIET, timeout=120)

    result.assert_outcomes(passed=len(re.findall(r"^def test_", example, re.MULTILINE)))


def test_a_missing_library_is_named_with_its_command(stranger):
    """Without the scraper's libraries the fixture fails, says what to install, and stops nothing."""
    stranger.makepyfile(
        aiohttp="raise ImportError('No module named aiohttp')",
        test_some="def test_board(demo_board): pass\n\n\ndef test_other(): pass\n",
    )

    result = stranger.runpytest_subprocess(*QUIET, timeout=120)

    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*pip install 'personae?scraper?'*"])
