"""
python -m curation STAGE               one stage: measure, filters, …, catalog
python -m curation query "SELECT …"    ask the catalog
python -m curation get KEY             one sample's picture
python -m curation verify              every hash, offset and promise

Reads params.yaml for the stage's section, runs the stage, and says what went wrong in one line.
"""

import argparse
import errno
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from curation.errors import CurationError, DiskRefused, TamperedData
from curation.params import add_options, overrides, section

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

exit codes: 0 done, 2 wrong usage, parameter or query, 3 unfinished but resumable, 5 bad data
"""
QUERY_HELP = """\
tables  posts tags post_tags implications aliases kept personae decisions stages images measures
        groups links labels splits samples shards builds
views   journey funnel rejections label_counts white_background look_alikes leaks dataset
also    predictions (run, seed, post_id, split, label, predicted, …) where models were evaluated

The catalog is opened for reading only, and SQL reaches no other file.
"""
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EEXIST, errno.ENOTDIR}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given).parse_args(given)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        return _run(options)
    except CurationError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("Interrupted. What is finished stays; the same command goes on from there.", 3)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left
        return 0
    except OSError as error:
        if error.errno not in _DISK:
            raise
        refused = DiskRefused(
            f"{error.filename or 'A file'} could not be written: {error.strerror}. Free space or "
            "allow writing, and run the same command again."
        )
        return _fail(str(refused), refused.exit_code)


def _run(options: argparse.Namespace) -> int:
    if options.command == "query":
        return _query(options)
    if options.command == "get":
        return _get(options)
    if options.command == "verify":
        return _verify(options)
    module = importlib.import_module(f"curation.{options.command}")
    model = module.Params
    params = section(options.params, options.command, model, overrides(options, model))
    log.info("%s: %s", options.command, params.model_dump_json())
    folders = {"data_dir": options.data_dir, "work_dir": options.work_dir}
    wanted = inspect.signature(module.run).parameters  # few stages have unfinished work to keep
    module.run(params, **{name: path for name, path in folders.items() if name in wanted})
    return 0


def _query(options: argparse.Namespace) -> int:
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
    return 0


def _get(options: argparse.Namespace) -> int:
    from curation import shards

    name, picture = shards.picture(options.data_dir, options.key)
    if str(options.output) == "-":
        sys.stdout.buffer.write(picture)
        sys.stdout.flush()
        return 0
    path = options.output or Path(name)
    part = path.with_name(path.name + ".part")
    part.write_bytes(picture)
    part.replace(path)
    print(f"{path}: {len(picture)} bytes")
    return 0


def _verify(options: argparse.Namespace) -> int:
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
    return 0


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; the options of a stage are made from its `Params` only when it is called."""
    parser = argparse.ArgumentParser(
        prog="python -m curation",
        description="From downloaded images to a data set: seven stages, and questions to it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument(
        "--data",
        dest="data_dir",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder of the tables (default: data)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, line in STAGES.items():
        command = commands.add_parser(
            stage, help=line, description=line, parents=[places], allow_abbrev=False
        )
        command.add_argument(
            "--params",
            type=Path,
            default=Path("params.yaml"),
            metavar="FILE",
            help="file of parameters (default: params.yaml); the options below win over it",
        )
        command.add_argument(
            "--work",
            dest="work_dir",
            type=Path,
            default=Path("work"),
            metavar="DIR",
            help="folder of unfinished work (default: work)",
        )
        if stage in arguments:
            add_options(command, importlib.import_module(f"curation.{stage}").Params)
    _add_questions(commands, places)
    return parser


def _add_questions(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    places: argparse.ArgumentParser,
) -> None:
    ask = commands.add_parser(
        "query",
        help="ask the catalog in SQL",
        description="Answers one SQL statement.",
        epilog=QUERY_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[places],
        allow_abbrev=False,
    )
    ask.add_argument(
        "sql", metavar="SQL", help="one statement, or - to read it from standard input"
    )
    shape = ask.add_mutually_exclusive_group()
    shape.add_argument("--csv", action="store_true", help="comma-separated values, all rows")
    shape.add_argument("--json", action="store_true", help="a list of objects, all rows")
    ask.add_argument(
        "--limit", type=_count, metavar="N", help="rows at most (default: 50 in a table)"
    )
    ask.add_argument(
        "--results",
        dest="results_dir",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder of the runs whose predictions can be joined (default: results)",
    )
    get = commands.add_parser(
        "get",
        help="write one sample's image",
        description="Writes one sample's image.",
        parents=[places],
        allow_abbrev=False,
    )
    get.add_argument("key", type=int, metavar="KEY", help="post id of the sample")
    get.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write it, - for standard output (default: KEY.EXTENSION here)",
    )
    commands.add_parser(
        "verify",
        help="check every hash, offset and promise",
        parents=[places],
        description="Checks shards, manifest, samples and the catalog's view `leaks`.",
        allow_abbrev=False,
    )


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is less than nothing")
    return number


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
