"""Tests error reporting: the same failure gives the same message and exit code in all commands."""

import argparse
import errno
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from personae import cli, interrupt
from personae.errors import (
    AlreadyRunning,
    BadParams,
    DiskRefused,
    Exit,
    MissingInput,
    PersonaeError,
)
from scraper.errors import ConnectionLost, CorruptImage, NotAuthorised, Unfinished

COMMANDS = {
    "scraper": ["listing"],
    "curation": ["measure"],
    "train": ["clustering"],
}


def fail_with(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (BadParams("a"), 2, ["a"]),
        (MissingInput("a"), 5, ["a"]),
        (AlreadyRunning("a"), 3, ["a"]),
        (DiskRefused("a"), 3, ["a"]),
        (ExceptionGroup("", [ConnectionLost("a"), ConnectionLost("a")]), 3, ["a"]),
        (
            ExceptionGroup("", [ConnectionLost("a"), ExceptionGroup("", [NotAuthorised("b")])]),
            4,
            ["a", "b"],
        ),
        (ExceptionGroup("", [CorruptImage("a"), Unfinished("b")]), 5, ["a", "b"]),
        (
            OSError(errno.ENOSPC, "No space left on device", "f.tar"),
            3,
            ["f.tar could not be read or written: No space left on device. Free space"],
        ),
        (
            IsADirectoryError(errno.EISDIR, "Is a directory", "/tmp"),
            2,
            ["/tmp is a folder, and the name of a file is needed, such as /tmp/NAME."],
        ),
        (
            FileExistsError(errno.EEXIST, "File exists", "f"),
            3,
            ["f could not be read or written: File exists. Check the path"],
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "f/g"),
            2,
            ["f/g could not be read or written: Not a directory. Check the path"],
        ),
        (OSError(errno.EMFILE, "Too many open files"), 3, ["A file could not be read or written"]),
        (KeyboardInterrupt(), 3, ["Interrupted. What is finished is saved."]),
    ],
)
def test_each_cause_is_one_line(error, code, lines, capsys):
    """An exception group gives one line per distinct cause, and the most serious exit code."""
    interrupt.gracefully()
    assert code == cli.run(fail_with(error))

    err = capsys.readouterr().err.splitlines()
    assert len(lines) == len(err)
    for line, start in zip(err, lines, strict=True):
        assert line.startswith(f"error: {start}")


def test_defect_keeps_its_traceback():
    """An unexpected exception is raised with its traceback."""
    with pytest.raises(ZeroDivisionError):
        cli.run(fail_with(ZeroDivisionError()))


def test_package_of_an_extra_is_named_with_the_command_that_installs_it(capsys):
    """If the package of an extra is missing, one line gives the command that installs the extra."""
    for module, extra in (("duckdb", "curation"), ("aiohttp", "scraper"), ("torch", "train")):
        error = ModuleNotFoundError(f"No module named '{module}'", name=module)
        assert 2 == cli.run(fail_with(error))
        assert f"pip install 'personae[{extra}]'" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError):
        cli.run(fail_with(ModuleNotFoundError("No module named 'zzz'", name="zzz")))


