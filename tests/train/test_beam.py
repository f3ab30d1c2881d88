"""Beam search: greedy, the slides' example, where the width matters, a plain reference."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.random_trees import SLIDES, trees
from train.components import beam, hierarchy
from train.components.label_path import encode, levels
from train.components.recurrent import sum_along


def searched(sequences, said, width):
    """Scores of the leaves that the beam reaches, for the log probabilities of each step."""
    found = levels(sequences)

    def look(number, _reached):
        chains = [chain for decision in found[number] for chain in decision.chains]
        return sum_along(said[:, number:], chains)

    scores, reached = beam.search(found, look, batch=len(said), width=width, device=said.device)
    return scores, reached, found


def reference(sequences, said, width):
    """The same in plain Python: paths as tuples, kept by sorting; leaves alone are reached at once."""
    kept = {(): 0.0}
    while True:
        candidates, going_on = {}, False
        for before, score in kept.items():
            leaves = [own for own in sequences if own[: len(before)] == before]
            if leaves == [before]:
                candidates[before] = score
                continue
            for output in {own[len(before)] for own in leaves}:
                after = (*before, output)
                left = [own for own in leaves if own[: len(after)] == after]
                path = left[0] if len(left) == 1 else after
                steps = range(len(before), len(path))
                candidates[path] = score + sum(float(said[step, path[step]]) for step in steps)
                going_on = going_on or len(left) > 1
        if not going_on:
            return {sequences.index(path): score for path, score in candidates.items()}
        best = sorted(candidates, key=lambda path: -candidates[path])[:width]
        kept = {path: candidates[path] for path in best}


def test_example_of_the_slides():
    """Greedily B, then G, of score .4 x .5; only B's children are candidates."""
    sequences = encode(hierarchy.from_nested(SLIDES, 5)).sequences
    said = torch.tensor([[0.3, 0.4, 0.1, 0.1, 0.1, 0, 0], [0, 0.1, 0, 0.1, 0.1, 0.2, 0.5]]).log()
    scores, reached, _ = searched(sequences, said[None], 1)

    assert 4 == scores.argmax().item()
    assert math.isclose(0.20, scores.max().exp().item(), abs_tol=1e-6)
    assert [False, False, True, True, True] == scores[0].isfinite().tolist()
    assert [True, False, True] == reached[0].tolist()


@pytest.mark.parametrize(("width", "leaf", "score"), [(1, 4, 0.12), (2, 1, 0.18)])
def test_width_matters(width, leaf, score):
    """P(A) = .3, P(B) = .4, D = .6 under A, G = .3 under B: width 1 ends at G, 2 at D."""
    sequences = encode(hierarchy.from_nested(SLIDES, 5)).sequences
    said = torch.full((1, 2, 7), 1e-3)
    said[0, 0, :2], said[0, 1, 3], said[0, 1, 6] = torch.tensor([0.3, 0.4]), 0.6, 0.3
    scores, _, _ = searched(sequences, said.log(), width)

    assert leaf == scores.argmax().item()
    assert math.isclose(score, scores.max().exp().item(), abs_tol=1e-6)


@given(
    tree=trees(), order=st.sampled_from(["root_first", "leaf_first"]), ended=st.booleans(),
    width=st.integers(1, 5), seed=st.integers(0, 2**31 - 1),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_search_is_the_plain_one(tree, order, ended, width, seed):
    """For any tree and width the leaves reached and their scores are the reference's."""
    paths = encode(tree, order=order, ended=ended)
    generator = torch.Generator().manual_seed(seed)
    shape = (3, paths.steps, paths.outputs)
    said = torch.randn(shape, generator=generator).log_softmax(dim=2)
    scores, _, _ = searched(paths.sequences, said, width)
    for row, own in zip(scores, said, strict=True):
        expected = reference(list(paths.sequences), own, width)

        assert set(expected) == set(row.isfinite().nonzero().flatten().tolist())
        for leaf, score in expected.items():
            assert math.isclose(score, row[leaf].item(), rel_tol=1e-5)


@given(tree=trees(), ended=st.booleans(), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=30, deadline=None)
def test_exhaustive_beam_is_the_maximum_over_leaves(tree, ended, seed):
    """As wide as the widest level, or without a limit, the beam finds the leaf of highest score."""
    paths = encode(tree, ended=ended)
    generator = torch.Generator().manual_seed(seed)
    said = torch.randn((4, paths.steps, paths.outputs), generator=generator).log_softmax(dim=2)
    scores = torch.stack(
        [sum(said[:, t, output] for t, output in enumerate(own)) for own in paths.sequences], dim=1
    )
    every, reached, _ = searched(paths.sequences, said, None)
    wide, _, _ = searched(paths.sequences, said, len(paths.sequences))
    greedy, _, _ = searched(paths.sequences, said, 1)

    assert torch.allclose(scores, every, atol=1e-5)
    assert reached.all()
    assert torch.equal(scores.argmax(dim=1), wide.argmax(dim=1))
    assert (greedy.amax(dim=1) <= scores.amax(dim=1) + 1e-5).all()


@given(tree=trees(), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=30, deadline=None)
def test_greedy_follows_the_likeliest_child(tree, seed):
    """Width 1 goes from the root to the likeliest child, step by step, and so ends at a leaf."""
    paths = encode(tree)
    places = {name: place for place, name in enumerate(paths.nodes)}
    said = torch.randn((1, paths.steps, paths.outputs),
                       generator=torch.Generator().manual_seed(seed)).log_softmax(dim=2)  # fmt: skip
    scores, _, _ = searched(paths.sequences, said, 1)
    node, step = hierarchy.ROOT, 0
    while len(tree.nodes[node]["members"]) > 1:
        worth = {}
        for child in hierarchy.children(tree, node):
            inside = tree.nodes[child]["members"]
            chain = paths.sequences[inside[0]][step:] if len(inside) == 1 else (places[child],)
            worth[child] = sum(said[0, step + at, one].item() for at, one in enumerate(chain))
        node, step = max(worth, key=worth.get), step + 1

    assert tree.nodes[node]["members"][0] == scores.argmax().item()
