"""
    python -m scraper --min-images 1000      # listing, decide and download, in that order
    python -m scraper listing                # one stage, as `dvc repro` runs it
    python -m scraper update                 # what is new since the last listing, then the rest
    python -m scraper plan                   # requests, bytes and hours of a run; downloads nothing
    python -m scraper status                 # what is finished, refused and left
    python -m scraper divide --count 4       # a download in parts, for several machines
    python -m scraper budget                 # one budget of requests for several machines
    python -m scraper demo                   # the demo board by itself

The command of the scraper: one stage, all three, a plan, the status, work for several machines, or
the demo board. Only this
module reads `params.yaml`, the environment and the command line, and starts an event loop. Errors become messages and exit codes in `personae/cli.py`.
"""

if __name__ == "__main__":
    from personae import interrupt

    interrupt.at_once()  # before the imports, which take most of a second

import argparse
import contextlib
import hashlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from personae import cli, interrupt, settings, stages
from personae.errors import BadParams
from personae.settings import Settings, check_params_file
from scraper.options import SECTIONS, STAGES, parse
from scraper.params import decide, download, listing, personae, site

if TYPE_CHECKING:  # heavy imports are delayed, so that --help answers at once
    from scraper.client import Client
    from scraper.planner import PageSample
    from scraper.policy import RequestBudget
    from scraper.site import Site
    from scraper.sources import PostSource, Tag
    from scraper.sources.folder import Folder
    from scraper.transport import Transport

_ParamsT = TypeVar("_ParamsT", bound=BaseModel)
_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (of the process when None) and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["demo"]:
        return cli.run(lambda: _demo(arguments[1:]))
    command = arguments.pop(0) if arguments and arguments[0] in SECTIONS else ""
    options = parse(command, arguments)
    cli.configure_logging(verbose=options.verbose)
    return cli.run(lambda: _run(command, options))


def _demo(arguments: Sequence[str]) -> None:
    from scraper.demo import command

    command.run(arguments)


def _run(command: str, options: argparse.Namespace) -> None:
    check_params_file(options.params)
    interrupt.gracefully(continues=command not in ("status", "plan"))
    from scraper import status

    if command == "status":
        print(status.as_json(options.data_dir) if options.json else status.report(options.data_dir))
        return
    if command == "budget":
        from scraper import host_budget, shared_budget

        shared_budget.server(options.port, host_budget.state_folder()).run()
        return
    if command == "divide":
        from scraper import parts

        folders = parts.divide(options.data_dir, options.out, count=options.count)
        quoted = (shlex.quote(str(folder)) for folder in folders)
        print("\n".join(f"python -m scraper download --data {folder}" for folder in quoted))
        return
    _quiet_libraries()
    sections = _Sections(options)
    if command == "decide":
        _decide(sections)
        print(stages.written(command, sections.data))
        return
    stages.check_dvc_can_track(sections.data)
    with _opened(sections) as board:
        if command == "plan":
            print(_plan(sections, board))
            return
        if command in STAGES:
            _transfer(command, sections, board)
            print(stages.written(command, sections.data))
            return
        if command == "update" or status.is_finished(sections.data):
            _transfer("update", sections, board)
        _run_stages(sections, board)
    print(status.report(options.data_dir))
    _print_score(sections)
    print(stages.written("download", sections.data))


def _run_stages(sections: "_Sections", board: "Site | Folder") -> None:
    """Runs the three stages, or only the first when nothing is new since the last finished run."""
    from scraper import relabel, repeated

    is_same_program = repeated.is_by_this_program(sections.data)
    _transfer("listing", sections, board, skip_unchanged=is_same_program)
    params = {"site": board.name} | {
        name: getattr(sections, name).model_dump(mode="json")
        for name in ("personae", "decide", "download")
    }
    # The parameters name files, which may have changed.
    params["excluded"] = sorted(sections.decide.limits.excluded)
    params["corrected"] = relabel.read(Path(sections.decide.relabel))
    is_asked_again = sections.download.retry_refused
    if not is_asked_again and repeated.is_done(sections.data, params, site=board.name):
        _log.info("decide, download: nothing is new since the last run; their tables stay")
        return
    _decide(sections)
    _transfer("download", sections, board)
    repeated.note(sections.data, params)


