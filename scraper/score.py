"""
What a plan said and what happened: the plan is kept, and every later run is scored against it.

`python -m scraper plan` writes `plan.json` in the data folder. A run adds the requests that it sent to
`requests.json`, and writes `score.json` when nothing is left to do.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from personae import tables
from personae.documents import Document, Part
from scraper.site import Site

if TYPE_CHECKING:  # the planner imports more than a score needs
    from scraper.planner import Plan

_FOLDER = "plan"


class PlannedPersona(Part):
    """One persona: how many posts are tagged, how many would be kept, whether it becomes a label."""

    name: str
    posts: int
    kept: int
    qualifies: bool


class PlanDocument(Document):
    """`plan.json`: what a run would take."""

    stage: ClassVar[str] = "plan"

    made: str
    """Day and time, UTC, as ISO 8601."""
    site: str
    personae: tuple[PlannedPersona, ...]
    listing_requests: int
    downloads: int
    download_bytes: float
    listing_hours: float
    download_hours: float


class Comparison(Part):
    """One figure of a plan, and what it was in the end."""

    planned: float
    actual: float
    ratio: float | None
    """actual / planned; None where nothing was planned."""


class ScoreDocument(Document):
    """`score.json`: the plan against the run."""

    stage: ClassVar[str] = "plan"

    plan_made: str
    scored: str
    personae: Comparison
    personae_missed: tuple[str, ...]
    """Planned labels that became none."""
    personae_new: tuple[str, ...]
    """Labels that the plan did not foresee."""
    images: Comparison
    image_bytes: Comparison
    listing_requests: Comparison
    download_requests: Comparison


class Requests(Document):
    """`requests.json`: requests sent since the plan was made."""

    stage: ClassVar[str] = "plan"

    listing: int = 0
    download: int = 0


def keep(plan: "Plan", site: Site, data_dir: Path) -> Path:
    """Writes a plan, which starts the count of requests anew; returns the path."""
    document = PlanDocument(
        made=_now(),
        site=site.name,
        personae=tuple(
            PlannedPersona(name=row.name, posts=row.posts, kept=row.kept, qualifies=row.qualifies)
            for row in plan.personae
        ),
        listing_requests=plan.listing_requests,
        downloads=plan.downloads,
        download_bytes=plan.download_bytes,
        listing_hours=site.hours(plan.listing_requests, site.api_rate),
        download_hours=site.hours(plan.downloads, site.cdn_rate),
    )
    folder = data_dir / _FOLDER
    document.write(folder / "plan.json")
    Requests(listing=0, download=0).write(folder / "requests.json")
    return folder / "plan.json"


def note(data_dir: Path, stage: str, requests: int) -> None:
    """Adds the requests of one run of `listing` or `download`, where there is a plan."""
    path = data_dir / _FOLDER / "requests.json"
    if path.is_file() and requests:
        known = Requests.read(path)
        sums = {"listing": known.listing, "download": known.download}
        sums["download" if stage == "download" else "listing"] += requests
        Requests(**sums).write(path)


def score(data_dir: Path) -> ScoreDocument | None:
    """
    Compares a finished run with its plan, and writes `score.json`; returns None without a plan.

    Raises:
        MissingInput: A table of the run is absent.
        BadDocument: The plan is damaged.
    """
    folder = data_dir / _FOLDER
    if not (folder / "plan.json").is_file():
        return None
    plan = PlanDocument.read(folder / "plan.json")
    requests = Requests.read(folder / "requests.json")
    personae = tables.read(
        data_dir / "decide" / "personae.parquet", ("persona", "qualifies"), stage="decide"
    ).to_pylist()
    images = tables.read(
        data_dir / "download" / "images.parquet", ("file_bytes",), stage="download"
    )
    labels = {row["persona"] for row in personae if row["qualifies"]}
    planned = {row.name for row in plan.personae if row.qualifies}
    document = ScoreDocument(
        plan_made=plan.made,
        scored=_now(),
        personae=_compared(len(planned), len(labels)),
        personae_missed=tuple(sorted(planned - labels)),
        personae_new=tuple(sorted(labels - planned)),
        images=_compared(plan.downloads, images.num_rows),
        image_bytes=_compared(plan.download_bytes, sum(images.column("file_bytes").to_pylist())),
        listing_requests=_compared(plan.listing_requests, requests.listing),
        download_requests=_compared(plan.downloads, requests.download),
    )
    document.write(folder / "score.json")
    return document


def render(document: ScoreDocument) -> str:
    """Returns the score as one line."""
    parts = {
        "personae": document.personae,
        "images": document.images,
        "bytes": document.image_bytes,
        "listing requests": document.listing_requests,
        "downloads": document.download_requests,
    }
    shares = [
        f"{name} {compared.ratio:.0%}"
        for name, compared in parts.items()
        if compared.ratio is not None
    ]
    return f"plan      of {document.plan_made[:10]}, what came of it: {', '.join(shares)}"


def _compared(planned: float, actual: float) -> Comparison:
    return Comparison(planned=planned, actual=actual, ratio=actual / planned if planned else None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
