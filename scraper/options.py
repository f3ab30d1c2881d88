"""The parser of `python -m scraper`: its commands, their help and their options."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from personae import cli, settings
from scraper.params import decide, download, listing, personae, site

BUDGET_PORT: Final = 8766
STAGES: Final = ("listing", "decide", "download")
SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "listing": ("site", "personae", "listing"),
    "decide": ("personae", "decide"),
    "download": ("site", "download"),
    "update": ("site", "personae", "listing", "decide", "download"),
    "plan": ("site", "personae", "listing", "decide", "download"),
    "status": (),
    "divide": (),
    "budget": (),
    "": ("site", "personae", "listing", "decide", "download"),
}
"""Sections of params.yaml that each command reads; their fields are its options."""
_OPTIONS: dict[str, type[BaseModel]] = {
    "site": site.Manners,  # its name is --site
    "personae": personae.Params,
    "listing": listing.Params,
    "decide": decide.Params,
    "download": download.Params,
}
_DESCRIPTIONS = {
    "": """example: python -m scraper --site danbooru --min-images 1000 --contact you@example.org

Lists, judges and downloads the posts of every persona with enough images.
A stopped or killed run continues when the same command runs again; a finished one updates.

commands:
  (none)     listing, decide and download, in that order
  update     what is new since the last listing; then decide and download
  listing    metadata of every post of every candidate persona, and the tag tables
  decide     which posts and personae are kept, with every reason; offline
  download   the images of the posts kept
  plan       personae, requests, bytes and hours of a run; downloads nothing
  status     what is finished, refused and left; offline
  divide, budget  a download on several machines
  demo       the demo board by itself, to look at""",
    "listing": """example: python -m scraper listing --min-images 1000

Lists every post of every candidate persona, and the tag tables.""",
    "decide": """example: python -m scraper decide --ratings g s --min-side 400

Judges every listed post by the tag rules, and selects the personae. Offline.""",
    "download": """example: python -m scraper download --side 128

Downloads the images of the posts kept, each once.""",
    "update": """example: python -m scraper update --site danbooru --min-images 1000

Lists the posts that are new since the last listing, in as many pages as they fill, and the
tables of tags; then decides and downloads. With --changed it also requests every known post
again, 100 at once: an edited post is decided again, a deleted one leaves the data set.""",
    "plan": """example: python -m scraper plan --site danbooru --min-images 1000

Prints which personae qualify, and how many requests, bytes and hours a run takes.
Downloads no image.""",
    "status": """example: python -m scraper status

Prints what is finished, refused and left. Offline.""",
    "divide": """example: python -m scraper divide --count 4 --out parts

Writes a data folder for each machine: the posts kept whose id modulo the count is its number.
Each machine downloads its own. Afterwards one of them joins the images:
  python -m scraper download --parts parts/1 parts/2 parts/3 parts/4""",
    "budget": """example: python -m scraper budget

Serves one budget of requests for each board until Ctrl-C: rate, pauses and the day's count.
Runs on this machine and on others, which need a tunnel to its port, share it by
  PERSONAE_STATE=http://127.0.0.1:8766 python -m scraper download""",
}
_EPILOG = """Options are fields of params.yaml and override it. COMMAND --help shows those of one command.
environment:
  PERSONAE_CONTACT                    your contact, where --contact is not given
  PERSONAE_LOGIN, PERSONAE_API_KEY    an account of the board, if you have one
  PERSONAE_STATE                      folder or `budget` by which runs share the rates of boards
"""


def parse(command: str, arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options of one command, "" for the whole run; exits with code 2 on wrong usage."""
    program = f"python -m scraper {command}".strip()
    parser = cli.Parser(
        prog=program,
        usage=f"{program} [OPTION ...]" if command else f"{program} [COMMAND] [OPTION ...]",
        description=_DESCRIPTIONS[command],
        epilog=cli.with_exit_codes("" if command else _EPILOG),
        words=[word for word in (*SECTIONS, "demo") if word and not command],
    )
    if command == "update":
        parser.add_argument(
            "--changed",
            action="store_true",
            help="also look for edits, new tags and deletions of known posts",
        )
    if command == "plan":
        parser.add_argument(
            "--sample",
            type=cli.whole_number,
            default=20,
            metavar="INT",
            help="personae of which one page is read for the estimate (default: 20)",
        )
    if command == "divide":
        parser.add_argument(
            "--count", type=cli.whole_number, required=True, metavar="INT", help="number of parts"
        )
        parser.add_argument(
            "--out",
            type=Path,
            default=Path("parts"),
            metavar="PATH",
            help="folder of the parts (default: parts)",
        )
    if command == "budget":
        cli.add_port(parser, of="budget", default=BUDGET_PORT)
    file = settings.Settings.named_in(arguments)
    for name in SECTIONS[command]:
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
                help="labelled images instead of a board (default: none)",
            )
        settings.add_options(group, _OPTIONS[name], values=file.values(name) if file else {})
    if command in ("plan", "status"):
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    cli.add_shared_options(parser, "data")
    return parser.parse_args(arguments)
