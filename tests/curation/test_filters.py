"""Tests the filter rules: each rule refuses one flaw and records its reason and both numbers."""

from collections import defaultdict

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation import filters, measure
from personae.errors import MissingColumn, MissingInput

SOUND = filters.Measures(
    post_id=1,
    error=None,
    measured=None,
    threshold=None,
    width=180,
    height=120,
    saturation=0.4,
    sharpness=900.0,
    contrast=0.2,
)


def changed(**flaws) -> filters.Measures:
    return filters.Measures(
        **{name: getattr(SOUND, name) for name in filters.Measures.__dataclass_fields__} | flaws
    )


def test_keeps_a_sound_image() -> None:
    """A coloured, sharp image of usual size gets no refusal."""
    assert {} == filters.decide(SOUND, filters.Params())


@pytest.mark.parametrize(
    ("flaw", "reason", "measured", "threshold"),
    [
        ({"width": 60, "height": 63}, "small_image", 63.0, 64.0),
        ({"saturation": 0.0599}, "low_saturation", 0.0599, 0.06),
        ({"contrast": 0.019}, "low_contrast", 0.019, 0.02),
        ({"sharpness": 19.9}, "blurred", 19.9, 20.0),
    ],
)
def test_refuses_with_reason_and_numbers(flaw, reason, measured, threshold) -> None:
    """An image with one flaw gets one reason and the two compared numbers."""
    reasons = filters.decide(changed(**flaw), filters.Params())

    assert {reason: filters.Shortfall(measured, threshold)} == reasons


@pytest.mark.parametrize(
    "flaw",
    [{"width": 64, "height": 3}, {"saturation": 0.06}, {"contrast": 0.02}, {"sharpness": 20.0}],
)
def test_keeps_what_meets_the_threshold(flaw) -> None:
    """A measure equal to its threshold passes."""
    assert {} == filters.decide(changed(**flaw), filters.Params())


@pytest.mark.parametrize(
    "error", ["undecodable", "truncated", "too_many_pixels", "animated_file", "wrong_size"]
)
def test_passes_the_decoder_s_reason_on(error) -> None:
    """An image that failed to decode gets only the reason and the numbers of `measure`."""
    nothing = dict.fromkeys(["width", "height", "saturation", "sharpness", "contrast"])
    refused = changed(error=error, measured=60.0, threshold=1.0, **nothing)

    assert {error: filters.Shortfall(60.0, 1.0)} == filters.decide(refused, filters.Params())


@given(
    saturation=st.floats(0, 0.0599),
    contrast=st.floats(0, 0.0199),
    sharpness=st.floats(0, 19.9),
    side=st.integers(1, 63),
)
def test_names_every_flaw(saturation, contrast, sharpness, side) -> None:
    """All rules are evaluated: an image with four flaws has four reasons."""
    worst = changed(
        saturation=saturation, contrast=contrast, sharpness=sharpness, width=side, height=1
    )

    assert {rule.__name__ for rule in filters.RULES} == set(filters.decide(worst, filters.Params()))


def test_decides_on_every_image_once(tiny_data) -> None:
    """The stage refuses each planted flaw with its reason and refuses no sound image."""
    measure.run(measure.Params(workers=1), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    filters.run(filters.Params(), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    reasons = defaultdict(set)
    for row in pq.read_table(tiny_data.data_dir / "filters" / "decisions.parquet").to_pylist():
        reasons[row["post_id"]].add(row["reason"])
        assert "filters" == row["stage"]
        assert row["kept"] == (row["reason"] is None)
    flaws = {rule.__name__ for rule in filters.RULES}
    flaws |= {"undecodable", "truncated", "animated_file"}

    assert list(tiny_data.truth) == list(reasons)
    for post_id, truth in tiny_data.truth.items():
        assert (truth if truth in flaws else None) in reasons[post_id], (post_id, truth)
        assert (truth in flaws) == (None not in reasons[post_id])


def test_writes_the_same_bytes_twice(tiny_data) -> None:
    """Equal measures and thresholds give equal files."""
    measure.run(measure.Params(workers=1), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    path = tiny_data.data_dir / "filters" / "decisions.parquet"
    filters.run(filters.Params(), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    first = path.read_bytes()
    filters.run(filters.Params(), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)

    assert first == path.read_bytes()


def test_the_order_of_the_measures_changes_no_byte(tiny_data) -> None:
    """Measures in another order than that of their posts give the same file."""
    measure.run(measure.Params(workers=1), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    path = tiny_data.data_dir / "filters" / "decisions.parquet"
    filters.run(filters.Params(), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    first = path.read_bytes()
    measures = tiny_data.data_dir / "measure" / "measures.parquet"
    table = pq.read_table(measures)
    pq.write_table(table.sort_by([("post_id", "descending")]), measures)
    filters.run(filters.Params(), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)

    assert first == path.read_bytes()


def test_names_what_is_missing(tiny_data) -> None:
    """If the measures or one of their columns are missing, the error gives their stage."""
    with pytest.raises(MissingInput, match="'measure'"):
        filters.run(filters.Params(), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    measure.run(measure.Params(workers=1), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
    path = tiny_data.data_dir / "measure" / "measures.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["contrast"]), path)
    with pytest.raises(MissingColumn, match="contrast"):
        filters.run(filters.Params(), data_dir=tiny_data.data_dir, work_dir=tiny_data.work_dir)
