"""Which version of the program made a figure."""

import subprocess


def commit() -> str:
    """Returns the short hash of the checkout, with `+` where files differ from it; else nothing."""
    # Outside a git checkout the figures are still worth keeping; they then name no commit.
    try:
        head, changed = (_git("rev-parse", "--short", "HEAD"), _git("status", "--short", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return ""
    code = [line for line in changed.splitlines() if line.endswith(".py")]
    return head + ("+" if code else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603  # fixed commands, nothing from outside
        ["git", *arguments],  # noqa: S607  # git is where the user has it
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()
