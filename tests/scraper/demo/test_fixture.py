"""Tests the pytest plugin: an entry point registers it, and it loads without the board."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
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

TEST_OF_SOMEBODY_ELSE = """
import urllib.request

def test_reads_a_post(own_demo_board):
    url = own_demo_board.url + "/posts.json?limit=1"
    request = urllib.request.Request(url, headers={"User-Agent": "other-tests/1"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
"""


def python(*arguments, cwd, path=()):
    """Returns the output of a Python process that can import from `path` and this repository."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, path), str(ROOT)])}
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


def test_an_installed_entry_point_gives_the_fixtures(tmp_path):
    """A test outside this repository, without a conftest, gets a board from the fixture."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plugins = project["entry-points"]["pytest11"]
    installed = tmp_path / "site" / "personae_tests-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: personae-tests\nVersion: 0\n")
    lines = [f"{name} = {module}" for name, module in plugins.items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_other.py").write_text(TEST_OF_SOMEBODY_ELSE)

    output = python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tests), str(tests)),
        cwd=tests,
        path=(tmp_path / "site",),
    )

    assert {"personae_demo": "scraper.demo.fixture"} == plugins
    assert "1 passed" in output
