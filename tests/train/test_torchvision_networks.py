"""Classifiers of torchvision as rows of blocks: the same networks, in parts that methods can cut."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from personae.errors import BadParams, MissingPackage
from train import backbone
from train.backbone import vision
from train.backbone.parts import parts_of
from train.engine import loop
from train.methods import METHODS
from train.methods.dhnn.classifier import Classifier as Dhnn
from train.params.backbone import Params
from train.params.dhnn import Params as DhnnParams
from train.runtime import checkpoint
from train.tree import hierarchy

BLOCKS = {
    "resnet18": 9,
    "resnet50": 17,
    "mobilenet_v3_small": 13,
    "efficientnet_b0": 9,
    "shufflenet_v2_x0_5": 1,
}
GROUPS = [[0, 1], [2, 3]]


@pytest.fixture(scope="module")
def models():
    """Imports the models of torchvision, or skips the test with the reason."""
    try:
        return vision.torchvision().models
    except MissingPackage as error:
        pytest.skip(f"torchvision does not import: {error}")


def network(name, *, side=32, attention="none"):
    params = Params(name=f"torchvision/{name}", attention=attention)
    return backbone.build(params, outputs=4, side=side).eval()


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_and_head_are_the_classifier(models, name):
    """With the same weights, the row of blocks and the head give torchvision's logits to the bit."""
    ours = network(name)
    theirs = models.get_model(name, weights=None, num_classes=4).eval()
    weights = zip(theirs.state_dict(), ours.state_dict().values(), strict=True)
    theirs.load_state_dict(dict(weights))
    x = torch.rand(2, 3, 32, 32)

    assert len(ours.blocks) == BLOCKS[name]
    with torch.no_grad():
        assert torch.equal(theirs(x), ours(x))


@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v2"])
def test_weights_are_filled_in_whatever_version_layers_have(models, name):
    """The weights of a network that records the version of its layers fill a network of its kind."""
    source, target = network(name), network(name)
    checkpoint.fill(target, dict(source.state_dict()), source=name)

    assert all(map(torch.equal, source.state_dict().values(), target.state_dict().values()))


def test_network_with_versions_is_trained_and_saved(
    models, make_trainer, make_classifier, tiny_data
):
    """MNASNet, which loads no weights without the version of its layers, trains to its last epoch."""
    data = tiny_data()
    classifier = make_classifier(
        "flat", hierarchy.flat(4), network=Params(name="torchvision/mnasnet0_5")
    )
    params = loop.Params(epochs=1, lr=0.01, threads=1, device="cpu")

    assert 1 == len(classifier.fit(data, make_trainer(data, params=params), seed=0).networks)


def test_blocks_of_vgg_end_with_its_pools(models):
    """VGG has five blocks, each half as wide as the one before; attention comes before the pool."""
    ours = network("vgg11", attention="se")

    assert [16, 8, 4, 2, 1] == [shape[1] for shape in backbone.map_shapes(ours)]
    assert ["Squeeze", "MaxPool2d"] == [type(part).__name__ for part in ours.blocks[4][-2:]]
    with torch.no_grad():
        assert (1, 4) == tuple(ours(torch.rand(1, 3, 32, 32)).shape)


@pytest.mark.parametrize("kind", ["se", "cbam"])
def test_attention_in_every_residual_block(models, kind):
    """SE has 2 c² / 4 weights and 1.25 c biases in a block of c channels; CBAM 98 weights more."""
    plain, ours = network("resnet50"), network("resnet50", attention=kind)
    channels = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3
    more = sum(c * c // 2 + c // 4 + c + (98 if kind == "cbam" else 0) for c in channels)

    assert more == backbone.count(ours) - backbone.count(plain)
    with torch.no_grad():
        assert not torch.equal(
            plain.blocks(torch.ones(1, 3, 32, 32)), ours.blocks(torch.ones(1, 3, 32, 32))
        )


def test_other_classifiers_have_no_attention(models):
    """The error names the classifiers that can have attention."""
    with pytest.raises(BadParams, match=r"'efficientnet_b0' has no attention .* ResNet and VGG"):
        network("efficientnet_b0", attention="se")


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_every_method_works_on_rows_of_blocks(models, make_classifier, tiny_data, method, name):
    """Rows of probabilities sum to one, and torch executes what `cost` counts."""
    tree = (
        hierarchy.flat(4) if method in ("flat", "ensemble") else hierarchy.from_clusters(GROUPS, 4)
    )
    classifier = make_classifier(method, tree, network=Params(name=f"torchvision/{name}")).eval()
    x = torch.from_numpy(np.asarray(tiny_data().train.images[:4])).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        rows = classifier.predict_proba(x, mode="full")

    assert torch.allclose(torch.ones(4), rows.sum(dim=1), atol=1e-5)
    # Rules on probabilities are small matrix products, which `cost` leaves out.
    counted = 2 * len(x) * classifier.cost().macs_max
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize(
    ("name", "attention", "taps"),
    [
        ("vgg11", "se", [0, 1, 2, 3, 4]),
        ("resnet50", "none", [3, 7, 13, 16]),
        ("resnet50", "se", [3, 7, 13, 16]),
        ("resnet50", "cbam", [3, 7, 13, 16]),
    ],
)
def test_dhnn_reads_every_stage(models, name, attention, taps):
    """DHNN's `alt` and `all` read the stages of VGG and ResNet-50, with attention or without."""
    for layers in ("alt", "all"):
        classifier = Dhnn(
            DhnnParams(layers=layers),
            hierarchy=hierarchy.from_clusters(GROUPS, 4),
            build=lambda _outputs: network(name, attention=attention),
            mean=np.zeros(3, np.float32),
        ).eval()
        with torch.no_grad():
            rows = classifier.predict_proba(torch.rand(2, 3, 32, 32))

        assert taps == classifier.network.taps
        used = {stage for step in classifier.network.sets for stage in step}
        assert used == (
            {(len(taps) - 1) // 2, len(taps) - 1} if layers == "alt" else set(range(len(taps)))
        )
        assert torch.allclose(torch.ones(2), rows.sum(dim=1), atol=1e-5)
        assert len(parts_of(torch.nn.Module, classifier.network.conversions.values())) == len(used)
