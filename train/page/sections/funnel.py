"""The funnel from board to data set: what each stage kept, and every reason with its count."""

from dataclasses import dataclass

from train.page.blocks import PageSection, ReportFigure, browse_address
from train.page.figures import Drawing
from train.page.funnel import Funnel, Step

_THINNEST = 0.004  # of the widest bar; a thinner bar would not be visible


@dataclass(frozen=True, slots=True)
class ReasonBar:
    """One reason of a stage: its posts, its bar in percent of the widest, and where they are."""

    reason: str
    posts: int
    width: str
    address: str


@dataclass(frozen=True, slots=True)
class StageReasons:
    """Why one stage refused posts; a post that fails several rules counts under each."""

    stage: str
    refused: int
    entered: int
    reasons: tuple[ReasonBar, ...]


@dataclass(frozen=True, slots=True)
class FunnelContent:
    """What `templates/funnel.html` shows: the funnel, or the reason why there is none."""

    figure: ReportFigure | None
    stages: tuple[StageReasons, ...]
    absent_because: str


def section(funnel: Funnel, drawing: Drawing | None) -> PageSection:
    """Returns the drawn funnel with all reasons; without a drawing, why there is none."""
    title = "From board to data set"
    if funnel.absent_because or drawing is None:
        absent = funnel.absent_because or "The catalog lists no stage."
        return PageSection("funnel", title, FunnelContent(None, (), absent))
    widest = max((posts for step in funnel.steps for _, posts in step.reasons), default=1)
    content = FunnelContent(
        figure=ReportFigure(drawing, "Posts that each stage kept and refused."),
        stages=tuple(_reasons(step, widest) for step in funnel.steps if step.reasons),
        absent_because="",
    )
    return PageSection("funnel", title, content)


def _reasons(step: Step, widest: int) -> StageReasons:
    bars = tuple(
        ReasonBar(
            reason,
            posts,
            f"{100 * max(posts / widest, _THINNEST):.1f}%",
            browse_address(stage=step.stage, reason=reason),
        )
        for reason, posts in step.reasons
    )
    return StageReasons(step.stage, step.refused, step.entered, bars)
