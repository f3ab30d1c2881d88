"""Progress of a stage on standard error: a bar on a terminal, a line every few seconds elsewhere."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_log = logging.getLogger(__name__)


class Progress:
    """
    Counts outcomes and shows them while a stage runs, with rate and time left.

    Args:
        stage: Name of the stage.
        total: How many things there are to do.
        console: Where a bar would be drawn.
        clock: Seconds that only grow.
        every_seconds: Time between two lines where there is no terminal.
    """

    def __init__(
        self,
        stage: str,
        total: int,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        every_seconds: float = 5.0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._stage = stage
        self.total = total
        self._clock = clock
        self._every_seconds = every_seconds
        self._begun = self._shown = clock()
        console = console or Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[counts]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(stage, total=total, rate="", counts="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def advance(self, outcome: str) -> None:
        """Counts one thing done, under its outcome."""
        self.counts[outcome] += 1
        done, now = self.counts.total(), self._clock()
        rate = done / max(now - self._begun, 1e-9)
        shown = f"{rate:.1f}/s"
        if not self._bar.disable:
            self._bar.update(self._task, completed=done, rate=shown, counts=self.summary())
        elif now - self._shown >= self._every_seconds:
            self._shown = now
            _log.info(
                "%s: %d of %d, %s, %.0f s left (%s)",
                self._stage,
                done,
                self.total,
                shown,
                (self.total - done) / rate,
                self.summary(),
            )

    def summary(self) -> str:
        """`outcome count` of every outcome, the most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return ", ".join(f"{outcome} {count}" for outcome, count in ordered) or "nothing"
