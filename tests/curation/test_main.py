"""Tests the command line of curation: stages, locks, exit codes and one-line errors."""

import importlib
import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.__main__ import STAGES, main
from curation.options import WITH_ENGINE


def files(folder: Path) -> dict[str, bytes]:
    """Returns every file of a folder with its bytes."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_stage_runs_with_parameters_of_file_and_command_line(curated, tmp_path: Path) -> None:
    """The command line overrides params.yaml, and the effective values are stored."""
    params = tmp_path / "params.yaml"
    params.write_text("shards: {samples_per_shard: 5, seed: 3}")
    folders = ["--data", str(curated.data_dir), "--params", str(params)]
    code = main(["shards", "--samples-per-shard", "6", *folders])
    metadata = pq.read_schema(curated.data_dir / "shards" / "samples.parquet").metadata

    assert 0 == code
    assert {"samples_per_shard": 6, "seed": 3} == json.loads(metadata[b"personae.params"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "split: {tolerence: 0.2}",
            "'split.tolerence' is not a parameter. Did you mean 'tolerance'?",
        ),
        ("split: {seed: many}", "'split.seed' is 'many'"),
        ("split: {train: 0.9}", "add up to 1.3"),
        ("split: 5", "Section 'split'"),
        ("split: {", "cannot be read as YAML"),
    ],
)
def test_bad_parameters_are_one_line_and_exit_2(tmp_path, capsys, text, message) -> None:
    """Unknown, ill-typed and impossible parameters end with exit code 2, before any reading."""
    params = tmp_path / "params.yaml"
    params.write_text(text)
    code = main(["split", "--params", str(params), "--data", str(tmp_path)])

    assert 2 == code
    assert message in capsys.readouterr().err


def test_missing_input_is_exit_5(tmp_path: Path, capsys) -> None:
    """A stage without its inputs ends with exit code 5 and says which stage to run."""
    params = tmp_path / "params.yaml"
    params.write_text("")
    code = main(["split", "--params", str(params), "--data", str(tmp_path)])

    assert 5 == code
    assert "stage 'persona' writes it" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["split", "--nosuch", "1"], ["get"]])
def test_wrong_usage_is_exit_2(arguments: list[str], capsys) -> None:
    """Wrong usage ends with exit code 2, and one line gives the help page to read."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    err = capsys.readouterr().err

    assert 2 == caught.value.code
    assert err.startswith("error: ")
    assert "Run `python -m curation" in err
    assert 1 == len(err.splitlines())


def test_option_before_the_command_is_explained(capsys) -> None:
    """An option that comes first is no unknown command: the message says what comes first."""
    with pytest.raises(SystemExit):
        main(["--limit", "5", "query", "SELECT 1"])

    assert "A command comes first, then its options." in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [*STAGES, "query", "get", "verify", "browse", "remove", "keep", "diff"]
)
def test_every_command_explains_itself(command: str, capsys, monkeypatch) -> None:
    """`--help` of each command exits with 0, fits on a screen, and shows an example."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    out = capsys.readouterr().out

    assert 0 == caught.value.code
    assert ("OLD NEW" if command == "diff" else "--data DIR") in out
    assert f"example:\n  python -m curation {command}" in out
    assert len(out.splitlines()) <= 50


def test_help_teaches_by_examples(capsys) -> None:
    """The help shows commands to copy, and the exit codes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out

    assert 'python -m curation query "SELECT * FROM funnel"' in out
    assert "exit codes" in out
    assert all(stage in out for stage in STAGES)


def test_stages_leave_the_same_bytes_as_before(curated, tmp_path: Path) -> None:
    """Running split and shards again from the command line changes no byte."""
    before = {name: files(curated.data_dir / name) for name in ("split", "shards")}
    params = tmp_path / "params.yaml"
    params.write_text(
        "split: {train: 0.4, val: 0.3, test: 0.3, tolerance: 1, seed: 2}\n"
        "shards: {samples_per_shard: 10}\n"
    )
    for stage in before:
        assert 0 == main([stage, "--data", str(curated.data_dir), "--params", str(params)])

    assert before == {name: files(curated.data_dir / name) for name in before}


# A stage that starts, then waits until its standard input closes.
BEGUN = """
import importlib, sys
from curation.__main__ import main

module = importlib.import_module(f"curation.{sys.argv[1]}")
run = module.run

def waiting(*arguments, **keywords):
    print("begun", flush=True)
    sys.stdin.read()
    return run(*arguments, **keywords)

module.run = waiting
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("stage", STAGES)
def test_second_run_of_a_stage_is_refused(curated, tmp_path: Path, capsys, stage: str) -> None:
    """While a stage runs, a second run of it ends with exit code 3; the first finishes."""
    before = files(curated.data_dir / stage)
    params = tmp_path / "params.yaml"
    params.write_text(
        "persona: {min_samples: 5, balance: none}\n"
        "split: {train: 0.4, val: 0.3, test: 0.3, tolerance: 1, seed: 2}\n"
        "shards: {samples_per_shard: 10}\n"
        "measure: {workers: 1}\n"
    )
    options = ["--data", str(curated.data_dir), "--work", str(tmp_path / "work")]
    command = [stage, *options, "--params", str(params)]
    with subprocess.Popen(
        [sys.executable, "-c", BEGUN, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        assert "begun\n" == first.stdout.readline()
        capsys.readouterr()
        code = main(command)
        errors = capsys.readouterr().err.splitlines()
        during = files(curated.data_dir / stage)
        first.communicate("")

    assert 3 == code
    assert before == during
    (error,) = (line for line in errors if line.startswith("error"))
    assert error.startswith(f"error: Another run is writing to {curated.data_dir}: ")
    assert f"{stage} --data {curated.data_dir} " in error
    assert f"(process {first.pid})" in error or sys.platform != "linux"
    assert 0 == first.returncode
    if stage != "catalog":  # DuckDB files are compared by query, not by bytes
        assert before == files(curated.data_dir / stage)


def test_two_runs_at_once_leave_the_result_of_a_single_run(curated, tmp_path: Path) -> None:
    """If two processes start together, one writes everything; the other may be refused."""
    before = files(curated.data_dir / "measure")
    options = ["--data", str(curated.data_dir), "--work", str(tmp_path / "work"), "--workers", "1"]
    command = [sys.executable, "-m", "curation", "measure", *options]
    runs = []
    for _ in range(2):
        runs.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        time.sleep(0.2)
    errors = [run.communicate()[1] for run in runs]
    codes = sorted(run.returncode for run in runs)

    assert codes in ([0, 0], [0, 3])
    assert "Traceback" not in "".join(errors)
    assert before == files(curated.data_dir / "measure")


def test_stage_begins_anew_where_its_output_was_removed(curated, tmp_path: Path) -> None:
    """If DVC removes the output folder before a run, the stage creates and locks it again."""
    before = files(curated.data_dir / "filters")
    for path in (curated.data_dir / "filters").iterdir():
        path.unlink()
    (curated.data_dir / "filters").rmdir()
    code = main(["filters", "--data", str(curated.data_dir), "--work", str(tmp_path)])

    assert 0 == code
    assert before == files(curated.data_dir / "filters")


@pytest.mark.parametrize("stage", STAGES)
def test_stages_have_one_signature(stage: str) -> None:
    """The function `run` of every stage has the parameters `params, *, data_dir, work_dir`."""
    run = importlib.import_module(f"curation.{stage}").run
    engine = ["engine"] if stage in WITH_ENGINE else []

    assert ["params", "data_dir", "work_dir", *engine] == list(inspect.signature(run).parameters)
