"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_log = logging.getLogger("personae")


class Progress:
    """
    Counts the steps of one job and shows them, with rate and time left.

    Args:
        title: What is done, at the start of the bar or line.
        total: Number of steps; it may be changed while the job runs.
        done: Steps that an earlier run did.
        plain: Print lines on a terminal too; processes that run at once cannot share a bar.
        console: Where a bar is drawn; standard error when None.
        clock: Monotonic time in seconds.
        every_seconds: Seconds between two lines where no bar is drawn.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        done: int = 0,
        plain: bool = False,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        every_seconds: float = 5.0,
    ) -> None:
        self.total = total
        self.counts: Counter[str] = Counter()
        self._title, self._done, self._at_start = title, done, done
        self._clock, self._every_seconds = clock, every_seconds
        self._begun = self._shown = clock()
        console = console or Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=plain or not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=total, completed=done, rate="", text="")

    def __enter__(self) -> Self:
        if not self._bar.disable:
            self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if not self._bar.disable:
            self._bar.stop()

    def advance(self, outcome: str = "", *, text: str = "") -> None:
        """
        Counts one step more.

        Args:
            outcome: What came of the step; the counts of all outcomes stand beside the bar.
            text: What else stands beside the bar or in the line.
        """
        self._done += 1
        if outcome:
            self.counts[outcome] += 1
            text = self.summary()
        now = self._clock()
        per_second = (self._done - self._at_start) / max(now - self._begun, 1e-9)
        rate = f"{per_second:.1f}/s"
        if not self._bar.disable:
            self._bar.update(
                self._task, completed=self._done, total=self.total, rate=rate, text=text
            )
        elif now - self._shown >= self._every_seconds:
            self._shown = now
            _log.info(
                "%s: %d of %d, %s, %.0f s left%s",
                self._title,
                self._done,
                self.total,
                rate,
                (self.total - self._done) / max(per_second, 1e-9),
                f" ({text})" if text else "",
            )

    def summary(self) -> str:
        """Returns `outcome count` for every outcome, the most frequent first."""
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return ", ".join(f"{outcome} {count}" for outcome, count in ordered) or "nothing"
