"""
Tests that every command of README and docs runs, page by page, on a small build of the demo.

`dvc repro TARGET` runs the commands of its stages in order, without DVC: tests/test_chain.py runs the
real one. Numbers that only fit the whole demo are replaced by those of the small build. A block that
no test can run is marked in the page with its reason and counted here, and its commands are parsed.
"""

import contextlib
import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

import curation.options
import scraper.options
import train.options
from personae.stages import COMMANDS as STAGES
from scraper.demo import command as demo_command
from scraper.demo.server import process
from tests.docs_blocks import COMMANDS, DATA, PAGES, ROOT, blocks, unlike
from train.backbone import vision

BLOCKS = {page: list(blocks(page)) for page in PAGES}
TEXTS = {page: path.read_text(encoding="utf-8") for page, path in PAGES.items()}
UNRUN = [block for page in PAGES for block in BLOCKS[page] if block.reason]
NEEDY = [block for page in PAGES for block in BLOCKS[page] if block.needs]
RUN = [page for page in PAGES if any(b.is_command and not b.reason for b in BLOCKS[page])]
NOT_RUN = {
    "README.md": 2,  # make repro and make test; dvc exp run
    "docs/browse.md": 1,
    "docs/demo-board.md": 2,
    "docs/exports.md": 1,
    "docs/howto/board.md": 4,
    "docs/howto/cluster.md": 4,
    "docs/howto/dump.md": 1,
    "docs/howto/gpu.md": 6,
    "docs/howto/method.md": 2,
    "docs/howto/storage.md": 6,
    "docs/install.md": 3,
    "docs/noise.md": 2,
    "docs/pipeline.md": 1,
    "docs/selections.md": 1,
    "docs/tutorial.md": 2,
}
"""Blocks that no test runs, by page. A new one needs a reason that a reviewer accepts."""
SMALL = {
    "demo": {"posts_large": 24, "posts_small": 24, "posts_minor": 4, "rate": 0},
    "site": {"api_rate": 1000},
    "personae": {"min_images": 10, "max_images": None, "labels": 6, "include": []},
    "decide": {"min_side": 0},
    "measure": {"workers": 1},
    "duplicates": {"workers": 1},
    "persona": {"min_samples": 10},
    "split": {"tolerance": 0.5},
    "backbone": {"width": 0.125},
    "loop": {"epochs": 1, "min_updates": None, "precision": "float32", "threads": 1},
    "uppsala": {"root_epochs": 1, "subnetwork_epochs": 1},
    "clustering": {"bootstrap": 1},
    "evaluate": {"latency_calls": 2, "latency_warm_up": 1},
    "compare": {"fit": ["uppsala"], "evaluate": ["flat", "uppsala"]},
}
"""Parameters of the small build, and of every preset that a page takes."""
LINKED = ("Makefile", "docs", "dvc.yaml", "experiments")
"""What a command may read of the repository."""
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


def run(*arguments):
    """Runs a command of one of our programs in this process, and returns its exit code."""
    program = importlib.import_module(f"{arguments[0]}.__main__")
    try:
        return program.main(arguments[1:])
    except SystemExit as end:
        return end.code or 0


def small(preset):
    """Writes a preset with the values of the small build."""
    params = yaml.safe_load((ROOT / "presets" / preset).read_text())
    for section, values in SMALL.items():
        params[section] = {**params[section], **values}
    return yaml.safe_dump(params, sort_keys=False)


def repro(until):
    """
    Runs the stages up to `until` in their order.

    With the parameters of the time before, it begins with the first stage that reads `exclude.txt`.
    """
    params, before = Path("params.yaml").read_text(), Path(".params")
    is_same = before.exists() and before.read_text() == params
    before.write_text(params)
    names = list(STAGES)
    for stage in names[names.index("filters") if is_same else 0 :]:
        if stage == "control":  # section `compare` names none
            continue
        for name in ("flat", "uppsala") if stage == "evaluate" else ("uppsala",):
            line = STAGES[stage].replace("RUN", name).split()[2:]
            assert 0 == run(*line), line
        if stage == until:
            return


