"""
python -m curation STAGE               run one stage: measure, filters, …, catalog
python -m curation query "SELECT …"    ask the catalog in SQL
python -m curation select "SELECT …"   write the samples of a query as a selection to train on
python -m curation get KEY             write the image of one sample to a file
python -m curation verify              check every hash, offset and table
python -m curation browse              see posts, images and predictions in a browser
python -m curation remove KIND VALUE   exclude posts, now and in later listings
python -m curation keep                keep every post in its split, in all later builds
python -m curation diff OLD NEW        compare the samples of two builds
python -m curation export FORMAT DIR   write the samples for other programs
python -m curation push URL            copy the build to a storage, such as s3://bucket/folder
python -m curation pull URL            copy a build from a storage to the data folder

Reads the stage's section of params.yaml, runs the stage, and explains a failure in one line.
"""

if __name__ == "__main__":
    from personae import interrupt

    interrupt.at_once()  # before the imports, which take most of a second

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curation import options as command_line
from curation import workers
from curation.errors import TamperedData
from personae import cli, files, interrupt
from personae.errors import BadQuery
from personae.settings import Settings, check_params_file, overrides
from personae.text import printable

if TYPE_CHECKING:
    from personae.storage.build import RemoteBuild
    from personae.storage.copies import CopyReport

log = logging.getLogger("curation")

STAGES = command_line.STAGES
_CATALOG = "catalog/catalog.duckdb"

_PREPARED = ("measure", "duplicates")  # they always need worker processes
_GRACE_SECONDS = 1.7  # after Ctrl-C; every stage may be killed at any moment


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return cli.run(lambda: _run(given))


def _run(arguments: Sequence[str]) -> None:
    options = command_line.parser(arguments).parse_args(arguments)
    cli.configure_logging(verbose=options.verbose)
    check_params_file(options.params)
    questions = {
        "query": _query,
        "select": _select,
        "get": _get,
        "verify": _verify,
        "browse": _browse,
        "remove": _remove,
        "keep": _keep,
        "diff": _diff,
        "export": _export,
        "push": _push,
        "pull": _pull,
    }
    if options.command in questions:
        interrupt.gracefully(within=_GRACE_SECONDS, continues=options.command in ("push", "pull"))
    questions.get(options.command, _stage)(options)


def _stage(options: argparse.Namespace) -> None:
    engine = {"engine": options.engine} if options.command in command_line.WITH_ENGINE else {}
    if options.command in _PREPARED and options.workers != 1 and engine["engine"] == "local":
        workers.prepare(f"curation.{options.command}")
    module = importlib.import_module(f"curation.{options.command}")
    model = command_line.model(options.command)
    params = Settings.of(options).section(options.command, model, overrides(options, model))
    log.info("%s: %s", options.command, params.model_dump_json())
    # Two runs at once would destroy each other's files, or read half-written ones. The stage's own
    # folder would not do: DVC removes it before it starts a stage.
    with files.locked(options.data_dir):
        interrupt.gracefully(within=_GRACE_SECONDS)
        module.run(params, data_dir=options.data_dir, work_dir=options.work_dir, **engine)


def _query(options: argparse.Namespace) -> None:
    from curation import query

    sql = _sql(options)
    catalog_path = _catalog_path(options)
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
    """Returns the statement of the command or of standard input; raises `BadQuery`."""
    try:
        sql = sys.stdin.read() if options.sql == "-" else str(options.sql)
        sql.encode()  # standard input may be as lenient as the command line
    except UnicodeError as error:
        raise BadQuery("The SQL is not valid UTF-8.") from error
    return sql


