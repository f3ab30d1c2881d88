"""Figures: the same bytes for the same numbers, hostile names, and the rows of each figure."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from train.evaluation.statistics import Interval
from train.page import curves, figures, scatter, tree
from train.page.differences import PairedDifference

LABELS = ["<script>alert(1)</script>", 'a"onload=x', "-->&amp;$x^2$ 初音ミク", "plain"]
SHARES = np.array(
    [[0.7, 0.2, 0.1, 0.0], [0.1, 0.9, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.25, 0.75]]
)
CLUSTERS = [[0, 1], [2, 3]]


def _texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).findall(".//{*}text")]


def test_hostile_names_are_text():
    """A label named like a script is text in the figure, and the figure is well-formed XML."""
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
    names = [element.attrib["id"] for element in elements if "id" in element.attrib]
    clips = [element.attrib["clip-path"] for element in elements if "clip-path" in element.attrib]

    assert [name for name in names if not name.startswith("one-")] == []
    assert {clip[5:-1] for clip in clips} <= set(names)


def test_rows_hold_every_cell():
    """The CSV of a confusion matrix names true label, predicted label and the exact share."""
    drawn = figures.confusion(SHARES, LABELS, name="confusion", clusters=CLUSTERS)

    assert ("true_label", "predicted_label", "value") == drawn.columns
    assert len(LABELS) ** 2 == len(drawn.rows)
    assert (LABELS[0], LABELS[1], 0.2) in drawn.rows


def test_cluster_order_moves_labels_together():
    """With clusters, the labels of both axes are in the order of the clusters."""
    drawn = figures.confusion(SHARES, ["a", "b", "c", "d"], name="c", clusters=[[0, 2], [1, 3]])
    names = [text for text in _texts(drawn.svg) if text in "abcd"]

    assert ["a", "c", "b", "d"] * 2 == names


def test_difference_clips_and_does_not_rescale():
    """0.3 and 0.9 have the same colour; the rows keep the measured values."""
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
    """With more than sixteen labels the cells have no numbers."""
    size = figures.ANNOTATED_LABELS + 1
    drawn = figures.confusion(np.eye(size) * 0.37, ["x"] * size, name="c")

    assert "37" not in _texts(drawn.svg)


def test_intervals_are_in_points():
    """An interval of shares is drawn in percentage points and written as shares."""
    difference = PairedDifference(Interval(0.02, 0.01, 0.03), (0.02,), None)
    drawn = figures.intervals({"a": difference}, name="i", caption="points")

    assert ("a", 0.02, 0.01, 0.03, 1, None, None) == drawn.rows[0]
    assert "points" in _texts(drawn.svg)


@pytest.mark.parametrize(
    ("by_seed", "over_seeds", "ink"),
    [
        ((0.02,), None, "muted"),
        ((0.05, -0.01), Interval(0.02, -0.36, 0.40), "muted"),
        ((0.02, 0.02), Interval(0.02, 0.01, 0.03), "blue"),
    ],
)
def test_interval_is_coloured_where_both_intervals_exclude_zero(by_seed, over_seeds, ink):
    """With one seed, or an interval over seeds that includes zero, the interval is grey."""
    difference = PairedDifference(Interval(0.02, 0.01, 0.03), by_seed, over_seeds)
    svg = figures.intervals({"a": difference}, name="i", caption="points").svg

    assert (ink == "blue") is (figures.INKS["blue"] in svg)


def test_funnel_shows_both_counts():
    """A bar of the funnel shows the numbers of kept and refused posts."""
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
        {
            "network": "root",
            "epoch": str(epoch),
            "lr": str(rate),
            "train_loss": "1.0",
            "val_loss": str(loss),
        }
        for epoch, (loss, rate) in enumerate(zip(losses, rates, strict=True), start=1)
    ]


def test_curve_marks_least_loss_and_rate_cuts():
    """In a worked plateau epoch 2 is the best, and the rate is halved after epoch 6."""
    losses = [1.0, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98]
    (curve,) = curves.read(_rows(losses, [1e-3] * 6 + [5e-4] * 4))

    assert 2 == curve.kept
    assert (7,) == curve.cuts


def test_changing_schedule_has_no_cuts():
    """A one-cycle schedule changes the rate in each epoch and has no cuts."""
    (curve,) = curves.read(_rows([1.0] * 5, [1.0, 0.5, 0.2, 0.05, 0.01]))

    assert () == curve.cuts


def test_curve_bears_an_empty_validation_loss():
    """An epoch without a validation loss is a gap in the curve and never the minimum."""
    rows = _rows([1.0, 0.8], [0.1, 0.1])
    rows[0]["val_loss"] = ""
    (curve,) = curves.read(rows)

    assert 2 == curve.kept
    assert "<svg" in curves.draw([curve], name="c").svg


def test_tree_draws_networks_and_labels():
    """The tree shows each network once, and each label with its accuracy and its change."""
    leaves = [tree.TreeNode(label, True, 0.5, 10, -0.2, ()) for label in LABELS]
    clusters = [
        tree.TreeNode(f"cluster-{k}", False, 0.8, 20, None, tuple(leaves[2 * k : 2 * k + 2]))
        for k in range(2)
    ]
    drawn = tree.draw(tree.TreeNode("root", False, 0.9, 40, None, tuple(clusters)), name="tree")
    texts = _texts(drawn.svg)

    assert 1 == texts.count("cluster-0")
    assert figures.shown(LABELS[0]) in texts
    assert 4 == texts.count("−20")
    assert 7 == len(drawn.rows)


def _points(*macs):
    return [
        scatter.CostPoint(f"run_{index}", "flat" if index == 0 else "hierarchy", cost, 0.5, None, 1)
        for index, cost in enumerate(macs)
    ]


@pytest.mark.parametrize(("highest", "is_log"), [(3.9e6, False), (4.1e6, True)])
def test_scatter_is_logarithmic_beyond_four_times(highest, is_log):
    """If costs differ more than four times, the axis is logarithmic, and its label says so."""
    texts = _texts(scatter.draw(_points(1e6, highest), name="cost").svg)

    assert is_log is any("logarithmic" in text for text in texts)
    assert {"run_0", "run_1", "flat", "hierarchy"} <= set(texts)


def test_scatter_writes_what_it_draws():
    """The rows hold operations and shares, not millions and per cent."""
    drawn = scatter.draw(_points(5e6, 6e6), name="cost")

    assert ("run", "kind", "macs", "msr", "deviation", "seeds") == drawn.columns
    assert ("run_1", "hierarchy", 6e6, 0.5, None, 1) == drawn.rows[1]


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([0.5, 0.5, 0.9], [0.5, 0.7, 0.9]),
        ([0.9, 0.95, 1.0], [0.6, 0.8, 1.0]),
        ([0.1, 0.4], [0.1, 0.4]),
    ],
)
def test_names_beside_points_keep_apart(heights, expected):
    """Names stay in order, 0.2 apart, and below the top."""
    assert expected == pytest.approx(scatter.spaced(heights, 0.2))


@pytest.mark.parametrize(("labels", "side"), [(4, 3.2), (16, 5.76), (25, 5.8), (100, 12)])
def test_letters_of_a_matrix_have_eleven_pixels(labels, side):
    """Letters keep 8.5 pt, which are 11 pixels, and a row is never lower than they are."""
    names = [str(number) for number in range(labels)]
    svg = figures.confusion(np.eye(labels), names, name="c").svg
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1))
    letters = [float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)]

    assert 72 * (side + 1.9) == pytest.approx(width)
    assert 8.5 == min(letters)  # of the drawing, whose unit is a point
    assert 72 * side / labels >= min(letters)


def test_cells_of_a_matrix_are_where_they_are_drawn():
    """The box of the cells is that of the drawn image, and the order is that of the clusters."""
    drawn = figures.confusion(np.eye(4), [*"abcd"], name="c", clusters=[[1, 3], [0, 2]])
    size = [
        float(re.search(rf'{side}="([\d.]+)pt"', drawn.svg).group(1))
        for side in ("width", "height")
    ]
    frames = re.findall(r'id="c-patch_\d+">\s*<path d="M ([\d.]+) ([\d.]+)', drawn.svg)
    box = drawn.matrix

    assert (1, 3, 0, 2) == box.order
    assert box.width * size[0] == pytest.approx(box.height * size[1], rel=1e-3)
    # A frame of the axes begins at the lower left corner of the cells.
    corner = (box.left * size[0], (box.top + box.height) * size[1])
    assert any(corner == pytest.approx(tuple(map(float, frame)), abs=0.1) for frame in frames)


def test_deep_tree_has_a_column_for_each_level():
    """Each level of networks adds a column, and labels are in the last column."""
    label = tree.TreeNode("ann", True, 0.5, 10, 0.1, ())
    inner = tree.TreeNode("cluster-0-1", False, 0.8, 20, None, (label, label), 0.7, 0.6)
    middle = tree.TreeNode("cluster-0", False, 0.7, 30, None, (inner, label))
    deep = tree.draw(tree.TreeNode("root", False, 0.9, 40, None, (middle, label)), name="d")
    plain = tree.draw(tree.TreeNode("root", False, 0.9, 40, None, (inner, label)), name="p")
    wide, narrow = (
        float(re.search(r'width="([\d.]+)pt"', drawn.svg).group(1)) for drawn in (deep, plain)
    )

    assert "cluster-0-1" in _texts(deep.svg)
    assert 72 * 3.1 == pytest.approx(wide - narrow, abs=0.1)
    assert ("cluster-0-1", "network", 0.8, 20, None, 0.7, 0.6) == deep.rows[2]
