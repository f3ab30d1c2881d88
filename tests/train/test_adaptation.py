"""Test-time adaptation: the worked table, the fixed rule, its invariants, the choice of alpha."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.methods.merged.adaptation import (
    GRID,
    AlphaAccuracy,
    adapt_coarse,
    adapt_fine,
    chosen,
    curve,
    disagreement,
    sums,
)

COARSE = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
FINE = torch.tensor([[0.20, 0.10, 0.25, 0.25, 0.15, 0.05]], dtype=torch.float64)
EMPTY = torch.tensor([[0.0, 0.0, 0.45, 0.25, 0.2, 0.1]], dtype=torch.float64)
PARENTS = torch.tensor([0, 0, 1, 1, 2, 2])
ALPHAS = st.sampled_from(GRID)


def algorithm_1(coarse, fine, parents, alpha, *, printed):
    """Runs the paper's algorithm per label; `printed` keeps the paper's rule where Q(i) is zero."""
    total = [sum(fine[j] for j, i in enumerate(parents) if i == c) for c in range(len(coarse))]
    target = [(p + q) / 2 for p, q in zip(coarse, total, strict=True)]
    moved = [(1 - alpha) * p + alpha * t for p, t in zip(coarse, target, strict=True)]
    result = []
    for value, i in zip(fine, parents, strict=True):
        if total[i] != 0:
            result.append((1 - alpha) * value + alpha * value * target[i] / total[i])
        else:
            result.append((moved[i] if printed else alpha * target[i]) / parents.count(i))
    return moved, result


@st.composite
def answers(draw):
    """Draws category and label probabilities, some of them zero, and the parents of the labels."""
    categories = draw(st.integers(2, 5))
    more = draw(st.lists(st.integers(0, categories - 1), max_size=6))
    parents = draw(st.permutations([*range(categories), *more]))
    some = st.one_of(st.just(0.0), st.floats(1e-6, 1))

    def row(size):
        values = draw(st.lists(some, min_size=size, max_size=size).filter(any))
        return [value / sum(values) for value in values]

    return row(categories), row(len(parents)), list(parents)


def tensors(found, dtype=torch.float64):
    coarse, fine, parents = found
    return (
        torch.tensor([coarse], dtype=dtype),
        torch.tensor([fine], dtype=dtype),
        torch.tensor(parents),
    )


@pytest.mark.parametrize(
    ("alpha", "coarse", "category", "fine", "label"),
    [
        (0.0, (0.5, 0.3, 0.2), 0, (0.20, 0.10, 0.25, 0.25, 0.15, 0.05), 2),
        (0.5, (0.45, 0.35, 0.2), 0, (0.233333, 0.116667, 0.225, 0.225, 0.15, 0.05), 0),
        (1.0, (0.4, 0.4, 0.2), 0, (0.266667, 0.133333, 0.2, 0.2, 0.15, 0.05), 0),
        (1.5, (0.35, 0.45, 0.2), 1, (0.3, 0.15, 0.175, 0.175, 0.15, 0.05), 0),
        (2.0, (0.3, 0.5, 0.2), 1, (0.333333, 0.166667, 0.15, 0.15, 0.15, 0.05), 0),
    ],
)
def test_gives_the_worked_table(alpha, coarse, category, fine, label):
    """Both levels and their argmax equal the worked table; ties go to the lower index."""
    moved = adapt_coarse(COARSE, FINE, PARENTS, alpha=alpha)
    spread = adapt_fine(COARSE, FINE, PARENTS, alpha=alpha)

    assert list(coarse) == pytest.approx(moved[0].tolist(), abs=1e-6)
    assert list(fine) == pytest.approx(spread[0].tolist(), abs=1e-6)
    # Round first: ties in the table are exact, ties in floating point are not.
    assert category == moved.mul(1e9).round().argmax().item()
    assert label == spread.mul(1e9).round().argmax().item()


def test_sums_and_disagreement_of_the_worked_example():
    """Q is (.3, .5, .2); Q differs from P_c by a probability mass of 0.2."""
    assert [0.3, 0.5, 0.2] == pytest.approx(sums(FINE, PARENTS, categories=3)[0].tolist())
    assert [0.2] == pytest.approx(disagreement(COARSE, FINE, PARENTS).tolist())


@pytest.mark.parametrize(
    ("alpha", "fine", "printed_sum"),
    [
        (0.5, (0.0625, 0.0625, 0.385714, 0.214286, 0.183333, 0.091667), 1.25),
        (1.0, (0.125, 0.125, 0.321429, 0.178571, 0.166667, 0.083333), 1),
    ],
)
def test_category_without_mass_gets_its_share(alpha, fine, printed_sum):
    """For Q(0) = 0 and alpha .5 our rule sums to 1, the printed rule to 1.25; at 1 both agree."""
    spread = adapt_fine(COARSE, EMPTY, PARENTS, alpha=alpha)
    _, printed = algorithm_1(
        COARSE[0].tolist(), EMPTY[0].tolist(), PARENTS.tolist(), alpha, printed=True
    )

    assert list(fine) == pytest.approx(spread[0].tolist(), abs=1e-6)
    assert 1 == pytest.approx(spread.sum().item())
    assert printed_sum == pytest.approx(sum(printed))
    assert printed[2:] == pytest.approx(spread[0, 2:].tolist())


def test_printed_rule_of_the_worked_example():
    """At alpha .5 the printed rule gives .1875 to each of the two labels without mass."""
    _, printed = algorithm_1(
        COARSE[0].tolist(), EMPTY[0].tolist(), PARENTS.tolist(), 0.5, printed=True
    )

    assert [0.1875, 0.1875, 0.385714, 0.214286, 0.183333, 0.091667] == pytest.approx(
        printed, abs=1e-6
    )


@given(answers(), ALPHAS)
def test_equals_the_algorithm_label_by_label(found, alpha):
    """Both levels equal the paper's algorithm with the fixed rule."""
    coarse, fine = algorithm_1(*found, alpha, printed=False)

    assert coarse == pytest.approx(adapt_coarse(*tensors(found), alpha=alpha)[0].tolist(), abs=1e-9)
    assert fine == pytest.approx(adapt_fine(*tensors(found), alpha=alpha)[0].tolist(), abs=1e-9)


