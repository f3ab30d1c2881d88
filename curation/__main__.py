"""
python -m curation STAGE               run one stage: measure, filters, …, catalog
python -m curation query "SELECT …"    ask the catalog in SQL
python -m curation select "SELECT …"   write the samples of a query as a selection to train on
python -m curation get KEY             write the image of one sample to a file
python -m curation verify              check every hash, offset and table
python -m curation browse              see posts, images and predictions in a browser

Reads the stage's section of params.yaml, runs the stage, and explains a failure in one line.
"""

if __name__ == "__main__":
    from personae import interrupt

    interrupt.at_once()  # before the imports, which take most of a second

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

from curation.documents import SPLITS
from curation.errors import TamperedData
from personae import cli, files, interrupt
from personae.settings import Settings, add_options, overrides
from personae.text import printable

log = logging.getLogger("curation")

_Commands: TypeAlias = "argparse._SubParsersAction[cli.Parser]"  # noqa: SLF001  # argparse gives it no public name

STAGES = {
    "measure": "decode every image once, measure it, and normalise it",
    "filters": "refuse images by their measures, with reasons",
    "duplicates": "group exact and near duplicates, and keep one image of each group",
    "persona": "give every image its label, and balance the labels",
    "split": "draw train, validation and test by duplicate group",
    "shards": "pack WebDataset tars: the same inputs give the same bytes",
    "catalog": "build one DuckDB file over every table",
}
_OPTIONS = {
    "measure": "--side 64",
    "filters": "--min-saturation 0",
    "duplicates": "--distance 20",
    "persona": "--min-samples 50",
    "split": "--seed 1",
    "shards": "--samples-per-shard 500",
    "catalog": "--data data",
}
_DESCRIPTION = """\
From downloaded images to a data set: seven stages, and queries about it.

examples:
  python -m curation measure --side 64                 one stage, one parameter changed
  python -m curation split --help                      the parameters of a stage
  python -m curation query "SELECT * FROM funnel"      where the posts went, and why
  python -m curation query "SELECT step, outcome, detail FROM journey WHERE post_id = 1234"
  python -m curation query "SELECT * FROM label_counts" --csv > labels.csv
  python -m curation query "FROM dataset" --parquet dataset.parquet
  python -m curation select "SELECT post_id FROM dataset WHERE NOT white_background" -o scenes.parquet
  python -m curation get 1234 -o image.png             one image out of its shard
  python -m curation get miku/03.jpg -o image.png      the same, by the path of its original
  python -m curation verify                            every hash, every offset, no leak
  python -m curation browse                            posts, images, predictions in a browser
"""
_EPILOG = """\
The stages run in the order above; `dvc repro` runs those whose inputs changed.
docs/queries.sql holds ten queries to start from.

"""
_QUERY_HELP = """\
tables  posts tags post_tags implications aliases kept personae decisions stages images measures
        groups links labels splits samples shards builds
views   journey funnel rejections label_counts white_background unusual_ground
        look_alikes leaks dataset
also    predictions (run, seed, post_id, split, label, predicted, …) where models were evaluated

The catalog is opened for reading only, and SQL cannot open any other file.
"""


_BROWSE_HELP = """\
The address holds every filter, so that a view can be kept or linked to. The images of one cell of a
confusion matrix:
  http://127.0.0.1:8423/?run=flat&split=test&true=LABEL&predicted=LABEL
Keys: / filters, arrows or h j k l choose an image, Enter opens it, Esc closes it, n p turn pages.
"""


_GRACE_SECONDS = 1.7  # after Ctrl-C; every stage may be killed at any moment


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return cli.run(lambda: _run(given))


def _run(arguments: Sequence[str]) -> None:
    options = _parser(arguments).parse_args(arguments)
    cli.configure_logging(verbose=options.verbose)
    questions = {
        "query": _query,
        "select": _select,
        "get": _get,
        "verify": _verify,
        "browse": _browse,
    }
    if options.command in questions:
        interrupt.gracefully(within=_GRACE_SECONDS)
    questions.get(options.command, _stage)(options)


