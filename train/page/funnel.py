"""Reads from the catalog how many posts each stage kept, and why it refused the others."""

from dataclasses import dataclass

from train.page.catalog import Catalog, CatalogUnreadable

KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Step:
    """One stage. A post that failed several rules counts under each of its reasons."""

    stage: str
    kept: int
    refused: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def entered(self) -> int:
        """Posts that the stage looked at."""
        return self.kept + self.refused


@dataclass(frozen=True, slots=True)
class Funnel:
    """The steps in the order of the pipeline, or the reason why there are none."""

    steps: tuple[Step, ...]
    absent_because: str | None = None


def read(catalog: Catalog) -> Funnel:
    """
    Reads the view `funnel` of the catalog.

    Without a catalog the funnel is empty, with the reason in `absent_because`, and the rest of the
    report is unchanged.
    """
    try:
        rows = catalog.rows(
            "SELECT stage, outcome, posts FROM funnel ORDER BY position, posts DESC, outcome"
        )
        ((seen,),) = catalog.rows("SELECT count(*) FROM posts")
    except CatalogUnreadable as reason:
        return Funnel((), str(reason))
    return Funnel(_steps(rows, entered=int(seen)))


def _steps(rows: list[tuple[str, str, int]], *, entered: int) -> tuple[Step, ...]:
    steps = []
    for stage in dict.fromkeys(stage for stage, _, _ in rows):
        kept = sum(posts for name, outcome, posts in rows if name == stage and outcome == KEPT)
        reasons = tuple(
            (outcome, posts) for name, outcome, posts in rows if name == stage and outcome != KEPT
        )
        steps.append(Step(stage=stage, kept=kept, refused=max(0, entered - kept), reasons=reasons))
        entered = kept
    return tuple(steps)