@given(answers(), ALPHAS, st.sampled_from([torch.float32, torch.float64]))
def test_both_sides_stay_probabilities(found, alpha, dtype):
    """For every alpha both rows are non-negative and sum to 1 within 1e-6."""
    given_rows = tensors(found, dtype)
    for row in (adapt_coarse(*given_rows, alpha=alpha), adapt_fine(*given_rows, alpha=alpha)):
        assert row.min() >= 0
        assert 1 == pytest.approx(row.sum().item(), abs=1e-6)


@given(answers(), ALPHAS, st.sampled_from([torch.float32, torch.float64]))
def test_order_in_a_category_never_changes(found, alpha, dtype):
    """Adaptation never reverses the order of two labels of one category."""
    before, parents = tensors(found, dtype)[1][0], found[2]
    after = adapt_fine(*tensors(found, dtype), alpha=alpha)[0]
    for one, category in enumerate(parents):
        for other, its in enumerate(parents):
            if category == its and before[one] < before[other]:
                assert after[one] <= after[other]


@given(answers(), ALPHAS)
def test_is_the_identity_where_both_agree(found, alpha):
    """If P_c equals the sums over its labels, both rows stay the same for every alpha."""
    _, fine, parents = tensors(found)
    coarse = sums(fine, parents, categories=len(found[0]))

    assert torch.allclose(coarse, adapt_coarse(coarse, fine, parents, alpha=alpha), atol=1e-9)
    assert torch.allclose(fine, adapt_fine(coarse, fine, parents, alpha=alpha), atol=1e-9)


