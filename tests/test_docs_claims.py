"""Tests the sentences on the papers' claims (docs/generators/claims.py)."""

from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def claims(monkeypatch):
    """Returns the generator of the claims."""
    monkeypatch.syspath_prepend(DOCS)
    from generators import claims

    return claims


def _sentence(claims, gains):
    """Returns the sentence of a paper whose runs have these gains, by ending of the run's name."""
    runs = (gains[ending] for ending in ("", "_random", "_train_flops"))
    return claims._Claim("Paper", (1.0,), *runs).sentence()


def test_a_gain_counts_the_controls_that_gain_as_much(claims):
    """Training explains the gain where it is at least as large, random groups within half a point."""
    gains = {
        "": {"A": [2.0, 4.0], "B": [1.0], "C": [1.0]},
        "_random": {"A": [2.6], "B": [0.4], "C": [1.0]},
        "_train_flops": {"A": [3.0], "B": [0.9]},
    }

    assert _sentence(claims, gains) == (
        "- **Paper: ahead of its own flat network in 3 of 3 rows, with more training.** Of those "
        "that have the control, a flat network that trains as long gains more in 1 of 2, random "
        "groups do as well in 2 of 3."
    )


def test_controls_count_where_the_method_gains(claims):
    """A difference below half a point is none, and its row asks for no control."""
    gains = {
        "": {"A": [3.0], "B": [0.4], "C": [0.5]},
        "_random": {"A": [2.0], "B": [9.0]},
        "_train_flops": {},
    }

    assert _sentence(claims, gains) == (
        "- **Paper: ahead of its own flat network in 2 of 3 rows, with more training.** Of those "
        "that have the control, random groups do as well in 0 of 1."
    )


def test_a_gain_without_controls(claims):
    """Nothing is claimed of controls that are not recorded."""
    gains = {"": {"A": [3.0], "B": [0.4]}, "_random": {}, "_train_flops": {"B": [9.0]}}

    assert _sentence(claims, gains) == (
        "- **Paper: ahead of its own flat network in 1 of 2 rows, with more training.**"
    )


def test_a_hierarchy_that_is_behind_has_no_controls_to_explain(claims):
    """Without a gain there is nothing for the controls to explain."""
    gains = {"": {"A": [-1.0, 1.0]}, "_random": {"A": [9.0]}, "_train_flops": {"A": [9.0]}}

    assert _sentence(claims, gains) == (
        "- **Paper: ahead of its own flat network in none of 1 rows.**"
    )


@pytest.mark.parametrize(
    ("epochs", "width", "control", "sign"),
    [
        (16, "1/2", "flat", -1),
        (32, "1/2", "flat", -1),
        (128, "1/2", "flat", 1),
        (32, "1/8", "flat", 1),
        (32, "1/4", "flat", 1),
        (32, "1/8", "recover_one", 1),
        (32, "1/4", "recover_one", 0),
        (128, "1/2", "recover_one", 0),
    ],
)
def test_text_on_regimes_has_the_signs_of_the_records(monkeypatch, epochs, width, control, sign):
    """Where experiments.md says ahead, behind or undecided in every seed, the seeds are so."""
    monkeypatch.syspath_prepend(DOCS)
    from generators import regime

    cells = {(cell.epochs, str(cell.width)): cell for cell in (*regime.BUDGETS, *regime.WIDTHS)}
    gains = regime.gains(cells[epochs, width], control)

    assert len(gains) >= 3
    assert {gain > 0 for gain in gains} == {1: {True}, -1: {False}, 0: {True, False}}[sign]