def _stage(options: argparse.Namespace) -> None:
    module = importlib.import_module(f"curation.{options.command}")
    model = _model(options.command)
    params = Settings.of(options).section(options.command, model, overrides(options, model))
    log.info("%s: %s", options.command, params.model_dump_json())
    # Two runs at once would destroy each other's files, or read half-written ones. The stage's own
    # folder would not do: DVC removes it before it starts a stage.
    with files.locked(options.data_dir):
        interrupt.gracefully(within=_GRACE_SECONDS)
        module.run(params, data_dir=options.data_dir, work_dir=options.work_dir)


def _query(options: argparse.Namespace) -> None:
    from curation import query

    sql = _sql(options)
    catalog_path = options.data_dir / "catalog" / "catalog.duckdb"
    if options.parquet:
        count = query.export(
            sql, options.parquet, catalog_path=catalog_path, results_dir=options.results_dir
        )
        print(f"{options.parquet}: {count} rows")
        return
    is_table = not (options.csv or options.json)
    limit = 50 if options.limit is None and is_table else options.limit
    result = query.run_query(
        sql, catalog_path=catalog_path, results_dir=options.results_dir, limit=limit
    )
    if options.csv:
        query.write_csv(result, sys.stdout)
    elif options.json:
        query.write_json(result, sys.stdout)
    else:
        query.write_table(result, sys.stdout)
    sys.stdout.flush()
    if result.is_cut:
        print(f"(more than {limit} rows: raise --limit to see them)", file=sys.stderr)


def _sql(options: argparse.Namespace) -> str:
    return sys.stdin.read() if options.sql == "-" else str(options.sql)


def _select(options: argparse.Namespace) -> None:
    from curation import select

    selected = select.run(
        _sql(options),
        options.output,
        catalog_path=options.data_dir / "catalog" / "catalog.duckdb",
        results_dir=options.results_dir,
    )
    counts = selected.counts()
    totals = {split: sum(count[split] for count in counts.values()) for split in SPLITS}
    print(
        f"{options.output}: {selected.samples.num_rows} samples of {len(counts)} labels "
        f"({', '.join(f'{split} {count}' for split, count in totals.items())})"
    )
    print(f"data.selection: {selected.reference(options.output)}")


def _get(options: argparse.Namespace) -> None:
    from curation import sample

    key = sample.post_id_of(options.data_dir, options.key)
    image = sample.stored_bytes(options.data_dir, key)
    if str(options.output) == "-":
        sys.stdout.buffer.write(image)
        sys.stdout.flush()
        return
    path = options.output or Path(f"{key}.{sample.extension_of(image, key)}")
    files.write_bytes(path, image)
    print(f"{path}: {len(image)} bytes")


def _verify(options: argparse.Namespace) -> None:
    from curation import verify

    count = 0
    for problem in verify.problems(options.data_dir):
        count += 1
        print(printable(problem), flush=True)
    if count:
        raise TamperedData(
            f"{count} promises of the data set do not hold. Run the stages that write the damaged "
            "files again:\n  dvc repro --force shards catalog"
        )
    print("Every hash, every offset and every promise holds.")


