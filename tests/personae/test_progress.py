"""Tests the progress display: a bar on a terminal, log lines elsewhere."""

import io
import logging

from rich.console import Console

from personae.progress import Progress


def test_progress_shows_rate_time_left_and_counts():
    """A terminal shows a bar; other outputs get a line every few seconds with counts by reason."""
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Progress("download", 4, console=terminal) as progress:
        for outcome in ("stored", "stored", "gone"):
            progress.advance(outcome)

    shown = terminal.file.getvalue()
    assert all(text in shown for text in ("3/4", "/s", "stored 2, gone 1"))


def test_progress_without_a_terminal_is_a_line_now_and_then(caplog):
    """Without a terminal, a line appears at a fixed interval, not at every image."""
    now = [0.0]
    plain = Console(file=io.StringIO(), force_terminal=False)
    with (
        caplog.at_level(logging.INFO),
        Progress("download", 40, console=plain, clock=lambda: now[0]) as progress,
    ):
        for _ in range(20):
            now[0] += 0.5
            progress.advance("stored")

    assert [
        "download: 10 of 40, 2.0/s, 15 s left (stored 10)",
        "download: 20 of 40, 2.0/s, 10 s left (stored 20)",
    ] == caplog.messages
    assert "" == plain.file.getvalue()
