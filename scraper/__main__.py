"""
    python -m scraper --min-images 1000      # listing, decide and download, in that order
    python -m scraper listing                # one stage, as `dvc repro` runs it
    python -m scraper plan                   # what a run would take, before anything is downloaded
    python -m scraper status                 # what is done, refused, left
    python -m scraper demo                   # the demo board by itself

Reads `params.yaml`, the environment and the command line, and nothing below does. Here is the only
event loop, here errors become messages and exit codes: 0 done, 2 wrong usage, 3 unfinished and
resumable, 4 stopped by policy, 5 bad data.
"""

import argparse
import asyncio
import contextlib
import difflib
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import stamina.instrumentation
from pydantic import BaseModel

from scraper import contact, decide, download, listing, personae, planner, site, status
from scraper import params as parameters
from scraper.client import Client
from scraper.errors import BadParams, ScraperError, Unfinished
from scraper.exchange import Limits
from scraper.site import Site
from scraper.sources import Source, Tag
from scraper.sources.danbooru import Danbooru
from scraper.sources.folder import Folder
from scraper.transfer import Transport

_ParamsT = TypeVar("_ParamsT", bound=BaseModel)

STAGES = ("listing", "decide", "download")
# Sections that each command reads; their fields are its options.
_SECTIONS: dict[str, tuple[str, ...]] = {
    "listing": ("site", "personae", "listing"),
    "decide": ("personae", "decide"),
    "download": ("site", "download"),
    "plan": ("site", "personae", "listing", "decide", "download"),
    "status": (),
    "": ("site", "personae", "listing", "decide", "download"),
}
_OPTIONS: dict[str, type[BaseModel]] = {
    "site": site.Manners,  # its name is --site
    "personae": personae.Params,
    "listing": listing.Params,
    "decide": decide.Params,
    "download": download.Params,
}
_WHAT = {
    "": "Lists, judges and downloads the posts of every persona with enough images. Stopped or "
    "killed, it goes on where it was when run again.",
    "listing": "Lists every post of every candidate persona, and the tag tables.",
    "decide": "Judges every listed post by the tag rules, and chooses the personae. No network.",
    "download": "Fetches the images of the posts kept, once each.",
    "plan": "Tells which personae qualify, and how many requests, bytes and hours a run takes. "
    "Downloads nothing.",
    "status": "Tells what is done, refused and left. No network.",
}
_MORE = """commands:
  (none)     listing, decide and download, in that order
  listing    metadata of every post of every candidate persona
  decide     which posts and personae are kept, with every reason; no network
  download   the images of the posts kept
  plan       what a run would take: personae, requests, bytes, hours
  status     what is done, refused and left
  demo       the demo board by itself, to look at

Every option is a number of params.yaml; the command line wins. `python -m scraper COMMAND --help`
shows the options of one command.

environment:
  PERSONAE_CONTACT   how the staff of a public board can reach you (else site.contact)
  PERSONAE_LOGIN, PERSONAE_API_KEY   an account of the board, if you have one

exit codes: 0 done, 2 wrong usage, 3 unfinished (run again to go on), 4 stopped by policy, 5 bad data
"""
# The gravest first, where a run fails in several ways.
_GRAVEST = (4, 5, 2, 3)

