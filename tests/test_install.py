"""Tests that each package runs with its own extra, and that the wheel holds the needed files."""

import importlib.metadata
import os
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("personae", "scraper", "curation", "train")
# Distributions whose module has another name.
MODULES = {"pillow": "PIL", "pyyaml": "yaml"}

# Imports every module of the packages; the finder refuses the packages that are not installed.
IMPORT_ALL = """
import importlib, pkgutil, sys
refused = set(sys.argv[1].split(","))
optional = {"personae.epochs": "torch", "personae.catalog": "duckdb"}  # of personae.Dataset

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
for package in sys.argv[2:]:
    module = importlib.import_module(package)
    for info in pkgutil.walk_packages(module.__path__, package + "."):
        if info.name == "scraper.demo.fixture":  # a plugin of pytest, which pytest alone imports
            continue
        if optional.get(info.name) not in refused:
            importlib.import_module(info.name)
print("all imported")
"""


def _closure(extra: str) -> set[str]:
    """Returns the normalised names of the distributions that `personae[EXTRA]` installs."""
    done: set[tuple[str, str]] = set()
    waiting = {("personae", extra)}
    while waiting:
        name, wanted = waiting.pop()
        done.add((name, wanted))
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                extras = requirement.extras or {""}
                waiting |= {(canonicalize_name(requirement.name), e) for e in extras} - done
    return {name for name, _ in done} - {"personae"}


@pytest.mark.parametrize("extra", ["scraper", "curation", "train"])
def test_package_imports_with_its_own_extra_alone(extra):
    """Every module of a package can be imported if only the extra of that package is installed."""
    have = _closure(extra)
    everything = _closure("dev")
    refused = {MODULES.get(name, name.replace("-", "_")) for name in everything - have}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, ",".join(sorted(refused)), "personae", extra],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "all imported\n" == done.stdout, done.stderr


def test_machine_that_trains_needs_no_http_no_database_and_no_dvc():
    """The extra `train` installs no package of the other two extras, and no DVC."""
    others = {"aiohttp", "requests", "stamina", "duckdb", "pdqhash", "dvc", "webdataset"}

    assert set() == others & _closure("train")


@pytest.mark.parametrize("goal", ["repro", "test", "floors"])
def test_make_works_in_a_folder_with_a_space(tmp_path, goal):
    """Every program of the environment stands in the printed recipes as one word of the shell."""
    clone = tmp_path / "my project"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml", "locks"):
        (clone / name).symlink_to(ROOT / name)
    (clone / ".git").mkdir()
    recipes = subprocess.run(
        ["make", "--dry-run", goal], cwd=clone, capture_output=True, text=True, check=True
    ).stdout
    programs = [shlex.split(line)[0] for line in recipes.splitlines()]

    assert not [program for program in programs if program.endswith("my")]
    assert any(program.endswith("/bin/pip") for program in programs)


def test_make_repro_names_a_missing_repository(tmp_path):
    """DVC needs a repository of git: without one, nothing is installed and the remedy is printed."""
    for name in ("Makefile", "pyproject.toml", "locks"):
        (tmp_path / name).symlink_to(ROOT / name)
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    ended = subprocess.run(
        ["make", "repro"], cwd=tmp_path, capture_output=True, text=True, check=False, env=env
    )

    assert 2 == ended.returncode
    assert "is no git repository, which DVC needs." in ended.stderr
    assert "\n  git init\n" in ended.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("name", ["bogus", ""])
def test_unknown_preset_is_answered_by_the_names(name):
    """`make preset` with a wrong name, or without one, copies nothing and names the presets."""
    command = ["make", "--dry-run", "preset", f"NAME={name}"]
    # Within `make test`, a make would say which folder it enters.
    env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=env)

    assert 2 == ended.returncode
    assert not ended.stdout
    assert f"'{name}' is no preset. NAME is one of: ablations cifar100 " in ended.stderr


def test_wheel_holds_every_module_and_template(tmp_path):
    """The wheel has each source file, the types marker, templates and SQL, and no test."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not built.returncode, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert set(tracked) == held
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


def test_citation_names_the_released_version():
    """CITATION.cff has the version of pyproject.toml and the day of its section in CHANGELOG.md."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert project["version"] == citation["version"]
    assert f"\n## {citation['version']} - {citation['date-released']}\n" in changes
