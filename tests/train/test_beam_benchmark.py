"""The benchmark of DHNN decoding: beam widths of one network, and steps without the tree."""

import numpy as np
import pytest
import torch

from benchmarks import beam
from train import backbone
from train.data import augment
from train.tree import hierarchy

TREE = [[[0, 1], 2], [3]]
NETWORK = backbone.Params(name="resnet20", width=0.25)


@pytest.fixture
def sharp(make_classifier):
    """Builds an untrained classifier with high confidence: `sharp(kind=…)`."""

    def build(**own):
        tree = hierarchy.from_nested(TREE, 4)
        built = make_classifier("dhnn", tree, network=NETWORK, **own).eval()
        torch.manual_seed(0)
        torch.nn.init.normal_(built.network.decoder.predictions.weight, std=3.0)
        return built

    return build


@pytest.mark.parametrize("kind", ["rnn", "s2s"])
def test_curve_against_width(sharp, tiny_data, kind):
    """The unlimited beam equals mode full, and its paths have the highest log probability."""
    classifier, pictures = sharp(kind=kind), tiny_data().val
    rows = beam.curve(classifier, pictures)
    inputs = augment.scale(pictures.batch(np.arange(len(pictures.labels))))
    with torch.no_grad():
        full = classifier.predict_proba(inputs, mode="full").argmax(dim=1).numpy()
        best = classifier.network(classifier.centred(inputs)).amax(dim=1).double().mean().item()
    worths = [row["log_probability"] for row in rows]

    assert [1, 2, 4, 8, None] == [row["width"] for row in rows]
    assert np.mean(full == pictures.labels) == rows[-1]["accuracy"]
    assert np.isclose(best, worths[-1], atol=1e-5)
    assert max(worths) <= worths[-1] + 1e-6
    assert all(row["milliseconds"] > 0 for row in rows)


def test_steps_without_the_tree(sharp, tiny_data):
    """A decoder with one node at every step is right on nodes, never on paths; s2s gives None."""
    classifier, pictures = sharp(), tiny_data().val
    last = classifier.network.decoder.predictions
    torch.nn.init.zeros_(last.weight)
    path = classifier.paths.sequences[3]
    last.bias.data = torch.nn.functional.one_hot(torch.tensor(path[0]), last.out_features).float()
    rows = beam.free(classifier, pictures)

    # A path cannot repeat a node: its cluster and its label differ.
    assert 0.0 == rows["paths"] == rows["paths_right"]
    assert np.isclose(np.mean(pictures.labels == 3) / classifier.paths.steps, rows["nodes_right"])
    assert beam.free(sharp(kind="s2s"), pictures) is None


def test_run_asks_for_a_trained_network(tmp_path, tiny_shards):
    """Without a run of the method the error names the missing run."""
    assert tiny_shards.exists()
    with pytest.raises(SystemExit, match="no run of method dhnn"):
        beam.run(tmp_path / "data", tmp_path / "results")
