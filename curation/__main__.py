"""
python -m curation STAGE               one stage: measure, filters, …, catalog
python -m curation query "SELECT …"    ask the catalog
python -m curation get KEY             one sample's picture
python -m curation verify              every hash, offset and promise

Reads params.yaml for the stage's section, runs the stage, and says what went wrong in one line.
"""

import argparse
import importlib
import inspect
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from curation.errors import TamperedData
from personae import cli, files
from personae.settings import Settings, add_options, overrides

log = logging.getLogger("curation")

STAGES = {
    "measure": "decode every image once: its figures, and the normalised image",
    "filters": "refuse images by what was measured, with reasons",
    "duplicates": "group exact and near duplicates; one image of a group survives",
    "persona": "give every image its label, balanced",
    "split": "train, validation and test by duplicate group",
    "shards": "pack WebDataset tars: equal inputs, equal bytes",
    "catalog": "one DuckDB file over every table",
}
EXAMPLES = """\
examples:
  python -m curation measure --side 64                 one stage, one parameter changed
  python -m curation split --help                      what the stage can be told
  python -m curation query "SELECT * FROM funnel"      where the posts went, and why
  python -m curation query "SELECT step, outcome, detail FROM journey WHERE post_id = 1234"
  python -m curation query "SELECT * FROM label_counts" --csv > labels.csv
  python -m curation get 1234 -o picture.png           one picture out of its shard
  python -m curation verify                            every hash, every offset, no leak

The stages run in the order above; `dvc repro` runs those whose inputs changed.
docs/queries.sql holds ten questions to start from.

"""
QUERY_HELP = """\
tables  posts tags post_tags implications aliases kept personae decisions stages images measures
        groups links labels splits samples shards builds
views   journey funnel rejections label_counts white_background look_alikes leaks dataset
also    predictions (run, seed, post_id, split, label, predicted, …) where models were evaluated

The catalog is opened for reading only, and SQL reaches no other file.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given).parse_args(given)
    cli.configure_logging(verbose=options.verbose)
    return cli.run(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    questions = {"query": _query, "get": _get, "verify": _verify}
    questions.get(options.command, _stage)(options)


def _stage(options: argparse.Namespace) -> None:
    module = importlib.import_module(f"curation.{options.command}")
    model = module.Params
    params = Settings.of(options).section(options.command, model, overrides(options, model))
    log.info("%s: %s", options.command, params.model_dump_json())
    folders = {"data_dir": options.data_dir, "work_dir": options.work_dir}
    taken = inspect.signature(module.run).parameters  # few stages keep unfinished work
    # Two runs of a stage at once would destroy each other's files.
    with files.locked(options.data_dir / options.command):
        module.run(params, **{name: path for name, path in folders.items() if name in taken})


def _query(options: argparse.Namespace) -> None:
    from curation import query

    is_table = not (options.csv or options.json)
    limit = 50 if options.limit is None and is_table else options.limit
    answer = query.ask(
        sys.stdin.read() if options.sql == "-" else options.sql,
        catalog_path=options.data_dir / "catalog" / "catalog.duckdb",
        results_dir=options.results_dir,
        limit=limit,
    )
    if options.csv:
        query.write_csv(answer, sys.stdout)
    elif options.json:
        query.write_json(answer, sys.stdout)
    else:
        query.write_table(answer, sys.stdout)
    sys.stdout.flush()
    if answer.is_cut:
        print(f"(more than {limit} rows: --limit shows more)", file=sys.stderr)


def _get(options: argparse.Namespace) -> None:
    from curation import shards

    name, picture = shards.picture(options.data_dir, options.key)
    if str(options.output) == "-":
        sys.stdout.buffer.write(picture)
        sys.stdout.flush()
        return
    path = options.output or Path(name)
    files.write_bytes(path, picture)
    print(f"{path}: {len(picture)} bytes")


def _verify(options: argparse.Namespace) -> None:
    from curation import verify

    found = 0
    for problem in verify.problems(options.data_dir):
        found += 1
        print(problem, flush=True)
    if found:
        raise TamperedData(
            f"{found} promises of the data set do not hold. What was changed by hand is restored "
            "by running the stage that writes it, or `dvc repro`."
        )
    print("Every hash, every offset and every promise holds.")


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Returns the parser; only the command that is called gets the options of its `Params`."""
    parser = cli.Parser(
        prog="python -m curation",
        description="From downloaded images to a data set: seven stages, and questions about it.",
        epilog=cli.with_exit_codes(EXAMPLES),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, line in STAGES.items():
        command = commands.add_parser(stage, help=line, description=f"{line[0].upper()}{line[1:]}.")
        command.epilog = f"example:\n  python -m curation {stage}"
        if stage in arguments:
            group = command.add_argument_group(f"section '{stage}' of params.yaml")
            add_options(group, importlib.import_module(f"curation.{stage}").Params)
        cli.add_shared_options(command, "data", "work")
    _add_questions(commands)
    return parser


def _add_questions(commands: "argparse._SubParsersAction[cli.Parser]") -> None:
    ask = commands.add_parser(
        "query",
        help="ask the catalog in SQL",
        description="Answers one SQL statement.",
        epilog=QUERY_HELP,
    )
    ask.add_argument(
        "sql", metavar="SQL", help="one statement, or - to read it from standard input"
    )
    shape = ask.add_mutually_exclusive_group()
    shape.add_argument("--csv", action="store_true", help="comma-separated values, all rows")
    shape.add_argument("--json", action="store_true", help="a list of objects, all rows")
    ask.add_argument(
        "--limit", type=cli.whole_number, metavar="N", help="rows at most (default: 50 in a table)"
    )
    cli.add_shared_options(ask, "data", "results")
    get = commands.add_parser(
        "get",
        help="write the image of one sample",
        description="Writes the image of one sample to a file.",
        epilog="example:\n  python -m curation get 1234 -o image.png",
    )
    get.add_argument("key", type=cli.whole_number, metavar="KEY", help="post id of the sample")
    get.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="file to write, - for standard output (default: KEY.EXTENSION in this folder)",
    )
    cli.add_shared_options(get, "data")
    verify = commands.add_parser(
        "verify",
        help="check every hash, offset and promise",
        description="Checks shards, manifest, samples and the catalog's view `leaks`.",
        epilog="example:\n  python -m curation verify",
    )
    cli.add_shared_options(verify, "data")


if __name__ == "__main__":
    sys.exit(main())
