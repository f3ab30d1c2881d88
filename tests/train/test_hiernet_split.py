"""Where `hiernet` divides a backbone: published splits, costs, and refusals."""

import numpy as np
import pytest
import torch

from personae.errors import BadParams
from train import backbone
from train.data import augment
from train.errors import BadHierarchy
from train.methods.hiernet import classifier as hiernet
from train.tree import hierarchy

SIZES = (40, 20, 12, 8, 7, 6, 5, 2)


RESNET = backbone.Params(name="resnet20", width=0.25)


def of_groups(sizes):
    ends = np.cumsum(sizes)
    groups = [list(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    return hierarchy.from_clusters(groups, int(ends[-1]))


def built(name, sizes=SIZES, *, act="relu", side=32, **own):
    network = backbone.Params(name=name, act=act)
    return hiernet.Classifier(
        hiernet.Params(**own),
        hierarchy=of_groups(sizes),
        build=lambda outputs: backbone.build(network, outputs=outputs, side=side),
        mean=np.zeros(3, dtype=np.float32),
    )


def inputs_of(data):
    return augment.scale(data.train.batch(np.arange(16)))


@pytest.mark.parametrize(
    ("name", "params", "route", "full"),
    [
        ("resnet20", 1_924_924, 49_204_224, 173_988_608),
        ("resnet32", 3_229_116, 82_234_368, 273_079_040),
        ("resnet44", 4_607_804, 115_264_512, 405_199_616),
        ("resnet56", 5_911_996, 148_294_656, 504_290_048),
        ("resnet110", 10_319_228, 272_026_624, 800_512_768),
    ],
)
def test_published_networks_cost_what_they_must(name, params, route, full):
    """With 8 groups of 40 to 2 labels, MACs and parameters are exact, and a route is <= 35 %."""
    cost = built(name).cost()
    branches = {node: macs for node, macs in cost.macs.items() if node != "root"}

    assert params == cost.params
    assert route == cost.macs["root"] + max(branches.values())
    assert full == cost.macs_max
    assert 8 == len(branches)
    assert (cost.macs["root"] + max(branches.values())) / cost.macs_max <= 0.35


@pytest.mark.parametrize(
    ("name", "act", "split", "added"),
    [
        ("resnet20", "relu", 5, 2),
        ("resnet32", "relu", 9, 3),
        ("resnet44", "relu", 12, 4),
        ("resnet56", "relu", 16, 5),
        ("resnet110", "relu", 38, 4),
        ("resnet20", "elu", 6, 2),
        ("resnet32", "elu", 9, 3),
        ("resnet44", "elu", 15, 2),
        ("resnet56", "elu", 19, 5),
        ("resnet110", "elu", 38, 4),
        ("fast_cnn", "relu", 2, 1),
        ("uppsala_cnn", "relu", 2, 1),
        ("resnet164", "relu", 33, 11),
    ],
)
def test_split_is_the_published_one(name, act, split, added):
    """By default the published split and added blocks apply, on other backbones 60 and 20 %."""
    tree = built(name, (2, 2), act=act).network

    assert split + 1 == len(tree.stem)
    assert added == len(tree.group_head.blocks)
    assert str(split + 1) == next(iter(tree.group_head.blocks._modules))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"split": 8, "group_blocks": 2}, "split 8 and hiernet.group_blocks 2 are more than the 9"),
        ({"split": 10}, "split 10 and hiernet.group_blocks 0"),
        ({"group_blocks": 5}, "split 5 and hiernet.group_blocks 5"),
    ],
)
def test_split_and_added_blocks_must_fit(make_classifier, own, message):
    """Split and added blocks beyond the backbone's blocks are refused with both numbers."""
    with pytest.raises(BadParams, match=message):
        make_classifier("hiernet", of_groups((2, 2)), network=RESNET, **own)


@pytest.mark.parametrize(("split", "added"), [(0, 9), (9, 0), (5, 4), (8, None)])
def test_split_goes_from_end_to_end(make_classifier, tiny_data, split, added):
    """The split may share all blocks or only the stem; added blocks use what remains."""
    own = {"split": split, "group_blocks": added}
    classifier = make_classifier("hiernet", of_groups((2, 2)), network=RESNET, **own).eval()
    with torch.no_grad():
        rows = classifier.predict_proba(inputs_of(tiny_data()), mode="full")

    assert (1 if added is None else added) == len(classifier.network.group_head.blocks)
    assert torch.allclose(torch.ones(16), rows.sum(dim=1), rtol=0, atol=1e-6)


def test_what_is_no_tree_or_no_row_of_blocks_is_refused(make_classifier):
    """One label, overlap, and a backbone of one block are refused."""
    with pytest.raises(BadHierarchy, match="two labels"):
        make_classifier("hiernet", hierarchy.flat(1))
    with pytest.raises(BadHierarchy, match="two parents"):
        make_classifier("hiernet", hierarchy.from_cover([[0, 1, 2], [2, 3]], 4))
    block = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 256, 8))
    with pytest.raises(BadParams, match="one block"):
        hiernet.Classifier(
            hiernet.Params(),
            hierarchy=of_groups((2, 2)),
            mean=np.zeros(3, dtype=np.float32),
            build=lambda outputs: backbone.Network(
                torch.nn.Sequential(block), backbone.pooled_head(8, outputs), side=16
            ),
        )
