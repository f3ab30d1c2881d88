"""Tests that a method and a network are two files each: those of docs/howto/method.md."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.compile(r'^```\w+ title="(.+?)"\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)
# The longest tests of the contract are left out; the page tells how to run them all.
SELECTED = (
    "(prototypes and not memorises and not new_process) or test_methods or runs_name or dependency"
)
# One process for tests and commands: torch is imported once. Pytest first, for its import hooks.
STORY = """
import os, sys
import pytest

tests = ["tests/train/test_contract.py", "tests/test_names.py"]
print("exit", int(pytest.main(["-p", "no:cacheprovider", "-k", sys.argv[1], *tests])), "pytest")
os.chdir("work")
from train.__main__ import main

commands = (
    ["settings"],
    ["fit", "prototypes"],
    ["evaluate", "prototypes"],
    ["predict", "prototypes", "image.png", "--top", "2"],
    ["results", "--csv"],
    ["fit", "prototype"],
)
for command in commands:
    print("exit", main(command), *command, flush=True)
"""
SHORT = """
seeds: [0]
data: {batch_size: 16}
loop: {epochs: 2, threads: 1, device: cpu}
evaluate: {latency_seconds: 0.05}
"""


@pytest.fixture
def copied(tmp_path, tiny_shards):
    """Copies the program to `tmp_path`, with the files of the page; `work` has params and shards."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("personae", "scraper", "curation", "train", "tests", "presets"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    edited = ("relabel.txt", "exclude.txt", "splits.csv")
    for name in ("pyproject.toml", "dvc.yaml", "params.yaml", *edited):
        shutil.copy(ROOT / name, tmp_path / name)
    files = dict(BLOCKS.findall((ROOT / "docs/howto/method.md").read_text(encoding="utf-8")))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "params.yaml").write_text(SHORT + files.pop("params.yaml"))
    shutil.move(tmp_path / "data", tmp_path / "work" / "data")
    Image.new("RGB", (20, 30), "red").save(tmp_path / "work" / "image.png")
    for name, text in files.items():
        assert not (tmp_path / name).exists()
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path, sorted(files)


def _run(*command, root):
    return subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_page_adds_a_method_and_a_network(copied):
    """The four files of the page are enough: the commands know them, and the contract tests pass."""
    root, files = copied
    checked = _run(sys.executable, "-m", "ruff", "check", *files, root=root)
    formatted = _run(sys.executable, "-m", "ruff", "format", "--check", *files, root=root)
    story = _run(sys.executable, "-c", STORY, SELECTED, root=root)
    codes = [line.split()[1:3] for line in story.stdout.splitlines() if line.startswith("exit ")]

    assert [
        "train/methods/prototypes.py",
        "train/networks/plain.py",
        "train/params/networks/plain.py",
        "train/params/prototypes.py",
    ] == files
    assert (0, 0) == (checked.returncode, formatted.returncode), checked.stdout + formatted.stdout
    words = ("pytest", "settings", "fit", "evaluate", "predict", "results")
    assert [*(["0", word] for word in words), ["2", "fit"]] == codes, story.stdout + story.stderr
    assert "error: 'prototype' is not a run. Did you mean 'prototypes'?" in story.stderr
    assert '"image": "image.png"' in story.stdout
    assert re.search(r"^prototypes,", story.stdout, flags=re.MULTILINE)
    model = json.loads((root / "work/results/prototypes/0/model.json").read_text())
    assert (8, "plain", 0.5, 2) == (
        model["params"]["prototypes"]["dimensions"],
        *(model["params"]["backbone"][name] for name in ("name", "width", "convolutions")),
    )
    code = json.loads((root / "work/data/settings/prototypes.json").read_text())["code"]
    assert files == sorted(code)