@given(answers())
def test_sides_agree_after_full_adaptation(found):
    """At alpha = 1 a category equals the sum of its labels and the mean of P_c and Q."""
    coarse, fine, parents = tensors(found)
    totals = sums(fine, parents, categories=len(found[0]))
    moved = adapt_coarse(coarse, fine, parents, alpha=1.0)
    spread = adapt_fine(coarse, fine, parents, alpha=1.0)

    assert torch.allclose((coarse + totals) / 2, moved, atol=1e-9)
    assert torch.allclose(moved, sums(spread, parents, categories=len(found[0])), atol=1e-9)
    assert disagreement(moved, spread, parents).max() < 1e-9


@given(answers())
def test_limits_of_alpha(found):
    """Alpha 0 changes nothing; alpha 2 swaps P_c and Q."""
    coarse, fine, parents = tensors(found)
    totals = sums(fine, parents, categories=len(found[0]))
    product = adapt_fine(coarse, fine, parents, alpha=2.0)

    assert torch.equal(coarse, adapt_coarse(coarse, fine, parents, alpha=0.0))
    assert torch.allclose(fine, adapt_fine(coarse, fine, parents, alpha=0.0), atol=1e-9)
    assert torch.allclose(totals, adapt_coarse(coarse, fine, parents, alpha=2.0), atol=1e-9)
    assert torch.allclose(coarse, sums(product, parents, categories=len(found[0])), atol=1e-9)
    inside = totals[:, parents] > 0
    conditional = coarse[:, parents] * fine / totals[:, parents]
    assert torch.allclose(conditional[inside], product[inside], atol=1e-9)


@given(answers(), ALPHAS)
def test_limits_of_the_tree(found, alpha):
    """One category keeps the labels unchanged; one category per label averages the two levels."""
    _, fine, _ = tensors(found)
    labels = fine.shape[1]
    one = torch.zeros(labels, dtype=torch.int64)
    apart, other = torch.arange(labels), fine.flip(1)
    mean = (1 - alpha / 2) * fine + alpha / 2 * other

    alone = adapt_fine(torch.ones(1, 1, dtype=torch.float64), fine, one, alpha=alpha)
    assert torch.allclose(fine, alone, atol=1e-9)
    assert torch.allclose(mean, adapt_fine(other, fine, apart, alpha=alpha), atol=1e-9)
    assert torch.allclose(mean.flip(1), adapt_coarse(fine.flip(1), fine, apart, alpha=alpha))


def test_curve_counts_both_levels_at_every_alpha():
    """Where only one level is right on each of two images, alpha 1 corrects both levels."""
    coarse = torch.tensor([[0.4, 0.6], [0.1, 0.9]])
    fine = torch.tensor([[0.3, 0.5, 0.1, 0.1], [0.45, 0.1, 0.2, 0.25]])
    points = curve(coarse, fine, torch.tensor([1, 3]), torch.tensor([0, 0, 1, 1]))

    assert list(GRID) == [point.alpha for point in points]
    assert (0.0, 2.0) == (points[0].alpha, points[-1].alpha)
    assert (0.5, 0.5) == (points[0].coarse, points[0].fine)
    assert (1.0, 1.0) == (points[10].coarse, points[10].fine)
    assert (0.5, 0.5) == (points[-1].coarse, points[-1].fine)


def test_chosen_alpha_is_the_best_and_of_equals_the_nearest_to_one():
    """Each level has its own best alpha; ties go to the nearest to 1, then to the smallest."""
    points = [
        AlphaAccuracy(0.0, 0.5, 0.9),
        AlphaAccuracy(0.8, 0.7, 0.9),
        AlphaAccuracy(1.0, 0.6, 0.8),
        AlphaAccuracy(1.2, 0.7, 0.9),
        AlphaAccuracy(2.0, 0.7, 0.1),
    ]

    assert (0.8, 0.8) == chosen(points)
    assert (2.0, 0.0) == chosen([AlphaAccuracy(0.0, 0.1, 0.9), AlphaAccuracy(2.0, 0.7, 0.1)])