def _select(options: argparse.Namespace) -> None:
    from curation import select
    from personae.selection import SPLITS

    selected = select.run(
        _sql(options),
        options.output,
        catalog_path=_catalog_path(options),
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

    build = _remote(options)
    if build is None:
        key = sample.post_id_of(options.data_dir, options.key)
        image = sample.stored_bytes(options.data_dir, key)
    else:
        if not options.key.partition(".")[0].isdecimal():
            build.fetch(_CATALOG)
        key = sample.post_id_of(build.folder, options.key)
        image = sample.stored_bytes(build.shards_dir.parent, key, fetch=build.fetch)
    if str(options.output) == "-":
        sys.stdout.buffer.write(image)
        sys.stdout.flush()
        return
    path = options.output or Path(f"{key}.{sample.extension_of(image, key)}")
    files.write_bytes(path, image)
    print(f"{path}: {len(image)} bytes")


def _remote(options: argparse.Namespace) -> "RemoteBuild | None":
    """Returns the build at `--url`, None without the option."""
    if options.url is None:
        return None
    from personae.storage.build import RemoteBuild

    cache_dir = options.work_dir / "cache" / "storage"
    return RemoteBuild.open(options.url, cache_dir, cache_bytes=options.cache_bytes)


def _catalog_path(options: argparse.Namespace) -> Path:
    """Returns the path of the catalog, which is fetched where `--url` names a build."""
    build = _remote(options)
    if build is None:
        return Path(options.data_dir / _CATALOG)
    for file in build.index.files:
        if file.path.startswith("catalog/"):
            build.fetch(file.path)
    return build.fetch(_CATALOG)


def _verify(options: argparse.Namespace) -> None:
    from curation import verify

    count = 0
    for problem in verify.problems(options.data_dir):
        count += 1
        print(printable(problem), flush=True)
    if count:
        raise TamperedData(
            f"Promises of the data set that do not hold: {count}. Run the stages that write the damaged "
            "files again:\n  dvc repro --force shards catalog"
        )
    print("Every hash, every offset and every promise holds.")


def _browse(options: argparse.Namespace) -> None:
    from curation.browse import server

    server.serve(options.data_dir, options.results_dir, port=options.port)


def _remove(options: argparse.Namespace) -> None:
    from curation import exclusions, remove
    from curation.params.filters import Params

    path = Path(Settings.of(options).section("filters", Params).exclude)
    rules = [exclusions.rule(options.kind, value, options.why) for value in options.values]
    removal = remove.run(
        rules,
        exclude=path,
        data_dir=options.data_dir,
        results_dir=options.results_dir,
        with_copies=options.copies,
        anyway=options.anyway,
    )
    print("\n".join(map(printable, remove.described(removal, path))))


def _keep(options: argparse.Namespace) -> None:
    from curation import keep
    from curation.params.split import Params

    path = Path(Settings.of(options).section("split", Params).keep)
    report = keep.run(path, data_dir=options.data_dir)
    splits = ", ".join(f"{split} {count}" for split, count in report.splits.items())
    print(
        f"{path}: {report.posts} posts keep their split ({splits}); {report.new} of them are new in the "
        f"file, {report.absent} are not in this build"
    )


def _diff(options: argparse.Namespace) -> None:
    from curation import diff

    changes = diff.compare(options.old, options.new)
    if options.json:
        print(json.dumps(diff.to_json(changes), indent=1, sort_keys=True))
    else:
        print("\n".join(map(printable, diff.described(changes, limit=options.limit))))


def _export(options: argparse.Namespace) -> None:
    from curation.export import command

    build = command.run(
        options.format,
        options.folder,
        data_dir=options.data_dir,
        selected=options.selection,
        engine=options.engine,
    )
    totals = ", ".join(f"{split} {build.total(split)}" for split in build.splits)
    print(f"{options.folder}: {len(build.labels)} labels ({totals})")
    print(f"What it is and who owns it: {options.folder / 'README.md'}")


def _push(options: argparse.Namespace) -> None:
    from personae.storage import copies

    folders = (
        copies.FOLDERS if options.only is None else tuple(dict.fromkeys(["shards", *options.only]))
    )
    report = copies.push(options.data_dir, options.url, folders=folders, prune=options.prune)
    print(f"{options.url}: {_copied(report, 'sent')}")


def _pull(options: argparse.Namespace) -> None:
    from personae.storage import copies

    report = copies.pull(options.url, options.data_dir, folders=options.only)
    print(f"{options.data_dir}: {_copied(report, 'fetched')}")


def _copied(report: "CopyReport", verb: str) -> str:
    removed = f", {report.removed} removed" if report.removed else ""
    return (
        f"{report.files} files, of which {report.sent} were {verb} ({report.sent_bytes} bytes){removed}; "
        f"root hash {report.root_sha256[:12]}"
    )


if __name__ == "__main__":
    sys.exit(main())
