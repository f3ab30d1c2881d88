"""
Tests the DVC pipeline on a small board: from scratch, then after each kind of change.

The tests run a real `dvc repro` in a copy of the project, against a board in its own process. The
board is stopped wherever the pipeline must not request anything from it.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import yaml
from PIL import Image

from scraper.demo.server.process import running

ROOT = Path(__file__).resolve().parent.parent
TRAINING = {
    "settings",
    "flat",
    "clustering",
    "fit",
    "control",
    "evaluate",
    "evaluate_control",
    "report",
}

pytestmark = pytest.mark.chain


class Project:
    """A copy of the project with small numbers and a board on its own port."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        bin_dir = str(Path(sys.executable).parent)
        self.environment = {
            **os.environ,
            "PATH": bin_dir + os.pathsep + os.environ["PATH"],
            "DVC_NO_ANALYTICS": "true",
            **{
                f"GIT_{who}_{what}": "test@localhost"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    def repro(self, *arguments: str) -> set[str]:
        """Runs `dvc repro` and returns the executed stages (without their matrix item)."""
        return _stages(self.run("dvc", "repro", *arguments))

    def change(self, section: str, **values: Any) -> None:
        path = self.root / "params.yaml"
        document = yaml.safe_load(path.read_text())
        document[section] = {**document[section], **values}
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    @contextlib.contextmanager
    def board(self) -> Iterator[str]:
        with running(self.root / "params.yaml", options=["--port", str(self.port)]) as url:
            yield url

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.root / "data/catalog/catalog.duckdb"), read_only=True) as db:
            return db.execute(query).fetchall()

    def pictures(self) -> int:
        return pq.read_metadata(self.root / "data/download/images.parquet").num_rows

    def root_hash(self) -> str:
        return json.loads((self.root / "data/shards/manifest.json").read_text())["root_sha256"]


def _stages(output: str) -> set[str]:
    lines = output.splitlines()
    return {line.split("'")[1].split("@")[0] for line in lines if "Running stage" in line}


