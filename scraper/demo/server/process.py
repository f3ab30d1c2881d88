"""The demo board as a child process: started for a while, gone when its parent is."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scraper.errors import ScraperError

_ANNOUNCED = "Demo board at "
_PATIENCE_SECONDS = 10.0


@contextlib.contextmanager
def running(params_path: Path | None, *, options: Sequence[str] = ()) -> Iterator[str]:
    """
    Runs a demo board and yields its base URL.

    The child reads section `demo` of `params_path` (by default that of the current directory) and
    the further command-line `options`. It ends when its standard input closes, which the system
    does for it even when this process is killed.

    Raises:
        ScraperError: The board did not start; its own message is on standard error.
    """
    command = [sys.executable, "-m", "scraper.demo", "--until-stdin-closes"]
    if params_path is not None:
        command += ["--params", str(params_path)]
    with subprocess.Popen(  # noqa: S603 - our own module with our own options
        [*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None, "a pipe was asked for"  # noqa: S101  # our own mistake
        assert child.stdout is not None, "a pipe was asked for"  # noqa: S101  # our own mistake
        try:
            line = child.stdout.readline()
            if not line.startswith(_ANNOUNCED):
                raise ScraperError(
                    f"The demo board did not start (exit code {child.wait(_PATIENCE_SECONDS)}): "
                    "see its message above, and section 'demo' of params.yaml."
                )
            yield line.removeprefix(_ANNOUNCED).strip()
        finally:
            child.stdin.close()
            try:
                child.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