_log = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest known option."""

    def error(self, message: str) -> NoReturn:
        hint = ""
        if message.startswith("unrecognized arguments: "):
            known = [option for action in self._actions for option in action.option_strings]
            known += [command for command in (*_SECTIONS, "demo") if command]
            wrong = message.split()[2].split("=", maxsplit=1)[0]
            near = difflib.get_close_matches(wrong, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
        self.exit(2, f"{self.prog}: {message}.{hint} `{self.prog} --help` lists every option.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:
        from scraper.demo.server import application

        return application.main(arguments[1:])
    command = arguments.pop(0) if arguments and arguments[0] in _SECTIONS else ""
    options = _parser(command).parse_args(arguments)
    _configure_logging(verbose=options.verbose)
    return exit_code(lambda: _run(command, options))


def exit_code(run: Callable[[], None]) -> int:
    """
    Runs, writes one line to standard error for each distinct cause of failure, returns the code.

    What is neither ours nor the system's is a defect, and passes with its traceback.
    """
    failures: list[Exception] = []
    interrupted = False
    try:
        run()
    except* KeyboardInterrupt:
        interrupted = True
    except* ScraperError as group:
        failures += _leaves(group)
    except* OSError as group:
        failures += [_unwritable(error) for error in _leaves(group)]
    messages = list(dict.fromkeys(str(failure) for failure in failures))
    if interrupted:
        messages.append("Stopped. What was done is saved: run the same command again to go on.")
    for message in messages:
        sys.stderr.write(f"{message}\n")
    codes = {getattr(failure, "exit_code", 5) for failure in failures}
    codes |= {3} if interrupted else set()
    return next((code for code in _GRAVEST if code in codes), 0)


def _parser(command: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"python -m scraper {command}".strip(),
        description=_WHAT[command],
        epilog="" if command else _MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), help="file of parameters"
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the tables")
    parser.add_argument("--verbose", action="store_true", help="also log every small step")
    if command == "plan":
        parser.add_argument(
            "--sample",
            type=int,
            default=20,
            help="personae of which one page is read, to estimate what the rules keep (default: 20)",
        )
    for name in _SECTIONS[command]:
        group = parser.add_argument_group(f"section '{name}' of params.yaml")
        if name == "site":
            group.add_argument(
                "--site",
                dest="name",
                metavar="SITE",
                help="demo (built in), danbooru, or the URL of a compatible board (default: demo)",
            )
            group.add_argument(
                "--folder",
                metavar="PATH",
                help="labelled images on this machine instead of a board; see the README",
            )
        # A group adds arguments as a parser does, but is no subclass of it.
        parameters.add_options(cast(argparse.ArgumentParser, group), _OPTIONS[name])
    return parser


def _run(command: str, options: argparse.Namespace) -> None:
    if command == "status":
        print(status.report(options.data))
        return
    settings = _Settings(options)
    stages = (command,) if command in STAGES else STAGES
    if command == "decide":
        _decide(settings)
        return
    with _place(settings) as place:
        if command == "plan":
            print(_plan(settings, place))
            return
        for stage in stages:
            if stage == "decide":
                _decide(settings)
            else:
                asyncio.run(_ask(stage, settings, place))
    if not command:
        print(status.report(options.data))


class _Settings:
    """The sections of the parameter file, with the command line's values over them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data: Path = options.data
        self.site = self._section("site", site.Params)
        self.personae = self._section("personae", personae.Params)
        self.listing = self._section("listing", listing.Params)
        self.decide = self._section("decide", decide.Params)
        self.download = self._section("download", download.Params)

    def _section(self, name: str, model: type[_ParamsT]) -> _ParamsT:
        given = parameters.overrides(self.options, model)
        if given.get("folder"):
            given["name"] = given["name"] or site.FOLDER
        return parameters.section(self.options.params, name, model, given)


@contextlib.contextmanager
def _place(settings: _Settings) -> Iterator[Site | Folder]:
    """The site, named in the first line printed; the demo board runs as long as it is needed."""
    name = settings.site.name
    what = ", the built-in board on this machine" if name == "demo" else ""
    what = f", {settings.site.folder}" if name == site.FOLDER else what
    print(
        f"Site: {name}{what}. Another: --site demo, --site danbooru, --site URL, --folder PATH, or "
        f"site.name in {settings.options.params}.",
        flush=True,
    )
    if name == site.FOLDER:
        yield Folder(Path(settings.site.folder))
        return
    who = contact.find(settings.site)
    with contextlib.ExitStack() as stack:
        demo_url = None
        if name == "demo":
            from scraper.demo.server.process import running

            demo_url = stack.enter_context(running(settings.options.params))
        yield Site.resolve(
            settings.site,
            contact=who,
            login=os.environ.get("PERSONAE_LOGIN", ""),
            api_key=os.environ.get("PERSONAE_API_KEY", ""),
            demo_url=demo_url,
        )