def _print_score(sections: "_Sections") -> None:
    from scraper import score, status

    scored = score.score(sections.data) if status.is_finished(sections.data) else None
    if scored:
        print(score.render(scored))


class _Sections:
    """The sections of params.yaml; values of the command line win."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data: Path = options.data_dir
        self.file = Settings.of(options)
        self.site = self._section("site", site.Params)
        self.personae = self._section("personae", personae.Params)
        self.listing = self._section("listing", listing.Params)
        self.decide = self._section("decide", decide.Params)
        self.download = self._section("download", download.Params)
        self._check_types()

    def _check_types(self) -> None:
        """Makes sure that originals of the kept types can be read, where no smaller version is."""
        unread = [name for name in self.decide.file_types if name not in decide.READABLE]
        if unread and (self.site.name == site.FOLDER or self.download.side is None):
            raise BadParams(
                f"'decide.file_types' has {', '.join(unread)}, which Personae does not read. It reads "
                f"{', '.join(decide.READABLE)}. Convert other files, or leave their types out."
            )

    def _section(self, name: str, model: type[_ParamsT]) -> _ParamsT:
        given = settings.overrides(self.options, model)
        if given.get("folder"):
            given["name"] = given["name"] or site.FOLDER
        return self.file.section(name, model, given)


@contextlib.contextmanager
def _opened(sections: _Sections) -> "Iterator[Site | Folder]":
    """Prints and yields the site; the demo board runs until the block ends."""
    name = sections.site.name
    what = ", the built-in board on this machine" if name == "demo" else ""
    what = f", {sections.site.folder}" if name == site.FOLDER else what
    print(
        f"Site: {name}{what}. Another: --site demo, --site danbooru, --site URL, --folder PATH, or "
        f"site.name in {sections.file.path}.",
        file=sys.stderr if getattr(sections.options, "json", False) else sys.stdout,
        flush=True,
    )
    if name == site.FOLDER:
        from scraper.sources.folder import Folder

        yield Folder(Path(sections.site.folder))
        return
    from yarl import URL

    from scraper import contact
    from scraper.proxy import Proxies
    from scraper.site import Site

    address = contact.find(sections.site)
    with contextlib.ExitStack() as stack:
        demo_url = None
        if name == "demo":
            from scraper.demo.server.process import running

            demo_url = stack.enter_context(running(sections.options.params))
        board = Site.resolve(
            sections.site,
            contact=address,
            login=os.environ.get("PERSONAE_LOGIN", ""),
            api_key=os.environ.get("PERSONAE_API_KEY", ""),
            demo_url=demo_url,
            proxies=Proxies.of_environment(),
        )
        if board.proxies.of(URL(board.base_url)):
            _log.info("Requests go through the proxy of the environment: %s", board.proxies)
        yield board


def _transfer(
    stage: str, sections: _Sections, board: "Site | Folder", *, skip_unchanged: bool = False
) -> None:
    """Runs `update`, `listing` or `download`, which send requests or read the folder."""
    import asyncio

    from scraper.sources.folder import Folder

    if not isinstance(board, Folder):
        asyncio.run(_transfer_from_board(stage, sections, board, skip_unchanged=skip_unchanged))
    elif stage == "download":
        # Reading does not wait: one worker is as fast, and keeps the order of the files.
        sections.download = sections.download.model_copy(update={"workers": 1})
        asyncio.run(_download(sections, board, board))
    elif stage == "listing":  # no update: a changed folder is another collection
        asyncio.run(_list(stage, sections, board, skip_unchanged=skip_unchanged))


async def _transfer_from_board(
    stage: str, sections: _Sections, board: "Site", *, skip_unchanged: bool
) -> None:
    from scraper import score
    from scraper.client import Client

    async with Client(board, _budget(sections, board)) as client:
        try:
            if stage == "download":
                await _download(sections, board, client)
            else:
                source = _source(sections, client, board)
                await _list(stage, sections, source, skip_unchanged=skip_unchanged)
        finally:
            score.note(sections.data, stage, client.requests)
        _log.info("%s: %d requests", stage, client.requests)


async def _list(
    stage: str, sections: _Sections, source: "PostSource", *, skip_unchanged: bool
) -> None:
    from scraper import listing, update

    folder = sections.data / "listing"
    if stage == "update":
        changed = getattr(sections.options, "changed", False)
        await update.run(source, folder, changed=changed)
    else:
        await listing.run(
            sections.listing, sections.personae, source, folder, skip_unchanged=skip_unchanged
        )


async def _download(sections: _Sections, board: "Site | Folder", transport: "Transport") -> None:
    from scraper import download

    folders = (sections.data / name for name in STAGES)
    await download.run(sections.download, transport, board, *folders)


def _decide(sections: _Sections) -> None:
    from scraper import decide, status

    decide.run(
        sections.decide, sections.personae, sections.data / "listing", sections.data / "decide"
    )
    status.require_personae(sections.data, sections.personae.min_images)


def _plan(sections: _Sections, board: "Site | Folder") -> str:
    """Sends a few requests and returns what a run would take."""
    import asyncio
    from functools import partial

    from scraper import planner, score
    from scraper.one_shot import OneShot
    from scraper.sources.folder import Folder

    if isinstance(board, Folder):
        raise BadParams(
            "`plan` estimates the requests to a board; a folder needs none. Run "
            "`python -m scraper listing` and `decide`: they download nothing."
        )
    terms, page_size = sections.listing.terms, sections.listing.page_size
    budget = _budget(sections, board)
    with OneShot(board, budget) as client:
        board_posts = planner.count(client)
        candidates, samples, table_requests = asyncio.run(_sample(sections, board, budget))
        share = planner.share_listed(partial(planner.count, client), candidates, terms)
    plan = planner.estimate(
        candidates,
        samples,
        sections.personae,
        page_size=page_size,
        share_listed=share,
        table_requests=table_requests,
    )
    path = score.keep(plan, board, sections.data)
    if sections.options.json:
        return path.read_text(encoding="utf-8").rstrip()
    text = planner.render(plan, board, sections.personae, board_posts=board_posts)
    return f"{text}\n\nThe plan is kept in {path}, and scored when the run is finished."


async def _sample(
    sections: _Sections, board: "Site", budget: "RequestBudget"
) -> "tuple[list[Tag], dict[str, PageSample], int]":
    """Returns candidates, the pages read of some, and how many requests were not for pages."""
    from scraper import listing, planner
    from scraper.client import Client

    async with Client(board, budget) as client:
        source = _source(sections, client, board)
        tags = listing.find_candidates(sections.listing, sections.personae, source)
        candidates = [tag async for tag in tags]
        samples = await planner.sample(
            candidates,
            source,
            terms=sections.listing.terms,
            rules=sections.decide.rules,
            side=sections.download.side,
            pages=sections.options.sample,
            page_size=sections.listing.page_size,
        )
        return candidates, samples, client.requests - len(samples)


def _source(sections: _Sections, client: "Client", board: "Site") -> "PostSource":
    """Returns the board as a source, or the dump that chooses its posts."""
    from scraper.sources.danbooru import Danbooru

    source = Danbooru(client, board.base_url, identity=_identity(sections, board))
    if not sections.listing.dump or sections.listing.rating_scale is None:
        return source
    from scraper.sources.dump import Dump

    path, scale = Path(sections.listing.dump), sections.listing.rating_scale
    return Dump(path, scale, source, sections.decide.rules)


def _budget(sections: _Sections, board: "Site") -> "RequestBudget":
    from scraper.policy import Patience, RequestBudget, shared_budget

    patience = Patience.of(sections.site)
    return RequestBudget(board, patience, host=shared_budget(board, patience))


def _identity(sections: _Sections, board: "Site") -> str:
    """Returns the name of the collection: the address, or the parameters of the demo board."""
    if board.name != "demo":
        return board.base_url
    from scraper.demo.facts.params import Params

    demo = sections.file.section("demo", Params)
    return "demo " + hashlib.sha256(demo.model_dump_json().encode()).hexdigest()[:16]


def _quiet_libraries() -> None:
    import stamina.instrumentation

    # The client logs each retry with its reason; the libraries' own lines would repeat it.
    stamina.instrumentation.set_on_retry_hooks([])
    for name in ("aiohttp", "asyncio", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
