"""
Ctrl-C without a traceback: at once while a program starts, and within a bound while it works.

`at_once` comes before the imports of a command, `gracefully` before its work. A program that
ignores Ctrl-C, as a shell's background job does, and a program that calls our functions keep what
they have.
"""

import os
import signal
import types

MESSAGE = (
    "Interrupted. What is finished is saved. Run the same command again to continue from there."
)
START = "Interrupted before the work began. Run the same command again."
ANEW = "Interrupted before the end. The same command begins anew."
_UNFINISHED = 3  # `Exit.UNFINISHED`; this module imports little, so that it is loaded at once
_notice = types.SimpleNamespace(text=MESSAGE, is_printed=False)


def at_once() -> None:
    """From now on, Ctrl-C prints `START` and ends the process, wherever it is."""
    _notice.text = START
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def gracefully(*, within: float | None = None, continues: bool = True) -> None:
    """
    From now on, Ctrl-C raises `KeyboardInterrupt`, as Python does by default.

    Args:
        continues: Whether the same command continues where it stopped: the message is `MESSAGE`, else
            `ANEW`.
        within: For work that may be killed at any moment: seconds after which the process ends even
            if a library does not return to Python. A second Ctrl-C ends it at once.
    """
    _notice.text = MESSAGE if continues else ANEW
    if signal.getsignal(signal.SIGINT) is not _end:
        return
    if within is None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return
    import threading

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # Python writes the signal's number here as it arrives, even while a library computes.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_after, args=(reader, within), daemon=True).start()
    signal.signal(signal.SIGINT, _interrupt)


def announced() -> str:
    """Returns the message, which the caller prints: it is not printed again."""
    _notice.is_printed = True
    return str(_notice.text)


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    signal.signal(signal.SIGINT, _end)
    raise KeyboardInterrupt


def _end(_number: int = 0, _frame: types.FrameType | None = None) -> None:
    try:
        if not _notice.is_printed:
            os.write(2, f"error: {_notice.text}\n".encode())
    finally:
        os._exit(_UNFINISHED)


def _end_after(reader: int, seconds: float) -> None:
    """Waits for Ctrl-C, and ends the process `seconds` later."""
    import time

    while os.read(reader, 1) != bytes([signal.SIGINT]):
        pass
    time.sleep(seconds)
    _end()
