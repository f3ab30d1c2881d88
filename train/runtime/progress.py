"""What a person sees while a network trains: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

log = logging.getLogger(__name__)

_LINE_SECONDS = 5.0  # between two plain lines
_plain = False


def plain() -> None:
    """Prints lines from now on, on a terminal too: several processes cannot share one bar."""
    global _plain  # noqa: PLW0603  # a process prints in one way
    _plain = True


class Progress:
    """Counts steps of one job to standard error."""

    def __init__(self, title: str, *, total: int, done: int = 0) -> None:
        """Starts at `done` of `total` steps."""
        self._title, self._total, self._done = title, total, done
        self._began = self._printed = time.monotonic()
        self._steps = 0  # in this process
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        """Opens the bar, if standard error is a terminal."""
        if sys.stderr.isatty() and not _plain:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(
                self._title, total=self._total, completed=self._done, text=""
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()

    def advance(self, steps: int = 1, *, text: str = "") -> None:
        """Counts `steps` more; `text` stands beside the bar or in the line."""
        self._done += steps
        self._steps += steps
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, text=text)
        elif time.monotonic() - self._printed >= _LINE_SECONDS:
            self._printed = time.monotonic()
            left = (self._total - self._done) * (self._printed - self._began) / self._steps
            log.info(
                "%s: %d of %d, %s, about %.0f s left",
                self._title,
                self._done,
                self._total,
                text,
                left,
            )
