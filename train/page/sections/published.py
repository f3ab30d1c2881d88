"""Our runs in the form of the papers' tables, below the figures that the papers print."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from train.page import published
from train.page.blocks import PageSection, ReportTable
from train.page.comparison import RunComparison
from train.page.formatting import count
from train.page.papers import dhnn, hdcnn, hiernet, merged, uppsala
from train.page.papers.part import PaperPart
from train.page.results import Results
from train.page.summary import RunSummary

_PARTS: Mapping[str, Callable[[Results, RunComparison, Sequence[RunSummary]], PaperPart]] = {
    "hiernet": hiernet.part,
    "hdcnn": hdcnn.part,
    "merged": merged.part,
    "dhnn": dhnn.part,
}


@dataclass(frozen=True, slots=True)
class PublishedContent:
    """What `templates/published.html` shows: the Uppsala report, then every other paper."""

    there: str
    here: str
    tables: tuple[ReportTable, ...]
    doubts: tuple[str, ...]
    papers: tuple[PaperPart, ...]


def section(results: Results, comparison: RunComparison) -> PageSection:
    """Returns both tables of the Uppsala report, and the tables of each paper whose method ran."""
    runs = {
        method: [row for row in comparison.hierarchies if row.run.method == method]
        for method in _PARTS
    }
    content = PublishedContent(
        there=published.DATA,
        here=_data(results),
        tables=uppsala.tables(results, comparison),
        doubts=published.DOUBTS,
        papers=tuple(
            _PARTS[method](results, comparison, ours) for method, ours in runs.items() if ours
        ),
    )
    return PageSection("published", "Beside the papers", content)


def _data(results: Results) -> str:
    samples, side = results.manifest.samples, results.manifest.image.side
    splits = ", ".join(f"{count(n)} {split}" for split, n in samples.items())
    return (
        f"{len(results.labels)} labels, {count(sum(samples.values()))} images of {side} × {side} "
        f"pixels ({splits}), {len(results.seeds)} "
        f"training{'s' if len(results.seeds) > 1 else ''} of each run."
    )