async def _ask(stage: str, settings: _Settings, place: Site | Folder) -> None:
    """The stages that speak to the board, or read the folder."""
    if isinstance(place, Folder):
        # Reading waits for nobody: one worker is as fast, and keeps the order of the files.
        settings.download = settings.download.model_copy(update={"workers": 1})
        await _work(stage, settings, place, place, place)
        return
    async with Client(place, Limits.of(settings.site)) as client:
        source = Danbooru(client, place.base_url, identity=_identity(settings, place))
        await _work(stage, settings, place, source, client)
        _log.info("%s: %d requests", stage, client.requests)


async def _work(
    stage: str, settings: _Settings, place: Site | Folder, source: Source, transport: Transport
) -> None:
    data = settings.data
    if stage == "listing":
        await listing.run(settings.listing, settings.personae, source, data / "listing")
    else:
        folders = (data / "listing", data / "decide", data / "download")
        await download.run(settings.download, transport, place, *folders)


def _decide(settings: _Settings) -> None:
    decide.run(
        settings.decide, settings.personae, settings.data / "listing", settings.data / "decide"
    )
    status.require_personae(settings.data, settings.personae.min_images)


def _plan(settings: _Settings, board: Site | Folder) -> str:
    """Asks a little and tells what a run would take."""
    if isinstance(board, Folder):
        raise BadParams(
            "`plan` estimates what a board would be asked; a folder is asked nothing. Run "
            "`python -m scraper listing` and `decide`: they download nothing."
        )
    terms, page_size = settings.listing.terms, settings.listing.page_size
    with planner.Board(board) as questions:
        board_posts = questions.count()
        candidates, samples = asyncio.run(_sample(settings, board))
        share = planner.share_listed(questions, candidates, terms)
    plan = planner.estimate(
        candidates, samples, settings.personae, page_size=page_size, share_listed=share
    )
    return planner.render(plan, board, settings.personae, board_posts=board_posts)


async def _sample(settings: _Settings, board: Site) -> tuple[list[Tag], dict[str, planner.Sample]]:
    async with Client(board, Limits.of(settings.site)) as client:
        source = Danbooru(client, board.base_url, identity=_identity(settings, board))
        found = listing.find_candidates(settings.listing, settings.personae, source)
        candidates = [tag async for tag in found]
        samples = await planner.sample(
            candidates,
            source,
            terms=settings.listing.terms,
            rules=planner.Rules(
                settings.decide.limits,
                frozenset(settings.decide.skip),
                frozenset(settings.decide.accept_tags),
            ),
            side=settings.download.side,
            pages=settings.options.sample,
            page_size=settings.listing.page_size,
        )
        return candidates, samples


def _identity(settings: _Settings, board: Site) -> str:
    """A demo board is what its parameters make it, whatever its port; others are their address."""
    if board.name != "demo":
        return board.base_url
    from scraper.demo.facts.params import Params

    demo = parameters.section(settings.options.params, "demo", Params)
    return "demo " + hashlib.sha256(demo.model_dump_json().encode()).hexdigest()[:16]


def _configure_logging(*, verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # Ours say more: the client logs each retry with its reason.
    stamina.instrumentation.set_on_retry_hooks([])
    for name in ("aiohttp", "asyncio", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _leaves(group: BaseExceptionGroup[Any]) -> list[Exception]:
    """The exceptions of a group and its groups, in order."""
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _unwritable(error: Exception) -> Unfinished:
    _log.debug("Where it happened:", exc_info=error)
    return Unfinished(
        f"A file cannot be read or written: {error}. Check room and rights, and run the same "
        "command again; what was done is kept."
    )


if __name__ == "__main__":
    sys.exit(main())