@pytest.fixture(autouse=True, scope="module")
def _no_sync():
    """Skips fsync: only a power failure loses data that was not synced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _handle: None)
        yield


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Runs one demo board for all commands that start one."""
    params = tmp_path_factory.mktemp("board") / "params.yaml"
    params.write_text(small("demo.yaml"))
    with process.running(params) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "running", lambda _params: contextlib.nullcontext(url))
        yield url


@pytest.fixture(scope="module")
def build(_no_sync, board, tmp_path_factory):
    """Returns a folder in which every stage but the report has run, as after `make repro`."""
    folder = tmp_path_factory.mktemp("build")
    (folder / "presets").mkdir()
    for path in (ROOT / "presets").glob("*.yaml"):
        (folder / "presets" / path.name).write_text(small(path.name))
    shutil.copy(folder / "presets/demo.yaml", folder / "params.yaml")
    shutil.copy(ROOT / "exclude.txt", folder)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    with contextlib.chdir(folder):
        repro("evaluate")
        assert 0 == run("curation", "export", "folder", "my/images")
    return folder


@pytest.fixture
def project(build, tmp_path, monkeypatch):
    """Returns a copy of the build, which is the current folder."""
    folder = tmp_path / "personae"
    shutil.copytree(build, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


@pytest.fixture
def values(project):
    """Returns the values of the pages that fit the whole demo alone, with those of the build."""
    samples = pq.read_table("data/shards/samples.parquet").to_pylist()
    first = min(samples, key=lambda row: (row["split"] != "train", row["shard"], row["offset"]))
    return {
        "10051": str(first["post_id"]),
        "1234": str(first["post_id"]),
        "marigold_wickett": first["label"],
        "--min-images 1000": "--min-images 10",
        "folder/": "my/images/test",
    }


@functools.cache  # a page that another page has started
def serve(line):
    """Starts a command that serves a page until it is stopped, and returns its output."""
    with subprocess.Popen(
        ["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        printed = server.stdout.readline()
        server.terminate()
    assert ADDRESS.search(printed), line
    return printed


def shell(line, capsys):
    """Runs a line of a shell block, and returns what it prints."""
    words = shlex.split(line, comments=True)
    assert not {"danbooru", "--contact"} & set(words), "a test sends nothing to a public host"
    target = words[words.index(">") + 1] if ">" in words else None
    command = words[: words.index(">")] if target else words
    if command[:2] == ["dvc", "repro"]:
        repro(*command[2:])
        return capsys.readouterr().out
    if words[0].startswith("personae-"):
        command = ["python", "-m", words[0].removeprefix("personae-"), *command[1:]]
    if command[3:4] in (["browse"], ["demo"]):
        return serve(" ".join(["exec", *words, "--port", "0"]))  # the default may be in use
    if command[:2] == ["python", "-m"] and not {"|", ">>", "&&", ";"} & set(words):
        code = run(*command[2:])
        out, err = capsys.readouterr()
        if target:
            Path(target).write_text(out)
    else:
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    assert 0 == code, f"{line}\n{out[-2000:]}\n{err[-2000:]}"
    return out


def printed_by(block, namespace, capsys):
    """Runs a block, and returns what it prints."""
    if block.language == "sh":
        return "".join(shell(line, capsys) for line in block.lines())
    if block.language == "sql":
        assert 0 == run("curation", "query", block.text)
    else:
        if "torchvision" in block.text:
            vision.torchvision()  # its wheels alone do not load beside a CPU build
        exec(compile(block.text, f"{block.page}:{block.line}", "exec"), namespace)
    return capsys.readouterr().out


# webdataset leaves its files open when a reader stops early.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("page", RUN)
def test_commands_of_a_page_run(page, project, values, capsys):
    """Each block of the page runs in order, and prints the lines that the page shows below it."""
    namespace = {"__name__": "__main__"}
    for block in BLOCKS[page]:
        if block.is_command and not block.reason and not block.missing:
            for value, small_value in values.items():
                block = block.with_value(value, small_value)  # noqa: PLW2901  # the same block
            printed = printed_by(block, namespace, capsys)
            assert [] == unlike(block.output, printed), f"{page}:{block.line}\n{printed}"


def test_no_block_escapes():
    """Every block has a language that is run or shown, and only the counted ones are not run."""
    skipped = {page: sum(bool(each.reason) for each in BLOCKS[page]) for page in PAGES}
    fences = {page: len(re.findall(r"^ *```", text, re.MULTILINE)) for page, text in TEXTS.items()}
    needed = Counter(name for each in NEEDY for name in each.needs)
    languages = {each.language for page in PAGES for each in BLOCKS[page]}

    assert {page: count for page, count in skipped.items() if count} == NOT_RUN
    assert needed == {"datasets": 2, "pandas": 1, "fiftyone": 1}
    assert languages <= {*COMMANDS, *DATA}
    for page in PAGES:
        assert fences[page] == 2 * sum(1 + bool(each.output) for each in BLOCKS[page]), page
        assert TEXTS[page].count("<!-- not run: ") == skipped[page], page


@pytest.mark.parametrize("block", NEEDY, ids=lambda block: f"{block.page}:{block.line}")
def test_block_for_other_packages_is_python(block):
    """A block that needs packages of others is Python that imports them; its page runs it if it can."""
    compile(block.text, block.page, "exec")
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", block.text, re.MULTILINE))

    assert set(block.needs) <= imported
    if block.missing:
        pytest.skip(f"not installed: {', '.join(block.missing)}")


@pytest.mark.parametrize("block", UNRUN, ids=lambda block: f"{block.page}:{block.line}")
def test_reason_names_a_test_that_exists(block):
    """A test that a reason names is in the repository."""
    named = re.findall(r"tests/[\w/]+\.py", block.reason)

    assert [path for path in named if not (ROOT / path).is_file()] == []


def _words(line):
    """Returns the words that our program gets in a line of a shell block, or None."""
    words = shlex.split(line, comments=True)
    for end in ("&", ">", "|", ">>"):
        words = words[: words.index(end)] if end in words else words
    if "-m" not in words or not {"python", "torchrun"} & set(words):
        return None
    return words[words.index("-m") + 1 :]


@pytest.mark.parametrize("line", sorted({line for b in UNRUN for line in b.lines()}))
def test_command_that_is_not_run_is_parsed(line, monkeypatch, capsys):
    """The parser of the program takes every option of the line; a stage of DVC and a target exist."""
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    if (ours := _words(line)) is not None:
        parse(*ours)
    if words[:2] == ["dvc", "repro"]:
        assert set(words[2:]) <= set(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def parse(program, *arguments):
    """Gives a command line to the parser of its program, which runs nothing."""
    if (program, *arguments[:1]) == ("scraper", "demo"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(demo_command, "_serve_until_stopped", lambda _options: None)
            assert 0 == run(program, *arguments)
    elif program == "scraper":
        is_named = arguments[:1] and arguments[0] in scraper.options.SECTIONS
        command = arguments[0] if is_named else ""
        scraper.options.parse(command, arguments[1:] if is_named else arguments)
    elif program == "curation":
        curation.options.parser(arguments).parse_args(arguments)
    elif program == "train":
        train.options.parse(arguments)


def test_folders_that_the_documents_make_are_ignored_by_git():
    """Whoever tries the commands in a clone has no foreign folder in `git status` afterwards."""
    made = re.compile(r"(?:--data|--out|curation export \w+|mv results|cp -r data) ([\w-]+)[\s/]")
    text = "".join(block.text for page in PAGES for block in BLOCKS[page] if block.is_command)
    folders = {f"{name}/" for name in made.findall(text)}
    command = ["git", "check-ignore", *folders]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert {"my-images/", "my-data/", "from-dump/", "old/"} <= folders
    assert folders == set(ignored.stdout.split())