def _browse(options: argparse.Namespace) -> None:
    from curation.browse import server

    server.serve(options.data_dir, options.results_dir, port=options.port)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Returns the parser; only the command that is called gets the options of its `Params`."""
    parser = cli.Parser(
        prog="python -m curation",
        description=_DESCRIPTION,
        epilog=cli.with_exit_codes(_EPILOG),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, line in STAGES.items():
        description = _opening(f"{line[0].upper()}{line[1:]}.", f"{stage} {_OPTIONS[stage]}")
        command = commands.add_parser(stage, help=line, description=description)
        if stage in arguments[:1]:
            model = _model(stage)
            if model.model_fields:
                group = command.add_argument_group(f"section '{stage}' of params.yaml")
                add_options(group, model)
        cli.add_shared_options(command, "data", "work")
    for add in (_add_query, _add_select, _add_get, _add_verify, _add_browse):
        add(commands)
    return parser


def _model(stage: str) -> type[BaseModel]:
    model: type[BaseModel] = importlib.import_module(f"curation.params.{stage}").Params
    return model


def _opening(text: str, arguments: str) -> str:
    """Returns the beginning of a help page: what the command does, and an example."""
    return f"{text}\n\nexample:\n  python -m curation {arguments}"


def _add_query(commands: _Commands) -> None:
    query = commands.add_parser(
        "query",
        help="ask the catalog in SQL",
        description=_opening(
            "Runs one SQL statement on the catalog and prints its rows.",
            'query "SELECT * FROM funnel"',
        ),
        epilog=_QUERY_HELP,
    )
    _add_sql(query)
    shape = query.add_mutually_exclusive_group()
    shape.add_argument(
        "--csv", action="store_true", help="print comma-separated values (default: a table)"
    )
    shape.add_argument(
        "--json", action="store_true", help="print a list of objects (default: a table)"
    )
    shape.add_argument(
        "--parquet",
        type=Path,
        metavar="FILE",
        help="write all rows to a Parquet file (default: print a table)",
    )
    query.add_argument(
        "--limit",
        type=cli.whole_number,
        metavar="N",
        help="largest number of rows (default: 50 in a table, all in CSV and JSON)",
    )
    cli.add_shared_options(query, "data", "results")


def _add_select(commands: _Commands) -> None:
    select = commands.add_parser(
        "select",
        help="write the samples of a query as a selection to train on",
        description=_opening(
            "Writes the samples whose post ids a query gives, for the parameter data.selection.",
            'select "SELECT post_id FROM dataset WHERE NOT white_background" -o scenes.parquet',
        ),
        epilog=_QUERY_HELP,
    )
    _add_sql(select)
    select.add_argument(
        "-o", "--output", type=Path, metavar="FILE", required=True, help="Parquet file to write"
    )
    cli.add_shared_options(select, "data", "results")


def _add_get(commands: _Commands) -> None:
    get = commands.add_parser(
        "get",
        help="write the image of one sample to a file",
        description=_opening(
            "Writes the image of one sample to a file, as it is stored in its shard.",
            "get 1234 -o image.png",
        ),
    )
    get.add_argument(
        "key",
        metavar="KEY",
        help="post id of the sample, its key in the shard (1234.png), or the path or address of its "
        "original file",
    )
    get.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="file to write, - for standard output (default: ID.png, ID.webp or ID.jpg in the current "
        "folder, by post id and format of the image)",
    )
    cli.add_shared_options(get, "data")


def _add_verify(commands: _Commands) -> None:
    verify = commands.add_parser(
        "verify",
        help="check every hash, offset and table",
        description=_opening(
            "Checks segments, normalised images, shards, manifest, samples and catalog.", "verify"
        ),
    )
    cli.add_shared_options(verify, "data")


def _add_browse(commands: _Commands) -> None:
    browse = commands.add_parser(
        "browse",
        help="see posts, images and predictions in a browser",
        description=_opening(
            "Serves a page over the catalog, to this machine alone, until Ctrl-C: posts by label, tag, "
            "split,\nreason and prediction, with their images.",
            "browse",
        ),
        epilog=_BROWSE_HELP,
    )
    browse.add_argument(
        "--port",
        type=cli.whole_number,
        default=8423,
        metavar="N",
        help="port of the page; 0 takes any free one (default: 8423)",
    )
    cli.add_shared_options(browse, "data", "results")


def _add_sql(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "sql", metavar="SQL", help="one statement, or - to read it from standard input"
    )


if __name__ == "__main__":
    sys.exit(main())
