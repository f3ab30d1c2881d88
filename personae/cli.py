"""
The command line that the three commands share: parser, options, logging, messages, exit codes.

The same failure gives the same message and the same exit code in each command.
"""

import argparse
import atexit
import errno
import gc
import importlib.metadata
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from personae import engine, interrupt
from personae.errors import EXIT_HELP, BadParams, Exit, PersonaeError
from personae.settings import near_miss
from personae.text import is_utf8, printable

log = logging.getLogger("personae")

FOLDERS: Final = {
    "data": "tables and shards",
    "results": "trained runs",
    "work": "unfinished work, to continue it",
    "experiments": "recorded figures",
}
"""What each folder option names; the default of the option is its own name."""

_OWN_EXTRAS = ("scraper", "curation", "train", "export")
_WRONG_PATH = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_OTHER_PATH = (errno.ENOENT, errno.EEXIST, errno.EINVAL)  # the path may be right another time
_MOST_DIGITS = 18  # of an option: such a number and the next one have 64 bits
# The most serious first, where one run fails in several ways.
_MOST_SERIOUS = (Exit.POLICY, Exit.BAD_DATA, Exit.USAGE, Exit.UNFINISHED)


class Parser(argparse.ArgumentParser):
    """A parser that names the nearest known option or command when one is unknown."""

    def __init__(self, *, words: Sequence[str] = (), **keywords: Any) -> None:
        """Takes what argparse takes, and further `words` that may be meant, such as commands."""
        self._words = tuple(words)
        keywords.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        keywords.setdefault("allow_abbrev", False)
        super().__init__(**keywords)

    def error(self, message: str) -> NoReturn:
        """Prints one line to standard error and exits with the code of wrong usage."""
        hint = ""
        if message.startswith("unrecognized arguments: "):
            wrong = message.split()[2].split("=", maxsplit=1)[0]
            known = sorted(set(self._known()))
            is_late = wrong in known
            hint = " A command comes first." if is_late else near_miss(wrong, known, least=0.6)
        elif "invalid choice: " in message:
            wrong = message.split("invalid choice: ")[1].split("'")[1]
            hint = near_miss(wrong, sorted(set(self._known())), least=0.6)
            if "argument COMMAND:" in message and not hint:
                hint = " A command comes first, then its options."
        message = message.rstrip(".")
        self.exit(
            Exit.USAGE,
            f"error: {message}.{hint} Run `{self.prog} --help` to see every option.\n",
        )

    def _known(self) -> Iterator[str]:
        """Yields every option, command and choice of this parser and of its commands."""
        yield from self._words
        for action in self._actions:
            yield from action.option_strings
            if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # argparse names no other type
                for name, parser in action.choices.items():
                    yield name
                    yield from parser._known()  # noqa: SLF001  # of this class
            elif action.choices:
                yield from map(str, action.choices)


def with_exit_codes(text: str) -> str:
    """Returns the end of a help page: `text`, then the exit codes."""
    return f"{text.rstrip()}\n\n{EXIT_HELP}\n"


def add_shared_options(
    parser: argparse.ArgumentParser, *folders: str, with_engine: bool = False
) -> None:
    """
    Gives `parser` the options `--params` and `--verbose`, and one for each of `folders`.

    `with_engine` adds `--engine`.
    """
    group = parser.add_argument_group("files and messages")
    group.add_argument(
        "--params",
        type=Path,
        metavar="FILE",
        help="file of parameters; options override it (default: params.yaml)",
    )
    for name in folders:
        group.add_argument(
            f"--{name}",
            dest=f"{name}_dir",
            type=Path,
            default=Path(name),
            metavar="DIR",
            help=f"folder of {FOLDERS[name]} (default: {name})",
        )
    if with_engine:
        engine.add_option(group)
    group.add_argument("--verbose", action="store_true", help="also log every small step")


def whole_number(text: str) -> int:
    """Returns a whole number of at least 0 and at most 18 digits; for `type=` of an option."""
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be a whole number of 0 or more, of at most {_MOST_DIGITS} digits"
        )
    return int(text)


