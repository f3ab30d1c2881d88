"""The sections of the page in the order of the questions that a reader has."""

from collections.abc import Mapping, Sequence
from typing import Any

from train.page.answer import ReportAnswer
from train.page.blocks import PageSection
from train.page.closest import ClosestPairs
from train.page.comparison import RunComparison
from train.page.figures import Drawing
from train.page.funnel import Funnel
from train.page.mosaic import Tile
from train.page.noise import LabelNoise
from train.page.results import FLAT, Results
from train.page.sections import (
    calibration,
    closest,
    clustering,
    confusion,
    controls,
    curves,
    funnel,
    made,
    mosaic,
    noise,
    published,
    results,
    slices,
    tree,
    white,
)
from train.page.slices import ImageSlice
from train.page.tree import TreeNode


def sections(
    read: Results,
    comparison: RunComparison,
    *,
    answer: ReportAnswer,
    steps: Funnel,
    drawings: Mapping[str, Drawing],
    tiles: Sequence[Sequence[Tile]],
    trees: Mapping[str, TreeNode],
    parts: Sequence[ImageSlice],
    near: ClosestPairs | None,
    doubts: LabelNoise | None,
    confusions: int,
    params: Mapping[str, Any],
    versions: Mapping[str, str],
    provenance: Mapping[str, str],
) -> list[PageSection]:
    """
    Returns every section of the page; those on hierarchies only where a hierarchy was trained.

    Args:
        read: What the stages above wrote.
        comparison: The runs of `read` compared.
        answer: What stands first.
        steps: What each stage of the pipeline kept.
        drawings: Every figure by its name.
        tiles: Test images, a row for each label.
        trees: The tree of each hierarchy, by the name of its run.
        parts: The slices of the test images.
        near: The closest images of different splits; None: not compared.
        doubts: Samples with doubtful labels; None: not searched for.
        confusions: Rows in the table of the worst confusions.
        params: The effective parameters of the report.
        versions: Versions of the libraries that made the report.
        provenance: Named facts about the project, see `page.provenance`.
    """
    names = [row.run.name for row in comparison.hierarchies]
    leading = [row.run.name for row in comparison.leading]

    def drawn(prefix: str, runs: Sequence[str]) -> dict[str, Drawing]:
        return {name: drawings[f"{prefix}-{name}"] for name in runs}

    listed = [
        PageSection("answer", "The answer", answer),
        results.section(read, comparison, drawings),
    ]
    if comparison.control_groups:
        listed.append(controls.section(comparison))
    listed += [
        published.section(read, comparison),
        funnel.section(steps, drawings.get("funnel")),
        mosaic.section(tiles, read.labels, comparison.flat),
        confusion.confusion(drawings["confusion"], drawings["confusion-clusters"], read),
        confusion.worst(read, comparison, limit=confusions),
    ]
    if names:
        listed += [
            confusion.difference(drawn("difference", names), leading, read, comparison),
            tree.section(drawn("tree", names), trees, leading, read),
        ]
    return [
        *listed,
        clustering.section(read),
        curves.section(drawn("curves", [FLAT, *names]), leading, read),
        calibration.section(comparison, drawings["reliability"]),
        slices.section(comparison, parts),
        white.section(read, comparison),
        *([] if near is None else [closest.section(near)]),
        *([] if doubts is None else [noise.section(doubts)]),
        made.section(read, params=params, versions=versions, provenance=provenance),
    ]
