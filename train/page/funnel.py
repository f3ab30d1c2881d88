"""Reads from the catalog how many posts each stage kept, and why it refused the others."""

from dataclasses import dataclass
from pathlib import Path

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


def read(catalog_path: Path) -> Funnel:
    """
    Reads the view `funnel` of the catalog.

    A machine that only trains may lack the catalog and duckdb. The funnel is then empty, with the
    reason in `absent_because`, and the rest of the report is unchanged.
    """
    if not catalog_path.is_file():
        return Funnel((), f"{catalog_path} is absent (stage 'catalog' writes it).")
    try:
        import duckdb
    except ImportError:
        return Funnel((), "The library duckdb is not installed here.")
    try:
        with duckdb.connect(str(catalog_path), read_only=True) as catalog:
            rows = catalog.execute(
                "SELECT stage, outcome, posts FROM funnel ORDER BY position, posts DESC, outcome"
            ).fetchall()
            seen = catalog.execute("SELECT count(*) FROM posts").fetchone()
    except duckdb.Error as error:
        return Funnel((), f"{catalog_path} could not be read: {error}")
    return Funnel(_steps(rows, entered=int(seen[0]) if seen else 0))


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
