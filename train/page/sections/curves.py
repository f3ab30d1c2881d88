"""How training went: loss curves, and what the training of every network took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.documents import NetworkDocument
from train.page.blocks import FigureGroup, PageSection, ReportTable, group, table
from train.page.figures import Drawing
from train.page.formatting import count, seconds
from train.page.results import Results


@dataclass(frozen=True, slots=True)
class CurvesContent:
    """What `templates/curves.html` shows."""

    figures: FigureGroup
    networks: ReportTable


def section(
    drawings: Mapping[str, Drawing], leading: Sequence[str], results: Results
) -> PageSection:
    """Returns loss curves and a row for each network, of each run's first seed."""
    first = results.first_seeds
    notes = {name: f"{name}, seed {first[name]}." for name in drawings}
    rows = [
        (run.name, *_network(network))
        for run in results.runs
        for network in run.seeds[first[run.name]].fit.networks
    ]
    head = ("run", "network", "images", "epochs", "discarded", "seconds", "stopped by")
    networks = table(
        head, rows, caption="The training of every network, first seed of its run.", words=(0, 1, 6)
    )
    figures = group(drawings, notes, (results.flat.name, *leading))
    return PageSection("curves", "How training went", CurvesContent(figures, networks))


def _network(network: NetworkDocument) -> tuple[str, ...]:
    return (
        network.network,
        count(network.pictures),
        str(network.epochs),
        str(network.discarded_epochs),
        seconds(network.seconds),
        network.stopped_by.replace("_", " "),
    )
