"""Tests which training stages DVC would run again after a change, without training anything."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TRAINING = ("settings", "flat", "clustering", "fit", "control", "evaluate", "evaluate_control")
# A file stands for each output; `settings` alone runs, as it is the first of every repro.
STATUS = """
import json, subprocess, sys
from pathlib import Path
from dvc.repo import Repo

with Repo(".") as repo:
    for line in sys.stdin:
        subprocess.run([sys.executable, "-m", "train", "settings"], check=True)
        if line.strip() == "start":
            for out in repo.index.outs:
                path = Path(out.fs_path)
                if path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix:
                    path.write_text(path.as_posix())
                else:
                    path.mkdir()
                    (path / "file").write_text(path.as_posix())
            repo.commit(force=True)
        repo._reset()
        stale = [name for name in repo.status() if name != "settings"]
        print("stale:" + json.dumps(sorted(stale)), flush=True)
"""


@pytest.fixture(scope="module")
def stale(tmp_path_factory):
    """Returns a function: the stages with a changed dependency or output; the folder is `root`."""
    root = tmp_path_factory.mktemp("stale")
    for name in ("personae", "train"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "page")
        )
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    (root / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {n: stages[n] for n in TRAINING}}, sort_keys=False)
    )
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["runs"] = {
        "uppsala": {"method": "uppsala", "grouping": "modularity"},
        "hdcnn": {"method": "hdcnn", "grouping": "hdcnn"},
        "deep": {"method": "dhnn", "grouping": "modularity", "backbone": {"name": "resnet20"}},
    }
    runs = list(params["runs"])
    params["compare"] = {
        "fit": runs,
        "like": ["uppsala"],
        "equal": ["macs"],
        "evaluate": ["flat", *runs],
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "data" / "shards").mkdir(parents=True)
    (root / "data" / "shards" / "manifest.json").write_text("{}")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "true",
        "PYTHONPATH": "",
    }
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"],
        cwd=root,
        env=environment,
        check=True,
    )
    with subprocess.Popen(
        [sys.executable, "-c", STATUS],
        cwd=root,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def after(word):
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            lines = iter(process.stdout.readline, "")
            shown = next(line for line in lines if line.startswith("stale:"))
            return set(json.loads(shown.removeprefix("stale:")))

        after.root = root
        assert set() == after("start")
        yield after
        process.stdin.close()


@pytest.fixture
def edited(stale):
    """Returns a function that changes files and gives the stale stages; the files are put back."""
    before = {}

    def edit(changes):
        for name, change in changes.items():
            path = stale.root / name
            before[path] = path.read_text() if path.exists() else None
            path.write_text(change(before[path]))
        return stale("look")

    yield edit
    for path, text in before.items():
        path.unlink() if text is None else path.write_text(text)


def _with(section, **values):
    def change(text):
        params = yaml.safe_load(text)
        params[section] = {**(params.get(section) or {}), **values}
        return yaml.safe_dump(params)

    return change


def _longer(text):
    return f"{text or ''}# another line\n"


HDCNN = {"fit@hdcnn-0", "evaluate@hdcnn-0"}
DEEP = {"fit@deep-0", "evaluate@deep-0"}
UPPSALA = {"fit@uppsala-0", "evaluate@uppsala-0"}
CONTROL = {"control@uppsala-macs-0", "evaluate_control@uppsala-macs-0"}
NEW = ("methods/new", "params/new", "networks/new", "params/networks/new")
CHANGES = {
    "parameter of a method": ({"params.yaml": _with("hdcnn", beta=6)}, HDCNN),
    "code of a method and of a network": (
        {"train/methods/hdcnn/mixture.py": _longer, "train/networks/resnet.py": _longer},
        HDCNN | DEEP,
    ),
    "network of all other runs": (
        {"params.yaml": _with("backbone", width=2.0)},
        HDCNN | UPPSALA | CONTROL | {"flat@0", "evaluate@flat-0"},
    ),
    "new method and new network": (
        {"params.yaml": _with("report", samples=3)} | {f"train/{name}.py": _longer for name in NEW},
        set(),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_concerns_its_runs_alone(edited, change):
    """A parameter or a file of one method or network makes its runs stale; a new file makes none."""
    files, expected = CHANGES[change]

    assert expected == edited(files)
