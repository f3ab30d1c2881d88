"""
Stage `report`: all predictions to one comparison, with intervals, figures and one page.

Reads results/RUN/SEED/*, data/clustering, data/shards and, where there is one, the catalog.
Writes results/report/{index.html, comparison.parquet} and each figure as SVG with its CSV.
"""

import csv
import io
import logging
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from personae import files, tables
from train.page import (
    answer,
    beside,
    comparison,
    curves,
    details,
    figures,
    funnel,
    mosaic,
    page,
    results,
    scatter,
    sections,
    summary,
    tree,
)

log = logging.getLogger(__name__)


class Params(BaseModel):
    """Section `report`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(
        10, ge=0, le=50, description="test images of each label in the mosaic; ten fill a line"
    )
    resamples: int = Field(
        10_000, ge=100, le=1_000_000, description="bootstrap resamples behind each interval"
    )
    seed: int = Field(0, ge=0, description="seed of the bootstrap and of the mosaic")
    confusions: int = Field(
        12, ge=0, le=1000, description="lines in the list of worst confusions; a screen full"
    )


def run(
    params: Params,
    *,
    data_dir: Path,
    results_dir: Path,
    runs: Mapping[str, results.RunLike],
    seeds: Sequence[int],
) -> None:
    """
    Writes the report of `runs` (the flat one goes without saying) over `seeds`.

    Raises:
        MissingInput: A stage above has not written what the report needs.
        MixedResults: Its inputs were made from different data.
        BadShard: An image of the mosaic cannot be read from the shards.
    """
    found = results.read(data_dir=data_dir, results_dir=results_dir, runs=runs, seeds=seeds)
    compared = comparison.compare(found, resamples=params.resamples, seed=params.seed)
    steps = funnel.read(data_dir / "catalog" / "catalog.duckdb")
    tiles = _tiles(found, compared, params, shards_dir=data_dir / "shards")
    trees = {
        row.run.name: tree.build(row, compared.flat, found.labels, seed=next(iter(row.answers)))
        for row in compared.hierarchies
    }
    drawn = _draw(found, compared, steps, trees)
    parts = _sections(
        params, found=found, compared=compared, steps=steps, drawn=drawn, tiles=tiles, trees=trees
    )
    out_dir = results_dir / "report"
    shutil.rmtree(out_dir, ignore_errors=True)  # figures of runs that are gone
    for drawing in drawn.values():
        files.write_text(out_dir / f"{drawing.name}.svg", f'<?xml version="1.0"?>\n{drawing.svg}')
        files.write_text(out_dir / f"{drawing.name}.csv", _csv(drawing))
    tables.write(out_dir / "comparison.parquet", comparison.table(found, compared))
    # Last: a page says that everything beside it is whole.
    files.write_text(out_dir / "index.html", page.assemble(parts))
    said = answer.write(compared, images=len(found.white))
    log.info(
        "report: %d runs, %d seeds, %s: %s", len(found.runs), len(seeds), out_dir, said.verdict
    )


def _draw(
    found: results.Results,
    compared: comparison.Comparison,
    steps: funnel.Funnel,
    trees: Mapping[str, tree.Node],
) -> dict[str, figures.Drawing]:
    """Returns every figure under its name."""
    leaves, seed = len(found.labels), found.seeds[0]
    clusters = found.reference(seed).clusters
    flat = summary.shares(compared.flat.answers, leaves)
    drawings = [
        figures.confusion(flat, found.labels, name="confusion"),
        figures.confusion(flat, found.labels, name="confusion-clusters", clusters=clusters),
        curves.draw(curves.read(found.flat.seeds[seed].curves), name="curves-flat"),
    ]
    intervals = {
        row.name: row.difference
        for row in compared.summaries
        if row.difference and (row.mode == "default" or not row.run.is_control)
    }
    if intervals:
        drawings.append(scatter.draw(scatter.points(compared), name="cost"))
        caption = "MSR minus that of flat, percentage points"
        drawings.append(figures.intervals(intervals, name="differences", caption=caption))
    if steps.steps:
        stages = [(step.stage, step.kept, step.refused) for step in steps.steps]
        drawings.append(figures.funnel(stages, name="funnel"))
    for row in compared.hierarchies:
        seed = next(iter(row.answers))
        change = summary.shares(row.answers, leaves) - flat
        name = row.run.name
        own = found.own(row.run, seed)
        groups = own.ordered if own else clusters
        drawings += [
            figures.difference(change, found.labels, name=f"difference-{name}", clusters=groups),
            tree.draw(trees[name], name=f"tree-{name}"),
            curves.draw(curves.read(row.run.seeds[seed].curves), name=f"curves-{name}"),
        ]
    return {drawing.name: drawing for drawing in drawings}


def _tiles(
    found: results.Results,
    compared: comparison.Comparison,
    params: Params,
    *,
    shards_dir: Path,
) -> list[list[mosaic.Tile]]:
    seed = found.seeds[0]
    flat = compared.flat.answers[seed]
    other = compared.main.answers.get(seed) if compared.main else None
    rows = mosaic.choose(flat, leaves=len(found.labels), each=params.samples, seed=params.seed)
    return mosaic.read(rows, flat, other, shards_dir=shards_dir)


def _sections(
    params: Params,
    *,
    found: results.Results,
    compared: comparison.Comparison,
    steps: funnel.Funnel,
    drawn: Mapping[str, figures.Drawing],
    tiles: Sequence[Sequence[mosaic.Tile]],
    trees: Mapping[str, tree.Node],
) -> list[sections.Section]:
    names = [row.run.name for row in compared.hierarchies]
    leading = [row.run.name for row in compared.leading]
    parts = [
        sections.answer(answer.write(compared, images=len(found.white))),
        sections.results(found, compared, drawn),
        *([sections.controls(compared)] if compared.contests else []),
        beside.section(found, compared),
        sections.funnel(steps, drawn.get("funnel")),
        details.mosaic(tiles, found.labels, compared.flat),
        details.confusions(
            drawn["confusion"], drawn["confusion-clusters"], labels=len(found.labels)
        ),
    ]
    if names:
        parts += [
            details.differences(
                {name: drawn[f"difference-{name}"] for name in names}, leading, found, compared
            ),
            details.trees(
                {name: drawn[f"tree-{name}"] for name in names},
                [tree.levels(trees[name], name=name) for name in names],
                leading,
                found,
            ),
        ]
    parts += [
        details.clustering(found),
        details.curves(
            {name: drawn[f"curves-{name}"] for name in ("flat", *names)}, leading, found
        ),
        details.white(found, compared),
        details.worst(found, compared, limit=params.confusions),
        details.made(
            found,
            params=params.model_dump(),
            versions={name: metadata.version(name) for name in ("matplotlib", "numpy")},
        ),
    ]
    return parts


def _csv(drawing: figures.Drawing) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(drawing.columns)
    writer.writerows(drawing.rows)
    return text.getvalue()