def test_whole_number_has_64_bits():
    """A number of an option, and the one after it, fit in 64 bits."""
    assert 10**18 - 1 == cli.whole_number("9" * 18)
    for text in ("9" * 19, "-1", "1.5", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number"):
            cli.whole_number(text)


def test_no_failure_gives_zero():
    """A command that succeeds gives exit code 0."""
    assert 0 == cli.run(lambda: None)


def test_reader_that_leaves_is_no_failure():
    """`python -m ... | head` ends with code 0 and without a message."""
    program = (
        "import sys; from personae import cli\n"
        "def work():\n"
        "    for _ in range(100_000): print('line')\n"
        "sys.exit(cli.run(work))"
    )
    piped = subprocess.run(
        ["sh", "-c", f'{{ "{sys.executable}" -c "$0"; echo $? >&2; }} | head -1', program],
        capture_output=True,
        check=False,
    )

    assert (b"line\n", b"0\n") == (piped.stdout, piped.stderr)


def _run(package: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", package, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent.parent)},
    )


def _errors(package: str, *arguments: str, cwd: Path) -> tuple[int, list[str]]:
    done = _run(package, *arguments, cwd=cwd)
    return done.returncode, [line for line in done.stderr.splitlines() if "error:" in line]


def test_same_failure_gives_the_same_words_and_code(tmp_path):
    """A missing, broken or misspelt parameter file gives the same error in all commands."""
    (tmp_path / "broken.yaml").write_text("{unclosed")
    (tmp_path / "list.yaml").write_text("- a")
    section = {"scraper": "listing", "curation": "measure", "train": "clustering"}
    for package, name in section.items():
        (tmp_path / f"{package}.yaml").write_text(f"{name}: {{zzzz: 1}}")
    seen = {}
    for package, command in COMMANDS.items():
        seen[package] = [
            _errors(package, *command, "--params", name, cwd=tmp_path)
            for name in ("none.yaml", "broken.yaml", "list.yaml")
        ]
        code, lines = _errors(package, *command, "--params", f"{package}.yaml", cwd=tmp_path)
        assert (2, 1) == (code, len(lines))
        assert f"'{section[package]}.zzzz' is not a parameter." in lines[0]

    assert seen["scraper"] == seen["curation"] == seen["train"]
    assert [2, 2, 2] == [code for code, _ in seen["train"]]
    assert all(len(lines) == 1 and lines[0].startswith("error: ") for _, lines in seen["train"])


@pytest.mark.parametrize(
    "command",
    [
        ("scraper", "status"),
        ("curation", "verify"),
        ("curation", "query", "1"),
        ("train", "results"),
    ],
)
def test_absent_file_of_parameters_is_refused_where_none_is_read(command, tmp_path):
    """A command that reads no parameter refuses an absent file of them like every other."""
    code, lines = _errors(*command, "--params", "none.yaml", cwd=tmp_path)

    assert (2, 1) == (code, len(lines))
    assert "none.yaml does not exist. Name a file of parameters" in lines[0]


@pytest.mark.parametrize("package", COMMANDS)
def test_misspelt_option_names_the_nearest(package, tmp_path):
    """A misspelt option is one line with code 2 that suggests the nearest option."""
    code, lines = _errors(package, *COMMANDS[package], "--dta", "x", cwd=tmp_path)

    assert (2, 1) == (code, len(lines))
    assert "unrecognized arguments: --dta x. Did you mean '--data'?" in lines[0]


@pytest.mark.parametrize(
    ("package", "wrong", "right"),
    [("curation", "mesure", "measure"), ("train", "evaluat", "evaluate")],
)
def test_misspelt_command_names_the_nearest(package, wrong, right, tmp_path):
    """A misspelt command is wrong usage, and the error suggests the nearest command."""
    code, lines = _errors(package, wrong, cwd=tmp_path)

    assert (2, 1) == (code, len(lines))
    assert f"Did you mean '{right}'?" in lines[0]


@pytest.mark.parametrize("package", COMMANDS)
def test_help_ends_with_the_exit_codes(package, tmp_path):
    """The help of every command ends with the same line of exit codes."""
    done = _run(package, "--help", cwd=tmp_path)

    assert 0 == done.returncode
    assert done.stdout.rstrip().endswith(
        "exit codes: 0 done, 2 wrong usage, parameter or query, 3 unfinished but resumable, "
        "4 stopped by the board's policy, 5 bad or missing data"
    )


def test_codes_are_those_of_the_documentation():
    """docs/exit-codes.md has exactly one row for each exit code."""
    page = Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md"
    rows = dict(re.findall(r"^\| (\d) \| ([^|]+?) \|", page.read_text(), flags=re.MULTILINE))

    assert {str(int(code)): code.meaning for code in Exit} == rows


def test_every_error_has_a_code_of_the_table():
    """All errors of the three packages derive from one class and have an exit code of the table."""
    for package in COMMANDS:
        errors = vars(importlib.import_module(f"{package}.errors"))
        own = [e for e in errors.values() if isinstance(e, type) and issubclass(e, Exception)]
        assert own
        for error in own:
            assert issubclass(error, PersonaeError)
            assert error.exit_code in set(Exit) - {Exit.DONE}


@pytest.mark.parametrize("package", COMMANDS)
def test_commands_run_outside_a_checkout(package, tmp_path):
    """Without params.yaml, the defaults apply, and only the absent input is reported."""
    command = {"scraper": ["decide"], "curation": ["filters"], "train": ["evaluate", "flat"]}[
        package
    ]
    done = _run(package, *command, cwd=tmp_path)
    code, lines = done.returncode, done.stderr.splitlines()[-2:]

    stage = {"scraper": "listing", "curation": "measure", "train": "flat"}[package]
    assert 5 == code
    assert lines[0].endswith(f"stage '{stage}' writes it. Run that stage first:")
    assert f"  python -m {package} {stage}" == lines[1]
