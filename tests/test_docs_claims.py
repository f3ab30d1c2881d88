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


def test_a_gain_names_the_controls_that_gain_as_much(claims):
    """Training explains the gain where it is at least as large, random groups within half a point."""
    gains = {
        "": {"A": [2.0, 4.0], "B": [1.0], "C": [1.0]},
        "_random": {"A": [2.6], "B": [0.4], "C": [1.0]},
        "_train_flops": {"A": [3.0], "B": [0.9]},
    }

    sentence = _sentence(claims, gains)

    assert sentence == (
        "- **Paper: ahead of its own flat network, with more training.** A flat network that trains "
        "as long gains more on A. Random groups do as well on A and C."
    )


def test_a_gain_on_some_data_names_them(claims):
    """A difference below half a point is none, and a set without a gain asks for no control."""
    gains = {
        "": {"A": [3.0], "B": [0.4], "C": [0.5]},
        "_random": {"A": [2.0], "B": [9.0]},
        "_train_flops": {},
    }

    assert _sentence(claims, gains) == (
        "- **Paper: ahead of its own flat network on A and C alone, with more training.**"
    )


def test_a_control_that_gains_wherever_the_method_does_is_named_once(claims):
    """The data sets are not listed twice."""
    gains = {"": {"A": [3.0], "B": [0.4]}, "_random": {}, "_train_flops": {"A": [4.0], "B": [9.0]}}

    assert _sentence(claims, gains) == (
        "- **Paper: ahead of its own flat network on A alone, with more training.** A flat network "
        "that trains as long gains more there."
    )


def test_a_hierarchy_that_is_behind_is_not_reproduced(claims):
    """Without a gain there is nothing for the controls to explain."""
    gains = {"": {"A": [-1.0, 1.0]}, "_random": {"A": [9.0]}, "_train_flops": {"A": [9.0]}}

    assert "Paper: not reproduced." in _sentence(claims, gains)


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
