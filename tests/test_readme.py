"""The documents match the program: tree, commands, formats, figures."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))


def _fill_readme():
    spec = importlib.util.spec_from_file_location("fill_readme", ROOT / "docs" / "fill_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_made_parts_are_up_to_date():
    """Tree, result tables and benchmark table are what `python docs/fill_readme.py` makes."""
    made = _fill_readme()
    parts = {name: part for name, part in made.sections().items() if name != "queries"}

    for path in made.DOCUMENTS:
        text = path.read_text()
        assert made.fill(text, parts) == text, path.name


def test_every_module_has_its_line():
    """No source file is without a sentence, so the tree tells where to look."""
    made = _fill_readme()
    files = [p for package in made.FOLDERS for p in (ROOT / package).rglob("*.py")]
    silent = [p.name for p in files if p.stat().st_size and not made.first_line(p)]

    assert silent == []


def test_ten_queries_stand_in_the_readme():
    """The README shows the ten queries of docs/queries.sql."""
    queries = _fill_readme().split_queries()

    assert len(queries) == 10
    assert [title for title, query in queries if query not in README] == []


@pytest.mark.parametrize("key", sorted(set(re.findall(r"-S '?(\+?[\w.]+)=", SHELL))))
def test_overridden_parameters_exist(key):
    """DVC overrides what params.yaml has; what it leaves at its default is added with a plus."""
    section, *names = key.lstrip("+").split(".")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())

    assert section in values
    assert key.startswith("+") is bool(names and names[0] not in values[section])


@pytest.mark.parametrize(
    "command",
    sorted(
        {
            " ".join(shlex.split(line, comments=True)[:4])
            for line in re.findall(r"python -m .*", SHELL)
        }
    ),
)
def test_commands_exist(command):
    """Every `python -m` command of the README knows the sub-command it is shown with."""
    words = shlex.split(command)[1:]
    named = words[:3] if len(words) > 2 and not words[2].startswith("-") else words[:2]
    done = subprocess.run(
        [sys.executable, *named, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_make_targets_exist():
    """Every `make` target of the README is in the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

    assert set(re.findall(r"\bmake (\w+)", SHELL)) <= targets


def test_pictures_and_files_exist():
    """Every image and file that the README links to is in the repository."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)

    assert links
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_no_path_of_a_machine():
    """No document names a folder of somebody's machine."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]

    assert [
        p.name
        for p in documents
        if re.search(r"(^|[\s(\"'`])/(home|work|root|tmp)/", p.read_text())
    ] == []
