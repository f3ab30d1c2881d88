"""Samples of train and val with a doubtful label, by networks that were not trained on them."""

from dataclasses import dataclass

from train.page.blocks import BROWSE_PAGE, PageSection, ReportTable, table
from train.page.formatting import count, percent
from train.page.noise import LabelNoise

_LONG = 30  # rows; a longer table is folded


@dataclass(frozen=True, slots=True)
class NoiseContent:
    """What `templates/noise.html` shows; the tables are None where no label is doubtful."""

    noise: LabelNoise
    share: str
    labels: ReportTable | None
    samples: ReportTable | None
    are_labels_folded: bool
    are_samples_folded: bool


def section(noise: LabelNoise) -> PageSection:
    """Returns the number of doubtful samples of each label, and the most doubtful of them."""
    shown = [sample for label in noise.labels for sample in label.shown]
    content = NoiseContent(
        noise,
        share=percent(noise.suspects / max(1, noise.samples)),
        labels=_labels(noise) if noise.labels else None,
        samples=_samples(noise) if shown else None,
        are_labels_folded=len(noise.labels) > _LONG,
        are_samples_folded=len(shown) > _LONG,
    )
    return PageSection("noise", "Label noise", content)


def _labels(noise: LabelNoise) -> ReportTable:
    rows = [
        (
            label.label,
            count(label.suspects),
            count(label.samples),
            percent(label.suspects / label.samples),
        )
        for label in noise.labels
    ]
    return table(
        ("label", "suspect", "n", "suspect, %"),
        rows,
        caption="Suspect samples of each label; n samples of train and val. Largest share first; labels "
        "without a suspect are left out.",
    )


def _samples(noise: LabelNoise) -> ReportTable:
    rows: list[tuple[str, ...]] = []
    links = {}
    for label in noise.labels:
        for sample in label.shown:
            links[len(rows), 1] = f"{BROWSE_PAGE}?post={sample.post_id}"
            rows.append(
                (
                    sample.label,
                    str(sample.post_id),
                    sample.split,
                    sample.predicted,
                    percent(sample.own),
                    percent(sample.own + sample.margin),
                )
            )
    return table(
        ("label", "post", "split", "predicted label", "P(label), %", "P(predicted), %"),
        rows,
        caption="The most doubtful samples of each label. A post leads to its image while python -m "
        "curation browse runs.",
        words=(0, 1, 2, 3),
        links=links,
    )