def _copy(root: Path) -> Project:
    """Copies the files of the project to `root`, as a Git repository needs them."""
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for name in files:
        if (ROOT / name).is_file() and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    return Project(root)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Returns the project after one `dvc repro` from scratch."""
    made = _copy(tmp_path_factory.mktemp("chain") / "personae")
    made.change("site", name=f"http://127.0.0.1:{made.port}", api_rate=1000)
    made.change("demo", posts_large=50, posts_small=50, posts_minor=8, rate=0)
    made.change("personae", min_images=20, max_images=None)
    made.change("persona", min_samples=15)
    made.change("split", tolerance=0.5)
    made.change("backbone", width=0.125)
    made.change("loop", epochs=1, precision="float32", threads=1)
    made.change("uppsala", root_epochs=1, subnetwork_epochs=1)
    made.change("clustering", bootstrap=5)
    made.change("evaluate", latency_batches=[1, 8], latency_calls=2, latency_warm_up=1)
    made.change("report", samples=3, resamples=500)
    evaluated = ["flat", "uppsala", "uppsala_random"]
    made.change("compare", like=["uppsala"], equal=["macs"], evaluate=evaluated)
    made.run("git", "init", "-q")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-qm", "Start")
    with made.board():
        made.ran = made.repro()
    made.downloaded = made.pictures()
    return made


def test_runs_from_board_to_report(project):
    """`dvc repro` from scratch runs every stage once and writes the report."""
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])

    assert stages == project.ran
    assert (project.root / "results/report/index.html").stat().st_size > 10_000
    assert project.ask("SELECT count(*) FROM leaks") == [(0,)]
    assert {"flat", "uppsala", "uppsala_random", "uppsala_macs"} == {
        p.parent.parent.name for p in (project.root / "results").glob("*/*/metrics.json")
    }


def test_nothing_to_do_runs_nothing(project):
    """A second `dvc repro` runs no stage and needs no board."""
    assert set() == project.repro()


def test_every_post_seen_has_decisions_that_add_up(project):
    """Each stage decides on exactly the posts that the stage before it kept."""
    rows = project.ask(
        """SELECT stage, count(DISTINCT post_id), count(DISTINCT post_id) FILTER (WHERE kept)
           FROM decisions GROUP BY stage"""
    )
    looked_at = {stage: (seen, kept) for stage, seen, kept in rows}
    order = ["decide", "download", "filters", "duplicates", "persona", "split"]

    assert set(order) == set(looked_at)
    for before, after in itertools.pairwise(order):
        assert looked_at[before][1] == looked_at[after][0], (before, after, looked_at)


def test_training_parameter_reruns_only_training(project):
    """`dvc exp run -S` with a training parameter repeats each training stage, and no data stage."""
    fewer = ("-S", "compare.fit=[uppsala]", "-S", "compare.evaluate=[flat,uppsala]")
    output = project.run("dvc", "exp", "run", "-S", "loop.epochs=2", *fewer)

    assert "Ran experiment" in output
    assert _stages(output) == TRAINING


def test_metrics_and_params_are_shown(project):
    """`dvc metrics show` and `dvc params diff` work offline."""
    assert "msr" in project.run("dvc", "metrics", "show")
    assert "loop.epochs" in project.run("dvc", "params", "diff")


def test_plots_are_drawn(project):
    """`dvc plots show` has the curves of each run, the costs, the confusions and the funnel."""
    shown = json.loads(project.run("dvc", "plots", "show", "--json"))["data"]
    report, results = "results/report", "results/*/0/curves.csv"
    curves = {str(path.relative_to(project.root)) for path in project.root.glob(results)}

    assert {f"{report}/{name}.csv" for name in ("cost", "confusion", "funnel")} | curves == set(
        shown
    )
    assert "results/flat/0/curves.csv" in curves
    for (plot,) in shown.values():
        drawn = plot["content"]
        columns = set(re.findall(r'"field": "(\w+)"', json.dumps(drawn)))
        assert drawn["data"]["values"]
        assert columns <= set(drawn["data"]["values"][0]), plot


def test_tightened_rule_runs_without_a_board(project):
    """A tighter tag rule re-runs the pipeline from `decide`, without a board."""
    before = project.ask("SELECT count(*) FROM samples")[0][0]
    project.change("decide", refuse_tags=["white_background"])

    ran = project.repro("shards")

    assert ran >= {"decide", "download"}
    assert "listing" not in ran
    manifest = json.loads((project.root / "data/shards/manifest.json").read_text())
    assert sum(manifest["samples"].values()) < before


def test_loosened_rule_downloads_only_what_it_admits(project):
    """
    After a looser rule, each newly admitted image is requested from the board once.

    Images that the tighter rule refused in between are on disk and are not requested again.
    """
    project.change("decide", refuse_tags=[], ratings=["g", "s"])
    with project.board() as url:
        ran = project.repro("shards")
        log = requests.get(
            f"{url}/demo/log.json", timeout=10, headers={"User-Agent": "personae-test"}
        )
    admitted = project.pictures() - project.downloaded

    assert "listing" not in ran
    assert admitted > 0
    assert admitted == log.json()["requests"]["cdn"]


def test_removed_post_reruns_the_stages_after_measure(project):
    """DVC sees a new rule of exclude.txt: it runs no stage before `filters`, and the sample is gone."""
    (sample, *_) = pq.read_table(project.root / "data/shards/samples.parquet").to_pylist()
    name = str(sample["post_id"])
    output = project.run(sys.executable, "-m", "curation", "remove", "post", name, "--copies")
    ran = project.repro("shards")
    left = pq.read_table(project.root / "data/shards/samples.parquet")["post_id"].to_pylist()

    assert f"exclude.txt: added `post {name}`\n" in output
    assert {"filters", "duplicates", "persona", "split", "shards"} == ran
    assert sample["post_id"] not in left


def test_changed_folder_is_listed_again(tmp_path):
    """An added, a changed and a removed image are each seen by the next `dvc repro`."""
    project = _copy(tmp_path / "personae")
    folder = tmp_path / "my images"
    for number in range(4):
        path = folder / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number, 0, 0)).save(path)
    project.change("site", name="folder", folder=str(folder))
    project.change("personae", min_images=2)
    project.change("decide", min_side=0)
    project.run("git", "init", "-q")

    def repro() -> tuple[set[str], int]:
        stages = project.repro("decide")
        decisions = project.root / "data/decide/decisions.parquet"
        return stages, pq.read_table(decisions).column("kept").to_pylist().count(True)

    assert repro() == ({"listing", "decide"}, 4)
    assert repro() == (set(), 4)
    Image.new("RGB", (64, 64), (200, 0, 0)).save(folder / "cat" / "new.png")
    assert repro() == ({"listing", "decide"}, 5)
    (folder / "cat" / "0.png").unlink()
    assert repro() == ({"listing", "decide"}, 4)


def test_two_runs_from_scratch_have_one_root_hash(project, tmp_path):
    """The data chain run again from an empty folder gives the same shards."""
    root = tmp_path / "again"
    shutil.copytree(
        project.root,
        root,
        ignore=shutil.ignore_patterns("data", "results", "work", "dvc.lock", "cache"),
    )
    again = Project(root)
    again.change("site", name=f"http://127.0.0.1:{again.port}")
    with again.board():
        again.repro("shards")

    assert project.root_hash() == again.root_hash()


def _columns(section: str) -> list[tuple[str, str]]:
    return re.findall(r"^\| `(\w+)` \| ([^|]+?)\?? \|", section, flags=re.MULTILINE)


def _plain(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        inner = "struct" if pa.types.is_struct(kind.value_type) else _plain(kind.value_type)
        return f"list<{inner}>"
    return str(kind)


def test_formats_page_matches_the_files(project):
    """Every table of docs/formats.md has the columns and types of the files of this run."""
    page = (ROOT / "docs" / "formats.md").read_text()
    sections = re.findall(
        r"^## (\S+\.parquet)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL
    )
    wrong = {}
    for name, section in sections:
        schema = pq.read_schema(project.root / name)
        written = [(field.name, _plain(field.type)) for field in schema]
        if written != _columns(section):
            wrong[name] = (written, _columns(section))

    assert len(sections) == 17
    assert wrong == {}