def plain_text(text: str) -> str:
    """Returns text that is valid UTF-8; for `type=` of an option that names no file."""
    if not is_utf8(text):
        raise argparse.ArgumentTypeError(f"'{printable(text)}' is no valid UTF-8")
    return text


def port(text: str) -> int:
    """Returns a TCP port, or 0 for any free one; for `type=` of an option."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"'{text}' must be a port: 1 to 65535, or 0 for any free")
    return int(text)


def add_port(parser: argparse.ArgumentParser, *, of: str, default: int) -> None:
    """Adds the option `--port` of a server; `of` names what is served."""
    parser.add_argument(
        "--port",
        type=port,
        default=default,
        metavar="N",
        help=f"port of the {of}; 0 takes any free one (default: {default})",
    )


def configure_logging(*, verbose: bool = False) -> None:
    """Sends log lines to standard error."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )


def run(work: Callable[[], None]) -> int:
    """
    Runs `work`, prints one line for each distinct failure, and returns the exit code.

    An error of `PersonaeError` or of the operating system becomes a message, and so does a package
    that an extra would install. Any other error is a defect and passes with its traceback. A
    character that the terminal's encoding lacks is written as an escape.
    """
    # Python collects garbage once more when a program ends. Frozen objects are skipped, and those
    # of torch are so many that a command ends half a second sooner.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    failures: list[Exception] = []
    is_interrupted = False
    try:
        work()
    except* KeyboardInterrupt:
        is_interrupted = True
    except* BrokenPipeError:
        # The reader of standard output has left, as `head` does. That is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except* (PersonaeError, OSError) as group:
        failures += leaves(group)
    except* ModuleNotFoundError as group:
        failures += [_missing_extra(error) for error in leaves(group)]
    messages = [_message(failure) for failure in failures]
    codes = {_exit_code(failure) for failure in failures}
    if is_interrupted:
        messages.append(interrupt.announced())
        codes.add(Exit.UNFINISHED)
    for message in dict.fromkeys(messages):
        sys.stderr.write(f"error: {printable(message)}\n")
    return next((code for code in _MOST_SERIOUS if code in codes), Exit.DONE)


def leaves(group: BaseExceptionGroup[Any]) -> list[Exception]:
    """Returns the exceptions of a group and of the groups within it, in order."""
    errors: list[Exception] = []
    for error in group.exceptions:
        errors += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return errors


def _missing_extra(error: Exception) -> BadParams:
    """Returns the message for a package that an extra of ours installs; re-raises other errors."""
    module = (getattr(error, "name", None) or "").split(".")[0]
    try:
        requirements = importlib.metadata.requires("personae") or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    extras = []
    for requirement in requirements:
        package, _, condition = requirement.partition(";")
        extra = re.search(r"extra == ['\"](\w+)['\"]", condition)
        if extra and re.match(rf"{re.escape(module)}\b", package, flags=re.IGNORECASE):
            extras.append(extra[1])
    if not extras:
        raise error
    # An extra that holds other extras, such as `dev`, repeats their packages.
    extra_name = min(extras, key=lambda name: (name not in _OWN_EXTRAS, name))
    return BadParams(
        f"Package '{module}' is not installed. This command needs the extra '{extra_name}': "
        f"pip install 'personae[{extra_name}]'"
    )


def _exit_code(failure: Exception) -> Exit:
    if isinstance(failure, OSError) and failure.errno in _WRONG_PATH:
        return Exit.USAGE
    return getattr(failure, "exit_code", Exit.UNFINISHED)


def _message(failure: Exception) -> str:
    if not isinstance(failure, OSError):
        return str(failure)
    log.debug("Where it happened:", exc_info=failure)
    name = failure.filename or "A file"
    if failure.errno == errno.EISDIR:
        return f"{name} is a folder, and the name of a file is needed, such as {name}/NAME."
    advice = "Free space, or allow access to it"
    if failure.errno in (*_WRONG_PATH, *_OTHER_PATH):
        advice = "Check the path"
    return (
        f"{name} could not be read or written: {failure.strerror or failure}. {advice}, and run the "
        "same command again. What is finished is kept."
    )
