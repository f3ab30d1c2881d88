"""One paper on the page: its data, our data, and its tables with our rows below."""

from dataclasses import dataclass

from train.page.blocks import ReportTable
from train.page.formatting import count, with_intervals
from train.page.results import ComparedRun
from train.page.summary import RunSummary


@dataclass(frozen=True, slots=True)
class PaperPart:
    """One paper on the page. `note` stands below the first table and may be empty."""

    name: str
    there: str
    here: str
    tables: tuple[ReportTable, ...]
    note: str = ""


def epochs(run: ComparedRun) -> str:
    """Returns the epochs of all networks of a run's first seed together, as text."""
    total = sum(network.epochs for network in run.first.fit.networks)
    return f"{count(total)} epochs"


def backbone(row: RunSummary) -> str:
    """Returns the name of a run's backbone."""
    name: str = row.run.first.model.backbone
    return name


def gain(row: RunSummary) -> str:
    """Returns the points over the flat network of the same seed, with both intervals."""
    return with_intervals(row.difference, digits=2)
