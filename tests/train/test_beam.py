"""Beam search: greedy search, the slides' example, the effect of the width, a plain reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.random_trees import SLIDES, trees
from train.methods.dhnn import beam
from train.methods.dhnn.recurrent import along
from train.tree import hierarchy
from train.tree.label_path import encode, levels


def searched(sequences, log_probabilities, width):
    """Returns the scores of the leaves that the beam reaches, given log probabilities per step."""
    decisions = levels(sequences)

    def continuations(number, _reached):
        chains = [chain for decision in decisions[number] for chain in decision.chains]
        return along(log_probabilities[:, number:], chains)

    scores, reached = beam.search(
        decisions,
        continuations,
        batch=len(log_probabilities),
        width=width,
        device=log_probabilities.device,
    )
    return scores, reached


def reference(sequences, log_probabilities, width):
    """
    Returns the same scores in plain Python, step by step.

    After the last decision every path is continued to its end.
    """
    kept = {(): 0.0}
    choices = len(levels(sequences))
    for step in range(max(map(len, sequences))):
        candidates = {}
        for before, score in kept.items():
            if before in sequences:
                candidates[before] = score
            for output in {own[step] for own in sequences if own[:step] == before != own}:
                candidates[(*before, output)] = score + float(log_probabilities[step, output])
        best = sorted(candidates, key=lambda path: -candidates[path])
        best = best[:width] if step + 1 < choices else best
        kept = {path: candidates[path] for path in best}
    return {sequences.index(path): score for path, score in kept.items()}


def test_example_of_the_slides():
    """Greedy search selects B, then G with score .4 x .5; only children of B are candidates."""
    sequences = encode(hierarchy.from_nested(SLIDES, 5)).sequences
    steps = torch.tensor([[0.3, 0.4, 0.1, 0.1, 0.1, 0, 0], [0, 0.1, 0, 0.1, 0.1, 0.2, 0.5]])
    scores, reached = searched(sequences, steps.log()[None], 1)

    assert 4 == scores.argmax().item()
    assert math.isclose(0.20, scores.max().exp().item(), abs_tol=1e-6)
    assert [False, False, True, True, True] == scores[0].isfinite().tolist()
    assert [True, False, True] == reached[0].tolist()


@pytest.mark.parametrize(("width", "leaf", "score"), [(1, 4, 0.12), (2, 1, 0.18)])
def test_width_matters(width, leaf, score):
    """P(A) = .3, P(B) = .4, D = .6 under A, G = .3 under B: width 1 ends at G, 2 at D."""
    sequences = encode(hierarchy.from_nested(SLIDES, 5)).sequences
    steps = torch.full((1, 2, 7), 1e-3)
    steps[0, 0, :2], steps[0, 1, 3], steps[0, 1, 6] = torch.tensor([0.3, 0.4]), 0.6, 0.3
    scores, _ = searched(sequences, steps.log(), width)

    assert leaf == scores.argmax().item()
    assert math.isclose(score, scores.max().exp().item(), abs_tol=1e-6)


@given(
    tree=trees(),
    order=st.sampled_from(["root_first", "leaf_first"]),
    ended=st.booleans(),
    width=st.integers(1, 5),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=60, deadline=None)
def test_search_is_the_plain_one(tree, order, ended, width, seed):
    """For any tree and width, the reached leaves and their scores equal those of the reference."""
    paths = encode(tree, order=order, ended=ended)
    generator = torch.Generator().manual_seed(seed)
    shape = (3, paths.steps, paths.outputs)
    steps = torch.randn(shape, generator=generator).log_softmax(dim=2)
    scores, _ = searched(paths.sequences, steps, width)
    for row, own in zip(scores, steps, strict=True):
        expected = reference(list(paths.sequences), own, width)

        assert set(expected) == set(row.isfinite().nonzero().flatten().tolist())
        for leaf, score in expected.items():
            assert math.isclose(score, row[leaf].item(), rel_tol=1e-5)


@given(tree=trees(), ended=st.booleans(), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=30, deadline=None)
def test_exhaustive_beam_is_the_maximum_over_leaves(tree, ended, seed):
    """A beam of unlimited width, or as wide as the widest level, finds the best leaf."""
    paths = encode(tree, ended=ended)
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn((4, paths.steps, paths.outputs), generator=generator).log_softmax(dim=2)
    scores = torch.stack(
        [sum(steps[:, t, output] for t, output in enumerate(own)) for own in paths.sequences], dim=1
    )
    every, reached = searched(paths.sequences, steps, None)
    wide, _ = searched(paths.sequences, steps, len(paths.sequences))
    greedy, _ = searched(paths.sequences, steps, 1)

    assert torch.allclose(scores, every, atol=1e-5)
    assert reached.all()
    assert torch.equal(scores.argmax(dim=1), wide.argmax(dim=1))
    assert (greedy.amax(dim=1) <= scores.amax(dim=1) + 1e-5).all()


@pytest.mark.parametrize("ended", [False, True])
def test_forced_steps_do_not_lower_a_lone_label(ended):
    """A forced step does not lower the score: with A = {0, 1} and B = {2}, B stays more likely."""
    paths = encode(hierarchy.from_nested([[0, 1], [2]], 3), ended=ended)
    output_of = {name: index for index, name in enumerate(paths.nodes)}
    steps = torch.full((1, paths.steps, paths.outputs), 0.01)
    steps[0, 0, output_of["cluster-0"]], steps[0, 0, output_of["cluster-1"]] = 0.4, 0.6
    steps[0, 1, output_of["label-0"]], steps[0, 1, output_of["label-2"]] = 0.4, 0.5
    scores, _ = searched(paths.sequences, steps.log(), 1)

    assert 2 == scores.argmax().item()
    assert [False, False, True] == scores[0].isfinite().tolist()


@given(tree=trees(), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=60, deadline=None)
def test_greedy_follows_the_likeliest_child(tree, seed):
    """Width 1 follows the most likely child of each step from the root to a leaf."""
    paths = encode(tree)
    output_of = {name: index for index, name in enumerate(paths.nodes)}
    steps = torch.randn(
        (1, paths.steps, paths.outputs), generator=torch.Generator().manual_seed(seed)
    ).log_softmax(dim=2)
    scores, _ = searched(paths.sequences, steps, 1)
    last = len(levels(paths.sequences)) - 1  # at this step the forced steps of a child count too
    node, step = hierarchy.ROOT, 0
    while len(tree.nodes[node]["members"]) > 1:
        worth = {}
        for child in hierarchy.children(tree, node):
            forced = paths.sequences[tree.nodes[child]["members"][0]][step + 1 :]
            later = [steps[0, step + 1 + at, output] for at, output in enumerate(forced)]
            worth[child] = steps[0, step, output_of[child]] + sum(later if step == last else [])
        node, step = max(worth, key=worth.get), step + 1

    assert tree.nodes[node]["members"][0] == scores.argmax().item()
