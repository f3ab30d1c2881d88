"""Figures: the same bytes for the same numbers, hostile names, and the rows they were drawn from."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from train.page import curves, figures, tree
from train.page.statistics import Interval

LABELS = ["<script>alert(1)</script>", 'a"onload=x', "-->&amp;$x^2$ 初音ミク", "plain"]
SHARES = np.array(
    [[0.7, 0.2, 0.1, 0.0], [0.1, 0.9, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.25, 0.75]]
)
CLUSTERS = [[0, 1], [2, 3]]


def _texts(svg):
    return ["".join(one.itertext()) for one in ET.fromstring(svg).findall(".//{*}text")]


def test_hostile_names_are_text():
    """A tag named like a script is text of the figure, and the figure is well-formed XML."""
    drawn = figures.confusion(SHARES, LABELS, name="confusion")

    assert figures.shown(LABELS[0]) in _texts(drawn.svg)
    assert "<script" not in drawn.svg


def test_same_numbers_give_the_same_bytes():
    """A figure has no date and no random identifier."""
    first, second = (
        figures.confusion(SHARES, LABELS, name="confusion", clusters=CLUSTERS) for _ in range(2)
    )

    assert first.svg == second.svg
    assert "date" not in first.svg.lower()


def test_identifiers_carry_the_name_of_the_figure():
    """Two figures in one page share no identifier, and each refers to its own."""
    drawn = figures.confusion(SHARES, LABELS, name="one")
    elements = list(ET.fromstring(drawn.svg).iter())
    names = [one.attrib["id"] for one in elements if "id" in one.attrib]
    clips = [one.attrib["clip-path"] for one in elements if "clip-path" in one.attrib]

    assert [name for name in names if not name.startswith("one-")] == []
    assert {clip[5:-1] for clip in clips} <= set(names)


def test_rows_hold_every_cell():
    """The CSV of a confusion names true label, predicted label and the exact share."""
    drawn = figures.confusion(SHARES, LABELS, name="confusion", clusters=CLUSTERS)

    assert ("true_label", "predicted_label", "value") == drawn.columns
    assert len(LABELS) ** 2 == len(drawn.rows)
    assert (LABELS[0], LABELS[1], 0.2) in drawn.rows


def test_cluster_order_moves_labels_together():
    """With clusters, the names stand in the order of the clusters on both axes."""
    drawn = figures.confusion(SHARES, ["a", "b", "c", "d"], name="c", clusters=[[0, 2], [1, 3]])
    names = [text for text in _texts(drawn.svg) if text in "abcd"]

    assert ["a", "c", "b", "d"] * 2 == names


def test_difference_clips_and_does_not_rescale():
    """0.3 and 0.9 have one colour; the rows keep what was measured."""
    size = figures.ANNOTATED_LABELS + 1
    names = [str(number) for number in range(size)]
    drawn = [
        figures.difference(np.full((size, size), value), names, name="d", clusters=[[*range(size)]])
        for value in (0.3, 0.9, 0.15)
    ]

    assert drawn[0].svg == drawn[1].svg
    assert drawn[0].svg != drawn[2].svg
    assert 0.9 == drawn[1].rows[0][2]


def test_cells_of_many_labels_are_not_annotated():
    """Above sixteen labels the cells hold no numbers, which nobody could read."""
    size = figures.ANNOTATED_LABELS + 1
    drawn = figures.confusion(np.eye(size) * 0.37, ["x"] * size, name="c")

    assert "37" not in _texts(drawn.svg)


def test_intervals_are_in_points():
    """An interval of shares is drawn in percentage points and written as shares."""
    drawn = figures.intervals({"a": Interval(0.02, 0.01, 0.03)}, name="i", caption="points")

    assert ("a", 0.02, 0.01, 0.03) == drawn.rows[0]
    assert "points" in _texts(drawn.svg)


def test_funnel_says_both_counts():
    """A bar of the funnel says how many posts were kept and how many refused."""
    drawn = figures.funnel([("decide", 8000, 2000), ("split", 10, 0)], name="f")

    assert "8,000 kept, 2,000 refused" in _texts(drawn.svg)
    assert "10 kept" in _texts(drawn.svg)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("short", "short"), ("x" * 30, "x" * 23 + "…"), ("a\nb\x00", "a\ufffdb\ufffd")],
)
def test_names_are_cut_and_cleaned(name, expected):
    """A long name is cut with an ellipsis; control characters are replaced."""
    assert expected == figures.shown(name)


def _rows(losses, rates):
    return [
        {"network": "root", "epoch": str(epoch), "lr": str(rate), "train_loss": "1.0",
         "val_loss": str(loss)}
        for epoch, (loss, rate) in enumerate(zip(losses, rates, strict=True), start=1)
    ]  # fmt: skip


def test_curve_marks_least_loss_and_rate_cuts():
    """The worked plateau of the methods: best at epoch 2, rate halved after epoch 6."""
    losses = [1.0, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98]
    (curve,) = curves.read(_rows(losses, [1e-3] * 6 + [5e-4] * 4))

    assert 2 == curve.kept
    assert (7,) == curve.cuts


def test_changing_schedule_has_no_cuts():
    """A one-cycle schedule changes the rate at each epoch; none of it is a cut."""
    (curve,) = curves.read(_rows([1.0] * 5, [1.0, 0.5, 0.2, 0.05, 0.01]))

    assert () == curve.cuts


def test_curve_bears_an_empty_validation_loss():
    """An epoch without a validation loss is drawn as a gap and never the least."""
    rows = _rows([1.0, 0.8], [0.1, 0.1])
    rows[0]["val_loss"] = ""
    (curve,) = curves.read(rows)

    assert 2 == curve.kept
    assert "<svg" in curves.draw([curve], name="c").svg


def test_tree_draws_networks_and_labels():
    """The tree holds each network once and each label with its success and change."""
    leaves = [tree.Node(label, True, 0.5, 10, -0.2, ()) for label in LABELS]
    clusters = [
        tree.Node(f"cluster-{k}", False, 0.8, 20, None, tuple(leaves[2 * k : 2 * k + 2]))
        for k in range(2)
    ]
    drawn = tree.draw(tree.Node("root", False, 0.9, 40, None, tuple(clusters)), name="tree")
    texts = _texts(drawn.svg)

    assert 1 == texts.count("cluster-0")
    assert figures.shown(LABELS[0]) in texts
    assert 4 == texts.count("−20")
    assert 7 == len(drawn.rows)
