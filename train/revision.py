"""The commit of the program, recorded with every figure."""

import subprocess
from pathlib import Path


def commit() -> str:
    """
    Returns the short hash of the checked-out commit, with `+` if Python files differ from it.

    Outside of a git checkout the result is empty.
    """
    try:
        head, changed = _git("rev-parse", "--short", "HEAD"), _git("status", "--short", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if any(line.endswith(".py") for line in changed.splitlines()) else "")


def day() -> str:
    """Returns the day of the checked-out commit, as 2026-11-29; empty outside of a git checkout."""
    try:
        return _git("show", "--no-patch", "--format=%cs", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603  # fixed arguments
        ["git", *arguments],  # noqa: S607  # git is where the user has it
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
