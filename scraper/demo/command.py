"""`python -m scraper demo`: serves the demo board, or the images of a folder, until it is stopped."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from personae import cli, interrupt, settings
from personae.errors import BadParams
from personae.settings import Settings
from scraper.demo.facts.params import Params


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the board of a command line until it is stopped, and returns the exit code."""
    return cli.run(lambda: run(argv))


def run(argv: Sequence[str] | None = None) -> None:
    """
    Serves the board of a command line until it is stopped.

    Raises:
        BadParams: A parameter is wrong, or the board cannot listen at the address.
    """
    parser = cli.Parser(
        prog="python -m scraper demo",
        description=(
            "example: python -m scraper demo --port 8000\n\n"
            "Serves a local stand-in for Danbooru: images drawn from a random seed, or the images\n"
            "of a folder."
        ),
        epilog=cli.with_exit_codes(""),
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s)"
    )
    cli.add_port(parser, of="board", default=0)
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="stop when standard input closes"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="serve the images of this folder: one sub-folder per label, or an index.csv "
        "(default: the drawn board)",
    )
    parser.add_argument(
        "--hierarchy",
        type=Path,
        help="CSV file with the label in its first column and a column family, for --folder",
    )
    file = Settings.named_in(argv if argv is not None else sys.argv[1:])
    group = parser.add_argument_group("section 'demo' of params.yaml")
    settings.add_options(group, Params, values=file.values("demo") if file else {})
    cli.add_shared_options(parser)
    options = parser.parse_args(argv)
    cli.configure_logging(verbose=options.verbose)
    _serve_until_stopped(options)


def _serve_until_stopped(options: argparse.Namespace) -> None:
    # The board and its server take most of a second to import: `--help` answers without them.
    from scraper.demo.board import booru
    from scraper.demo.server.application import serve

    params = Settings.of(options).section("demo", Params, settings.overrides(options, Params))
    if options.folder:
        from scraper.demo.board import folder

        board = folder.board(options.folder, options.hierarchy, params)
    else:
        board = booru.board(params)
    interrupt.gracefully()
    try:
        asyncio.run(
            serve(
                board,
                params,
                host=options.host,
                port=options.port,
                until_stdin_closes=options.until_stdin_closes,
            )
        )
    except KeyboardInterrupt:
        return  # Ctrl-C is the usual way to stop the server, so it is not an error
    except OSError as error:
        raise BadParams(
            f"The board cannot listen at {options.host}:{options.port}: {error}. Choose another "
            "--port."
        ) from error
