"""The parser of `python -m curation`: its commands, their help and their options."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

from curation import help_pages
from curation.params.filters import EXCLUDABLE
from personae import cli
from personae.settings import Settings, add_options

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
_FOLDERS = ("listing", "decide", "download", *STAGES)
WITH_ENGINE = ("measure", "duplicates", "shards")
"""The stages whose work may be computed by a cluster; the command `export` too."""
_OPTIONS = {
    "measure": "--side 64",
    "filters": "--min-saturation 0",
    "duplicates": "--distance 20",
    "persona": "--min-samples 50",
    "split": "--seed 1",
    "shards": "--samples-per-shard 500",
    "catalog": "--data data",
}


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Returns the parser; only the command that is called gets the options of its `Params`."""
    top = cli.Parser(
        prog="python -m curation",
        description=help_pages.DESCRIPTION,
        epilog=cli.with_exit_codes(help_pages.EPILOG),
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for stage, line in STAGES.items():
        description = _opening(f"{line[0].upper()}{line[1:]}.", f"{stage} {_OPTIONS[stage]}")
        command = commands.add_parser(stage, help=line, description=description)
        if stage in arguments[:1]:
            fields = model(stage)
            if fields.model_fields:
                group = command.add_argument_group(f"section '{stage}' of params.yaml")
                file = Settings.named_in(arguments)
                add_options(group, fields, values=file.values(stage) if file else {})
        cli.add_shared_options(command, "data", "work", with_engine=stage in WITH_ENGINE)
    for add in (
        _add_query,
        _add_select,
        _add_get,
        _add_verify,
        _add_browse,
        _add_remove,
        _add_keep,
        _add_diff,
        _add_export,
        _add_push,
        _add_pull,
    ):
        add(commands)
    return top


def model(stage: str) -> type[BaseModel]:
    """Returns the parameters of a stage."""
    params: type[BaseModel] = importlib.import_module(f"curation.params.{stage}").Params
    return params


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
        epilog=help_pages.QUERY,
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
    _add_remote(query)
    cli.add_shared_options(query, "data", "results", "work")


def _add_select(commands: _Commands) -> None:
    select = commands.add_parser(
        "select",
        help="write the samples of a query as a selection to train on",
        description=_opening(
            "Writes the samples whose post ids a query gives, for the parameter data.selection.",
            'select "SELECT post_id FROM dataset WHERE NOT white_background" -o scenes.parquet',
        ),
        epilog=help_pages.QUERY,
    )
    _add_sql(select)
    select.add_argument(
        "-o", "--output", type=Path, metavar="FILE", required=True, help="Parquet file to write"
    )
    _add_remote(select)
    cli.add_shared_options(select, "data", "results", "work")


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
    _add_remote(get)
    cli.add_shared_options(get, "data", "work")


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
        epilog=help_pages.BROWSE,
    )
    cli.add_port(browse, of="page", default=8423)
    cli.add_shared_options(browse, "data", "results")


def _add_remove(commands: _Commands) -> None:
    remove = commands.add_parser(
        "remove",
        help="exclude posts from the data set, now and in later listings",
        description=_opening(
            "Adds rules to the exclude file, and says which samples, shards and trained runs they "
            "concern.\nThe stages from 'filters' on then leave the posts out.",
            'remove post 1234 --why "by request of the artist"',
        ),
        epilog="Undo it by deleting the line of the rule in the exclude file.",
    )
    remove.add_argument(
        "kind", metavar="KIND", choices=EXCLUDABLE, help=f"what VALUE is: {', '.join(EXCLUDABLE)}"
    )
    remove.add_argument(
        "values",
        type=cli.plain_text,
        metavar="VALUE",
        nargs="+",
        help="post id, tag, tag of an artist, or hash of a file",
    )
    remove.add_argument(
        "--why",
        type=cli.plain_text,
        default="",
        metavar="TEXT",
        help="comment of the rule (default: none)",
    )
    remove.add_argument(
        "--copies",
        action="store_true",
        help="also exclude the posts that `duplicates` grouped with these (default: name them)",
    )
    remove.add_argument(
        "--anyway",
        action="store_true",
        help="add rules that match no listed post, for later listings (default: refuse them)",
    )
    cli.add_shared_options(remove, "data", "results")


