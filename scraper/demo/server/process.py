"""The demo board as a child process that ends with a block of code, or with this process."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scraper.errors import ScraperError

_ANNOUNCED = "Demo board at "
"""Start of the child's first line of output; the URL follows."""
_STOP_SECONDS = 10.0
"""Longest wait for the child to end before it is killed."""


@contextlib.contextmanager
def running(params_path: Path | None, *, options: Sequence[str] = ()) -> Iterator[str]:
    """
    Runs a demo board in a child process and yields its base URL, such as `http://127.0.0.1:40001`.

    The child ends when its standard input closes. The operating system closes it even if this
    process is killed. Ctrl-C on a terminal reaches this process alone, which then kills the child:
    the board has nothing to save.

    Args:
        params_path: File whose section `demo` the child reads; None means `params.yaml` of the
            working directory, if there is one.
        options: Further command-line options of the board, such as `("--rate", "0")`.

    Raises:
        ScraperError: The board did not start. The child has written the reason to standard error.
    """
    command = [sys.executable, "-m", "scraper.demo", "--until-stdin-closes"]
    if params_path is not None:
        command += ["--params", str(params_path)]
    with subprocess.Popen(  # noqa: S603 - our own module with our own options
        [*command, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdin is not None, "Popen got stdin=PIPE"  # noqa: S101  # our own mistake
        assert child.stdout is not None, "Popen got stdout=PIPE"  # noqa: S101  # our own mistake
        try:
            line = child.stdout.readline()
            if not line.startswith(_ANNOUNCED):
                raise ScraperError(
                    f"The demo board did not start (exit code {child.wait(_STOP_SECONDS)}): "
                    "see its message above, and section 'demo' of params.yaml."
                )
            yield line.removeprefix(_ANNOUNCED).strip()
        except KeyboardInterrupt:
            child.kill()
            raise
        finally:
            child.stdin.close()
            try:
                child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
