"""The recurrent parts: torch's cells, worked losses, the residual arc, the end of a path."""

import math

import pytest
import torch

from tests.train.random_trees import SLIDES
from train.methods.dhnn import beam, recurrent
from train.methods.dhnn.cell import Cell
from train.methods.dhnn.recurrent import EndedPath, FixedPath
from train.tree import hierarchy
from train.tree.label_path import encode

UNEVEN = [[[0, 1], 2], [3], 4]
LOGITS = torch.tensor([[[1.0, 2, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 3, 2]]])


def fixed(*, residual=True, tree=SLIDES):
    torch.manual_seed(0)
    paths = encode(hierarchy.from_nested(tree, 5))
    return FixedPath(paths, inputs=6, hidden=4, cell="lstm", residual=residual), paths


def ended(*, tree=UNEVEN, forced=1.0, cell="lstm"):
    torch.manual_seed(0)
    paths = encode(hierarchy.from_nested(tree, 5), ended=True)
    return EndedPath(paths, inputs=6, reads=3, hidden=4, cell=cell, forced=forced), paths


def full(decoder, u, *, chosen=False, width=None):
    continuations = decoder.continuations(u, chosen=chosen)
    return beam.search(decoder.levels, continuations, batch=len(u), width=width, device=u.device)


@pytest.mark.parametrize(
    ("kind", "torch_cell", "params"),
    [("lstm", torch.nn.LSTMCell, 1_052_672), ("gru", torch.nn.GRUCell, 789_504)],
)
def test_cells_are_those_of_torch(kind, torch_cell, params):
    """Both directions at width 256 have the published parameters, and steps equal torch's."""
    torch.manual_seed(0)
    ours = Cell(kind, 256, 256)
    other = torch_cell(256, 256)
    other.load_state_dict(ours.cell.state_dict())
    x, hidden, cell = torch.randn(3, 2, 256)
    expected = other(x, (hidden, cell) if kind == "lstm" else hidden)
    actual = ours(x, (hidden, cell))

    assert params == 2 * sum(weight.numel() for weight in ours.parameters())
    assert torch.allclose(expected[0] if kind == "lstm" else expected, actual[0], atol=1e-5)
    assert torch.allclose(expected[1] if kind == "lstm" else cell, actual[1], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("lstm", (0.131765, -0.658991, 0.271922, -0.673589)),
        ("gru", (0.119632, 0.319947, 0.026998, 0.065049)),
    ],
)
def test_seed_gives_the_weights_of_past_runs(kind, weights):
    """For seed 0 the first number of each tensor stays the same, so old runs can be repeated."""
    torch.manual_seed(0)
    cell = Cell(kind, 3, 2).cell
    tensors = (cell.weight_ih, cell.bias_ih, cell.weight_hh, cell.bias_hh)

    assert list(weights) == pytest.approx([one.flatten()[0].item() for one in tensors], abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "loss"),
    [
        ((1.0, 0.0), 0.715181),
        ((0.0, 1.0), 0.532017),
        ((1.0, 1.0), 1.247198),
        ((0.3, 0.7), 0.586966),
    ],
)
def test_losses_of_the_worked_example(weights, loss):
    """For the path B, F the cross-entropies of both steps and their weighted sums are exact."""
    actual = recurrent.losses(LOGITS, torch.tensor([[1, 5]]), weights=torch.tensor(weights))

    assert math.isclose(loss, actual.item(), abs_tol=1e-6)


def test_nothing_counts_after_the_end_and_everything_before():
    """The loss counts the end of a path and all steps before it, and no step after it."""
    _, paths = ended()
    targets = torch.from_numpy(paths.targets())
    logits = torch.randn(5, paths.steps, paths.outputs, requires_grad=True)
    recurrent.losses(logits, targets, weights=torch.ones(paths.steps)).sum().backward()
    counts = logits.grad.abs().sum(dim=2) > 0

    assert (counts == (targets >= 0)).all()
    assert [4, 4, 3, 3, 2] == counts.sum(dim=1).tolist()


