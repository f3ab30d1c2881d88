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
import hashlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import stamina.instrumentation
from pydantic import BaseModel

from personae import cli, settings
from personae.errors import BadParams
from personae.settings import Settings
from scraper import contact, decide, download, listing, personae, planner, site, status
from scraper.client import Client
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

"""
_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:
        from scraper.demo.server import application

        return application.main(arguments[1:])
    command = arguments.pop(0) if arguments and arguments[0] in _SECTIONS else ""
    options = _parser(command).parse_args(arguments)
    cli.configure_logging(verbose=options.verbose)
    _quiet_libraries()
    return cli.run(lambda: _run(command, options))


def _parser(command: str) -> argparse.ArgumentParser:
    parser = cli.Parser(
        prog=f"python -m scraper {command}".strip(),
        description=_WHAT[command],
        epilog=cli.with_exit_codes("" if command else _MORE),
        words=[word for word in (*_SECTIONS, "demo") if word and not command],
    )
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
        settings.add_options(group, _OPTIONS[name])
    cli.add_shared_options(parser, "data")
    return parser


def _run(command: str, options: argparse.Namespace) -> None:
    if command == "status":
        print(status.report(options.data_dir))
        return
    sections = _Sections(options)
    stages = (command,) if command in STAGES else STAGES
    if command == "decide":
        _decide(sections)
        return
    with _place(sections) as place:
        if command == "plan":
            print(_plan(sections, place))
            return
        for stage in stages:
            if stage == "decide":
                _decide(sections)
            else:
                asyncio.run(_ask(stage, sections, place))
    if not command:
        print(status.report(options.data_dir))


class _Sections:
    """The sections that the stages read, with the values of the command line over them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data: Path = options.data_dir
        self.file = Settings.of(options)
        self.site = self._section("site", site.Params)
        self.personae = self._section("personae", personae.Params)
        self.listing = self._section("listing", listing.Params)
        self.decide = self._section("decide", decide.Params)
        self.download = self._section("download", download.Params)

    def _section(self, name: str, model: type[_ParamsT]) -> _ParamsT:
        given = settings.overrides(self.options, model)
        if given.get("folder"):
            given["name"] = given["name"] or site.FOLDER
        return self.file.section(name, model, given)


@contextlib.contextmanager
def _place(sections: _Sections) -> Iterator[Site | Folder]:
    """The site, named in the first line printed; the demo board runs as long as it is needed."""
    name = sections.site.name
    what = ", the built-in board on this machine" if name == "demo" else ""
    what = f", {sections.site.folder}" if name == site.FOLDER else what
    print(
        f"Site: {name}{what}. Another: --site demo, --site danbooru, --site URL, --folder PATH, or "
        f"site.name in {sections.file.path}.",
        flush=True,
    )
    if name == site.FOLDER:
        yield Folder(Path(sections.site.folder))
        return
    who = contact.find(sections.site)
    with contextlib.ExitStack() as stack:
        demo_url = None
        if name == "demo":
            from scraper.demo.server.process import running

            demo_url = stack.enter_context(running(sections.options.params))
        yield Site.resolve(
            sections.site,
            contact=who,
            login=os.environ.get("PERSONAE_LOGIN", ""),
            api_key=os.environ.get("PERSONAE_API_KEY", ""),
            demo_url=demo_url,
        )


async def _ask(stage: str, sections: _Sections, place: Site | Folder) -> None:
    """The stages that speak to the board, or read the folder."""
    if isinstance(place, Folder):
        # Reading waits for nobody: one worker is as fast, and keeps the order of the files.
        sections.download = sections.download.model_copy(update={"workers": 1})
        await _work(stage, sections, place, place, place)
        return
    async with Client(place, Limits.of(sections.site)) as client:
        source = Danbooru(client, place.base_url, identity=_identity(sections, place))
        await _work(stage, sections, place, source, client)
        _log.info("%s: %d requests", stage, client.requests)


async def _work(
    stage: str, sections: _Sections, place: Site | Folder, source: Source, transport: Transport
) -> None:
    data = sections.data
    if stage == "listing":
        await listing.run(sections.listing, sections.personae, source, data / "listing")
    else:
        folders = (data / "listing", data / "decide", data / "download")
        await download.run(sections.download, transport, place, *folders)


def _decide(sections: _Sections) -> None:
    decide.run(
        sections.decide, sections.personae, sections.data / "listing", sections.data / "decide"
    )
    status.require_personae(sections.data, sections.personae.min_images)


def _plan(sections: _Sections, board: Site | Folder) -> str:
    """Asks a little and tells what a run would take."""
    if isinstance(board, Folder):
        raise BadParams(
            "`plan` estimates what a board would be asked; a folder is asked nothing. Run "
            "`python -m scraper listing` and `decide`: they download nothing."
        )
    terms, page_size = sections.listing.terms, sections.listing.page_size
    with planner.Board(board) as questions:
        board_posts = questions.count()
        candidates, samples = asyncio.run(_sample(sections, board))
        share = planner.share_listed(questions, candidates, terms)
    plan = planner.estimate(
        candidates, samples, sections.personae, page_size=page_size, share_listed=share
    )
    return planner.render(plan, board, sections.personae, board_posts=board_posts)


async def _sample(sections: _Sections, board: Site) -> tuple[list[Tag], dict[str, planner.Sample]]:
    async with Client(board, Limits.of(sections.site)) as client:
        source = Danbooru(client, board.base_url, identity=_identity(sections, board))
        found = listing.find_candidates(sections.listing, sections.personae, source)
        candidates = [tag async for tag in found]
        samples = await planner.sample(
            candidates,
            source,
            terms=sections.listing.terms,
            rules=planner.Rules(
                sections.decide.limits,
                frozenset(sections.decide.skip),
                frozenset(sections.decide.accept_tags),
            ),
            side=sections.download.side,
            pages=sections.options.sample,
            page_size=sections.listing.page_size,
        )
        return candidates, samples


def _identity(sections: _Sections, board: Site) -> str:
    """A demo board is what its parameters make it, whatever its port; others are their address."""
    if board.name != "demo":
        return board.base_url
    from scraper.demo.facts.params import Params

    demo = sections.file.section("demo", Params)
    return "demo " + hashlib.sha256(demo.model_dump_json().encode()).hexdigest()[:16]


def _quiet_libraries() -> None:
    # The client logs each retry with its reason; the libraries' own lines would repeat it.
    stamina.instrumentation.set_on_retry_hooks([])
    for name in ("aiohttp", "asyncio", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