def _add_keep(commands: _Commands) -> None:
    keep = commands.add_parser(
        "keep",
        help="keep every post in its split, in all later builds",
        description=_opening(
            "Writes the split of each post to the file that `split.keep` names. Stage 'split' leaves "
            "these posts\nin their split, whatever is added, removed or admitted later.",
            "keep",
        ),
        epilog="Undo it by deleting lines of the file: stage 'split' draws these posts again.",
    )
    cli.add_shared_options(keep, "data")


def _add_diff(commands: _Commands) -> None:
    diff = commands.add_parser(
        "diff",
        help="compare the samples of two builds",
        description=_opening(
            "Compares two builds by their shards: samples added, removed, moved to another split, "
            "relabelled,\nand with other bytes. Reasons come from the decisions of NEW.",
            "diff old data",
        ),
    )
    diff.add_argument("old", metavar="OLD", type=Path, help="data folder of the first build")
    diff.add_argument("new", metavar="NEW", type=Path, help="data folder of the second build")
    diff.add_argument("--json", action="store_true", help="print JSON, for programs")
    diff.add_argument(
        "--limit",
        type=cli.whole_number,
        default=20,
        metavar="N",
        help="samples that are listed of each kind of change; JSON has all (default: 20)",
    )
    cli.add_shared_options(diff)


def _add_export(commands: _Commands) -> None:
    export = commands.add_parser(
        "export",
        help="write the samples for other programs",
        description=_opening(
            "Writes a build, or a selection of it, to a new folder, with a data set card.",
            "export parquet my-data",
        ),
        epilog=help_pages.EXPORT,
    )
    export.add_argument("format", choices=("parquet", "folder"), help="parquet or folder")
    export.add_argument("folder", type=Path, metavar="DIR", help="folder to make")
    export.add_argument(
        "--selection",
        type=Path,
        metavar="FILE",
        help="file of `python -m curation select` (default: all samples)",
    )
    cli.add_shared_options(export, "data", with_engine=True)


def _add_sql(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "sql", metavar="SQL", help="one statement, or - to read it from standard input"
    )


def _add_remote(command: argparse.ArgumentParser) -> None:
    """Adds the options of a command that can read a build at a URL."""
    group = command.add_argument_group("storage")
    group.add_argument(
        "--url",
        metavar="URL",
        help="read the build at this URL, such as s3://bucket/folder (default: the data folder)",
    )
    group.add_argument(
        "--cache-bytes",
        type=cli.whole_number,
        metavar="N",
        help="most bytes of the build that are kept in work/cache/storage (default: 50 GiB)",
    )


def _add_push(commands: _Commands) -> None:
    push = _add_copy(
        commands,
        "push",
        summary="copy the build to a storage",
        description="Copies segments, shards and catalog to a storage. Readers there see the old build "
        "or the new one.",
        only="folders of the data folder besides shards (default: download catalog)",
    )
    push.add_argument(
        "--prune",
        action="store_true",
        help="then remove the files there that this build does not have (default: keep them, so that "
        "whoever reads an older build can finish)",
    )
    cli.add_shared_options(push, "data")


def _add_pull(commands: _Commands) -> None:
    pull = _add_copy(
        commands,
        "pull",
        summary="copy a build from a storage",
        description="Copies a build to the data folder, and checks the sha256 of every file.",
        only="folders of the build (default: all that it has)",
    )
    cli.add_shared_options(pull, "data")


def _add_copy(
    commands: _Commands, name: str, *, summary: str, description: str, only: str
) -> argparse.ArgumentParser:
    """Adds a command that copies a build between the data folder and a storage, and returns it."""
    command = commands.add_parser(
        name,
        help=summary,
        description=_opening(description, f"{name} s3://bucket/folder"),
        epilog=help_pages.STORAGE,
    )
    command.add_argument(
        "url", metavar="URL", help="folder of the storage, such as s3://bucket/folder"
    )
    command.add_argument("--only", nargs="+", choices=_FOLDERS, metavar="FOLDER", help=only)
    return command
