"""How far probabilities can be trusted: NLL, Brier score, ECE, before and after temperature scaling."""

from dataclasses import dataclass

from train.page.blocks import PageSection, ReportFigure, ReportTable, table
from train.page.comparison import RunComparison
from train.page.figures import Drawing
from train.page.formatting import plain_spread, spread
from train.page.results import ComparedRun
from train.page.spread import Spread


@dataclass(frozen=True, slots=True)
class CalibrationContent:
    """What `templates/calibration.html` shows."""

    diagram: ReportFigure
    measures: ReportTable


def section(comparison: RunComparison, diagram: Drawing) -> PageSection:
    """Returns the calibration of every run in its default mode."""
    head = (
        "run",
        "NLL, nats",
        "Brier score",
        "ECE, %",
        "temperature",
        "NLL, scaled",
        "ECE, scaled, %",
    )
    rows = [_row(row.run) for row in comparison.summaries if row.mode == "default"]
    caption = (
        "Calibration on the test images, means over seeds. The temperature has the least NLL on the "
        "validation images; above 1 the run is overconfident. Scaled: the same figures with the "
        "probabilities at that temperature. It changes no predicted label. A run that follows one "
        "route gives other branches the probability zero, which counts as 10⁻¹² in the NLL. An empty "
        "cell was not measured."
    )
    note = (
        "All seeds. Points: accuracy of the images in a bin of confidence. Bars: share of images."
    )
    content = CalibrationContent(ReportFigure(diagram, note), table(head, rows, caption=caption))
    return PageSection("calibration", "Calibration", content)


def _row(run: ComparedRun) -> tuple[str, ...]:
    return (
        run.name,
        _plain(run, "nll"),
        _plain(run, "brier"),
        spread(_values(run, "ece")),
        _plain(run, "temperature"),
        _plain(run, "nll_scaled"),
        spread(_values(run, "ece_scaled")),
    )


def _plain(run: ComparedRun, name: str) -> str:
    values = _values(run, name)
    return "" if values is None else plain_spread(values)


def _values(run: ComparedRun, name: str) -> Spread | None:
    values = run.figure(name)
    return None if values is None else Spread(values)
