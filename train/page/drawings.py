"""Every figure of the report, drawn from the results and their comparison."""

from collections.abc import Mapping

from train.page import curves, figures, reliability, scatter, summary, tree
from train.page.comparison import RunComparison
from train.page.figures import Drawing
from train.page.funnel import Funnel
from train.page.results import Results
from train.page.tree import TreeNode


def draw(
    results: Results,
    comparison: RunComparison,
    steps: Funnel,
    trees: Mapping[str, TreeNode],
) -> dict[str, Drawing]:
    """
    Returns every figure by its name.

    The figures of one run show its first seed, except the confusions, which are means over seeds.
    """
    leaves, first = len(results.labels), results.seeds[0]
    clusters = results.reference(first).clusters
    flat = summary.shares(comparison.flat.predictions, leaves)
    drawings = [
        figures.confusion(flat, results.labels, name="confusion"),
        figures.confusion(flat, results.labels, name="confusion-clusters", clusters=clusters),
        curves.draw(curves.read(results.flat.seeds[first].curves), name="curves-flat"),
        reliability.draw(
            [results.flat, *(row.run for row in comparison.leading)], name="reliability"
        ),
    ]
    intervals = {
        row.name: row.difference
        for row in comparison.summaries
        if row.difference and (row.mode == "default" or not row.run.is_control)
    }
    if intervals:
        caption = "accuracy minus that of flat, percentage points"
        drawings.append(scatter.draw(scatter.points(comparison), name="cost"))
        drawings.append(figures.intervals(intervals, name="differences", caption=caption))
    if steps.steps:
        stages = [(step.stage, step.kept, step.refused) for step in steps.steps]
        drawings.append(figures.funnel(stages, name="funnel"))
    for row in comparison.hierarchies:
        seed = next(iter(row.predictions))
        change = summary.shares(row.predictions, leaves) - flat
        name = row.run.name
        own = results.own(row.run, seed)
        groups = own.ordered if own else clusters
        drawings += [
            figures.difference(change, results.labels, name=f"difference-{name}", clusters=groups),
            tree.draw(trees[name], name=f"tree-{name}"),
            curves.draw(curves.read(row.run.seeds[seed].curves), name=f"curves-{name}"),
        ]
    return {drawing.name: drawing for drawing in drawings}
