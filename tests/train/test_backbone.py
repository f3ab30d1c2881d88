"""Backbones: layer tables, parameters, MACs, pools for small images, shared blocks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from personae.errors import BadParams, MissingPackage
from train import backbone
from train.backbone import vision
from train.backbone.attention import attention
from train.backbone.network import activation
from train.networks.uppsala_cnn import Noise
from train.params.backbone import NAMES, Params
from train.runtime import seeds

TABLE = [
    ("B1C1", (128, 128, 64), 1_792, 28_311_552),
    ("B1P", (64, 64, 64), 0, 0),
    ("B2C1", (64, 64, 128), 73_856, 301_989_888),
    ("B2P", (32, 32, 128), 0, 0),
    ("B3C1", (32, 32, 128), 147_584, 150_994_944),
    ("B3C2", (32, 32, 128), 147_584, 150_994_944),
    ("B3P", (16, 16, 128), 0, 0),
    ("B4C1", (16, 16, 128), 147_584, 37_748_736),
    ("B4C2", (16, 16, 128), 147_584, 37_748_736),
    ("B4P", (8, 8, 128), 0, 0),
    ("B5C1", (8, 8, 128), 147_584, 9_437_184),
    ("B5C2", (8, 8, 128), 147_584, 9_437_184),
    ("B5P", (4, 4, 128), 0, 0),
    ("fc21", (512,), 1_049_088, 1_048_576),
    ("fc51", (512,), 262_656, 262_144),
    ("predictions", (25,), 12_825, 12_800),
]


def test_layer_table_of_the_report():
    """Every layer has the output shape, parameters and MACs of the published network."""
    network = backbone.build(Params(), outputs=25, side=128)
    rows = backbone.layer_table(network)

    assert [(row.name, row.output, row.params, row.macs) for row in rows] == TABLE
    assert backbone.count(network) == 2_285_721
    assert sum(row.macs for row in rows) == 727_986_688
    assert sum(backbone.macs_of_blocks(network)) == 726_663_168
    assert backbone.count(network.blocks) == 961_152


@pytest.mark.parametrize(
    ("outputs", "side", "options", "params", "macs"),
    [
        (123, 128, {}, 2_335_995, 728_036_864),
        (100, 128, {}, 2_324_196, 728_025_088),
        (2, 128, {}, 2_273_922, 727_974_912),
        (100, 32, {}, 2_324_196, 474_990_592),
        (100, 32, {"identity_pools": "none"}, 1_341_156, 45_795_328),
        (25, 128, {"widths": (16, 32, 40, 40, 40), "dense": 128}, 190_633, None),
        (25, 128, {"widths": (16, 32, 48, 48, 48), "dense": 96}, 208_441, None),
        (25, 128, {"batch_norm": True}, 2_285_721 + 1_920, 727_986_688),
    ],
)
def test_counts_of_the_variants(outputs, side, options, params, macs):
    """Parameters and MACs of each variant equal the worked counts."""
    network = backbone.build(Params(**options), outputs=outputs, side=side)

    assert params == backbone.count(network)
    if macs is not None:
        assert macs == sum(row.macs for row in backbone.layer_table(network))


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("resnet20", 278_324, 40_818_944),
        ("resnet32", 472_756, 69_130_496),
        ("resnet44", 667_188, 97_442_048),
        ("resnet56", 861_620, 125_753_600),
        ("resnet110", 1_736_564, 253_155_584),
        ("resnet164", 1_726_388, 247_669_760),
        ("densenet_bc_100", 800_032, 287_960_472),
        ("fast_cnn", 1_189_636, 85_844_992),
    ],
)
def test_counts_of_the_other_backbones(name, params, macs):
    """With 100 labels and 32 pixels each has the parameters and MACs of the published network."""
    network = backbone.build(Params(name=name), outputs=100, side=32)

    assert params == backbone.count(network)
    assert macs == sum(row.macs for row in backbone.layer_table(network))
    assert macs == sum(backbone.macs_of_blocks(network)) + backbone.macs_of_head(network.head)


NIN = [
    ("conv1", (26, 26, 192), 14_592, 9_734_400),
    ("cccp1", (26, 26, 160), 30_880, 20_766_720),
    ("cccp2", (26, 26, 96), 15_456, 10_383_360),
    ("pool1", (13, 13, 96), 0, 0),
    ("conv2", (13, 13, 192), 460_992, 77_875_200),
    ("cccp3", (13, 13, 192), 37_056, 6_230_016),
    ("cccp4", (13, 13, 192), 37_056, 6_230_016),
    ("pool2", (6, 6, 192), 0, 0),
    ("conv3", (6, 6, 192), 331_968, 11_943_936),
    ("cccp5", (6, 6, 192), 37_056, 1_327_104),
    ("predictions", (36, 100), 19_300, 691_200),
]


def test_layer_table_of_nin():
    """Every layer equals the published network; the first block has 28.2 % of the MACs."""
    network = backbone.build(Params(name="nin"), outputs=100, side=26)
    rows = backbone.layer_table(network)
    blocks = backbone.macs_of_blocks(network)

    assert [(row.name, row.output, row.params, row.macs) for row in rows] == NIN
    assert backbone.count(network) == 984_356
    assert sum(row.macs for row in rows) == 145_181_952
    assert sum(blocks) + backbone.macs_of_head(network.head) == 145_181_952
    assert (backbone.count(network.blocks[:1]), blocks[0]) == (60_928, 40_884_480)


def test_logits_of_nin_are_cut_at_every_pixel():
    """With `logit_relu` no logit is negative; without it logits are the mean over the pixels."""
    options = {"name": "nin", "width": 0.05, "dropout": 0.0}
    seeds.seed(0)
    cut = backbone.build(Params(**options), outputs=5, side=26).eval()
    plain = backbone.build(Params(**options, logit_relu=False), outputs=5, side=26).eval()
    plain.load_state_dict(cut.state_dict())
    x = torch.randn(3, 3, 26, 26)
    maps = cut.blocks(x)
    last = cut.head.predictions
    pixels = nn.functional.conv2d(maps, last.weight[:, :, None, None], last.bias)

    assert torch.allclose(pixels.mean(dim=(2, 3)), plain(x), atol=1e-6)
    assert torch.allclose(pixels.relu().mean(dim=(2, 3)), cut(x), atol=1e-6)
    assert abs(cut.blocks[1].conv2.weight.std() - 0.05) < 0.01
    assert not cut.blocks[1].conv2.bias.any()


def test_nin_takes_six_pixels():
    """NiN accepts images of 6 pixels and refuses smaller images."""
    with pytest.raises(BadParams, match="6 pixels or more, and these have 5"):
        backbone.build(Params(name="nin"), outputs=5, side=5)
    network = backbone.build(Params(name="nin", width=0.05), outputs=5, side=6)
    assert 1 == network.head.pixels.count
    assert (2, 5) == tuple(network(torch.zeros(2, 3, 6, 6)).shape)


@pytest.mark.parametrize(
    ("name", "attention", "more", "macs"),
    [
        ("resnet20", "se", 8_484, 8_064),
        ("resnet20", "cbam", 9_366, 411_264),
        ("resnet56", "se", 25_452, 24_192),
        ("resnet164", "se", 784_224, 774_144),
    ],
)
def test_attention_costs_what_its_layers_cost(name, attention, more, macs):
    """Each block adds layers C to C / 4 to C with biases; cbam adds 7 x 7 x 2 weights per map."""
    plain = backbone.build(Params(name=name), outputs=100, side=32)
    network = backbone.build(Params(name=name, attention=attention), outputs=100, side=32)
    tables = [backbone.layer_table(one) for one in (network, plain)]

    assert more == backbone.count(network) - backbone.count(plain)
    assert macs == sum(row.macs for row in tables[0]) - sum(row.macs for row in tables[1])
    assert more == sum(row.params for row in tables[0]) - sum(row.params for row in tables[1])


def test_attention_scales_channels_and_pixels():
    """SE and CBAM equal their published formulas, and every weight gets a gradient."""
    seeds.seed(0)
    maps = torch.rand(2, 8, 5, 5)
    squeeze, cbam = attention("se", 8), attention("cbam", 8)
    means, peaks = maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))

    def small(part, seen):
        return part.grow(part.shrink(seen).relu())

    scaled = maps * small(squeeze, means).sigmoid()[:, :, None, None]
    both = small(cbam.channels, means) + small(cbam.channels, peaks)
    inside = maps * both.sigmoid()[:, :, None, None]
    seen = torch.stack([inside.mean(dim=1), inside.amax(dim=1)], dim=1)
    cbam(maps).square().sum().backward()

    assert torch.allclose(scaled, squeeze(maps), atol=1e-6)
    assert torch.allclose(inside * cbam.pixels(seen).sigmoid(), cbam(maps), atol=1e-6)
    assert all(weight.grad.abs().sum() > 0 for weight in cbam.parameters())
    assert maps is attention("none", 8)(maps)


def test_attention_is_a_resnets():
    """Backbones other than ResNets refuse attention."""
    with pytest.raises(ValueError, match="fast_cnn has no attention"):
        Params(name="fast_cnn", attention="se")


def test_shapes_behind_the_blocks():
    """`map_shapes` returns channels, height and width of every map of a resnet20."""
    shapes = backbone.map_shapes(backbone.build(Params(name="resnet20"), outputs=2, side=32))

    assert [(16, 32, 32)] * 4 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3 == shapes


def test_elu_flavour_of_hiernet():
    """With ELU a block has no first norm and no activation after its sum; the head has one."""
    seeds.seed(0)
    network = backbone.build(Params(name="resnet20", act="elu"), outputs=10, side=32).eval()
    block = network.blocks[1]
    x = torch.randn(2, 16, 8, 8)
    inside = block.norm2(block.conv2(nn.functional.elu(block.conv1(x))))

    # 9 first norms fewer: 3 stages of 3 blocks with 16, 32, 64 channels, a scale and a shift each
    plain = backbone.build(Params(name="resnet20"), outputs=10, side=32)
    assert backbone.count(plain) - backbone.count(network) == 3 * 2 * (16 + 32 + 64)
    assert torch.allclose(inside + x, block(x), atol=1e-6)
    assert ["act", "pool", "flatten", "predictions"] == [
        n for n, _ in network.head.named_children()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_weight(name):
    """After one backward pass every weight has a gradient, and two images give two rows."""
    seeds.seed(0)
    network = backbone.build(Params(name=name, init="he"), outputs=5, side=32).train()
    network(torch.rand(2, 3, 32, 32)).square().sum().backward()

    assert [n for n, weight in network.named_parameters() if not weight.grad.abs().sum() > 0] == []


def test_torchvision_classifier_by_name():
    """The head replaces the last dense layer; an unknown name gives an error with known names."""
    try:
        vision.torchvision()
    except MissingPackage as error:
        pytest.skip(str(error))
    network = backbone.build(Params(name="torchvision/resnet18"), outputs=7, side=64)

    assert 11_176_512 + 512 * 7 + 7 == backbone.count(network)
    assert (2, 7) == tuple(network.eval()(torch.zeros(2, 3, 64, 64)).shape)
    with pytest.raises(BadParams, match=r"no classifier 'resnet999'.*resnet18"):
        backbone.build(Params(name="torchvision/resnet999"), outputs=7, side=64)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "resnet21"},
        {"name": "resnet20", "dense": 64},
        {"name": "fast_cnn", "act": "elu"},
        {"name": "torchvision/resnet18", "width": 2.0},
        {"act": "elu"},
        {"logit_relu": False},
        {"name": "nin", "dense": 64},
        {"name": "nin", "act": "elu"},
    ],
)
def test_fields_without_meaning_are_refused(options):
    """A field that the chosen backbone does not have is an error."""
    with pytest.raises(ValueError, match=r"backbone|has no|takes"):
        Params(**options)


@pytest.mark.parametrize("pools", ["first", "last"])
@pytest.mark.parametrize(("side", "last"), [(128, 4), (64, 4), (48, 3), (32, 4), (16, 4)])
def test_last_map_keeps_its_size(side, last, pools):
    """Pools are left out until the last map is at least 3 pixels wide."""
    network = backbone.build(Params(width=0.125, identity_pools=pools), outputs=3, side=side).eval()

    assert (16, last, last) == tuple(network.blocks(torch.zeros(1, 3, side, side)).shape[1:])
    assert (2, 3) == tuple(network(torch.zeros(2, 3, side, side)).shape)


def test_too_small_pictures_are_refused():
    """Images of 16 pixels are too small for five pools; the error names the parameter to set."""
    with pytest.raises(BadParams, match="identity_pools"):
        backbone.build(Params(identity_pools="none"), outputs=3, side=16)


@given(st.sampled_from([16, 32, 48]), st.sampled_from(["first", "last"]), st.booleans())
def test_counted_macs_equal_executed_ones(side, pools, batch_norm):
    """MACs counted from the layers equal the MACs of a forward pass."""
    params = Params(width=0.125, identity_pools=pools, batch_norm=batch_norm)
    network = backbone.build(params, outputs=4, side=side).eval()
    executed = []

    def count(module, _inputs, output):
        executed.append(module.weight.numel() * math.prod(output.shape[2:]))

    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.register_forward_hook(count)
    network(torch.zeros(1, 3, side, side))

    assert sum(executed) == sum(row.macs for row in backbone.layer_table(network))


def test_selu_has_the_derivatives_of_the_paper():
    """The slope of SELU is 1.758031 just below zero and 1.0507 just above."""
    slopes = []
    for value in (-1e-6, 1e-6):
        x = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        activation("selu")(x).backward()
        slopes.append(float(x.grad))

    assert np.allclose([1.758031, 1.0507], slopes, atol=1e-4)


def test_convolution_and_pools_of_the_report():
    """Torch's layers reproduce the report's Figure 1 (corrected) and Figure 2."""
    rows = ["11101", "01110", "00111", "00010", "00110", "01000"]
    image = torch.tensor([[float(digit) for digit in row] for row in rows])[None, None]
    cross = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])[None, None]
    grid = torch.arange(1.0, 17).reshape(1, 1, 4, 4)

    assert [[4, 3, 5], [1, 4, 2], [2, 2, 4], [0, 3, 1]] == (
        nn.functional.conv2d(image, cross)[0, 0].tolist()
    )
    assert [[6, 8], [14, 16]] == nn.functional.max_pool2d(grid, 2)[0, 0].tolist()
    assert [[3.5, 5.5], [11.5, 13.5]] == nn.functional.avg_pool2d(grid, 2)[0, 0].tolist()


def test_glorot_bounds_and_zero_biases():
    """Kernels are uniform within sqrt(6 / (fan in + fan out)); biases start at zero."""
    seeds.seed(0)
    network = backbone.build(Params(), outputs=25, side=128)
    kernel = network.get_submodule("blocks.1.B2C1").weight
    bound = math.sqrt(6 / (9 * 64 + 9 * 128))

    assert bound * 0.99 < kernel.abs().max() <= bound
    assert abs(float(kernel.detach().std()) - bound / math.sqrt(3)) < 1e-3
    assert not network.head.fc21.bias.any()


def test_noise_is_added_while_training_only():
    """Noise of the given size is added at the last map or at the input, in training only."""
    x = torch.zeros(4000)
    noise = Noise(0.01).train()

    assert 0.009 < float(noise(x).std()) < 0.011
    assert not noise.eval()(x).any()
    network = backbone.build(Params(width=0.1, noise_at="input"), outputs=2, side=16)
    assert (0.01, 0.0) == (network.get_submodule("blocks.0.noise").sigma, network.head.noise.sigma)


def test_branch_copies_the_own_part_and_shares_the_stem():
    """A branch copies its network's weights except the last layer; the stem stays frozen."""
    seeds.seed(0)
    params = Params(width=0.125, batch_norm=True, init="he")
    network = backbone.build(params, outputs=4, side=16)
    branch = backbone.branch_of(network, outputs=2, first_own=4)
    attached = backbone.Attached(network.blocks[:4], branch).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attached(torch.rand(8, 3, 16, 16)).sum().backward()

    assert (branch.head.fc21.weight == network.head.fc21.weight).all()
    assert branch.head.fc21.weight is not network.head.fc21.weight
    assert branch.head.predictions.out_features == 2
    assert all(weight.grad is None for weight in network.blocks[:4].parameters())
    assert branch.blocks[0].B5C1.weight.grad.abs().max() > 0
    assert all((before[name] == value).all() for name, value in network.state_dict().items())
    assert backbone.count(network, attached) == backbone.count(network) + backbone.count(branch)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet20", [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]),
        ("fast_cnn", [32, 64, 128, 256]),
        ("densenet_bc_100", [24, 36, 48]),
    ],
)
def test_channels_behind_each_block(name, channels):
    """`channels_after` includes the channels that a dense layer passes on."""
    network = backbone.build(Params(name=name), outputs=4, side=16)
    places = range(1, len(channels) + 1)

    assert channels == [backbone.channels_after(network, place) for place in places]


def test_parts_are_copied_by_name():
    """`copy_parts` copies the blocks with the same numbers and leaves the `but` layer unchanged."""
    params = Params(name="resnet20", width=0.25)
    source, target = (backbone.build(params, outputs=4, side=16) for _ in range(2))
    own = target.blocks[6:8]
    backbone.copy_parts(source.blocks, own)
    backbone.copy_parts(source.head, target.head, but="predictions")

    assert ["6", "7"] == [name for name, _ in own.named_children()]
    for place in range(10):
        weights = [network.blocks[place].state_dict() for network in (source, target)]
        same = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert same is (place in (6, 7))
    assert not torch.equal(source.head.predictions.weight, target.head.predictions.weight)