def test_arc_of_zeros_leaves_the_inputs_alone():
    """With z = 0 the logits are linear in u_t alone, and its gradient does not vanish."""
    decoder, _ = fixed()
    torch.nn.init.zeros_(decoder.arc.weight)
    torch.nn.init.zeros_(decoder.arc.bias)
    u = torch.randn(2, 2, 6, requires_grad=True)
    logits = decoder(u)
    logits[:, 0].square().sum().backward()

    assert torch.allclose(decoder.predictions(u), logits, atol=1e-6)
    assert u.grad[:, 0].abs().sum() > 0
    assert not u.grad[:, 1].any()
    plain, _ = fixed(residual=False)
    assert plain.arc is None
    assert 2 * 4 == plain.predictions.in_features


def test_both_directions_read_every_step():
    """The logits of the first step depend on the last input, and vice versa."""
    decoder, _ = fixed(residual=False)
    u = torch.randn(1, 2, 6, requires_grad=True)
    decoder(u)[:, 0].square().sum().backward()

    assert (u.grad.abs().sum(dim=2) > 0).all()


def test_scores_are_the_products_along_the_paths():
    """For CNN-RNN a leaf's score is the sum of the log probabilities of its nodes."""
    decoder, paths = fixed()
    u = torch.randn(3, 2, 6)
    with torch.no_grad():
        log_probabilities = decoder(u).log_softmax(dim=2)
        scores, _ = full(decoder, u)
    expected = torch.stack(
        [
            sum(log_probabilities[:, step, output] for step, output in enumerate(own))
            for own in paths.sequences
        ],
        dim=1,
    )

    assert torch.allclose(expected, scores, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("tree", [SLIDES, UNEVEN, [0, 1, 2, 3, 4], [[0, 1, 2, 3, 4]]])
def test_forced_steps_are_the_steps_of_the_search(tree, cell):
    """For CNN-S2S the losses along a path, end included, sum to minus its score."""
    decoder, paths = ended(tree=tree, cell=cell)
    u, targets = torch.randn(3, 3, 6), torch.from_numpy(paths.targets())
    with torch.no_grad():
        scores, reached = full(decoder, u)
        lazily, _ = full(decoder, u, chosen=True)
        losses = [
            recurrent.losses(
                decoder(u, row.expand(3, -1)), row.expand(3, -1), weights=torch.ones(paths.steps)
            )
            for row in targets
        ]

    assert reached.all()
    assert torch.allclose(-torch.stack(losses, dim=1), scores, atol=1e-5)
    assert torch.allclose(scores, lazily, atol=1e-6)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_decoder_runs_where_the_beam_is(width):
    """Executing only the images that reach a decision gives the same beam scores."""
    decoder, _ = ended()
    for weight in decoder.parameters():
        torch.nn.init.normal_(weight, std=2.0)
    u, steps = torch.randn(40, 3, 6), []
    with torch.no_grad():
        expected, reached = full(decoder, u, width=width)
        decoder.decoder.register_forward_hook(
            lambda _part, inputs, _out: steps.append(len(inputs[0]))
        )
        actual, lazily = full(decoder, u, width=width, chosen=True)
    # Each decision takes one step to reach it and one step for the end of each leaf below it.
    steps_each = [1 + 3, 1 + 1, 1 + 2]  # {3} is a group of one: leaf and end follow

    assert torch.allclose(expected, actual, atol=1e-6)
    assert torch.equal(reached, lazily)
    assert sum(steps) == (reached.sum(dim=0) * torch.tensor(steps_each)).sum()
    assert reached.all() == (width == 4)


def test_teacher_forcing_reads_the_true_nodes():
    """With teacher forcing the second step depends on the first target; without it, it does not."""
    decoder, paths = ended()
    u, targets = torch.randn(1, 3, 6), torch.from_numpy(paths.targets())
    free, _ = ended(forced=0.0)
    with torch.no_grad():
        forced = [decoder(u, targets[[leaf]])[:, 1] for leaf in (0, 3)]
        unforced = [free(u, targets[[leaf]])[:, 1] for leaf in (0, 3)]

    assert not torch.allclose(*forced)
    assert torch.equal(*unforced)
