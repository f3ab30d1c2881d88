"""How `merged` chooses alpha on the validation images, and stores it."""

import numpy as np
import pytest
import torch

from personae.errors import BadParams
from train import backbone, saved
from train.data import augment
from train.engine import loop
from train.methods.merged import adaptation
from train.tree import hierarchy

PARAMS = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")


PLAIN = PARAMS.model_copy(
    update={"label_smoothing": 0.0, "ema": 0.0, "clip": 0.0, "precision": "float32"}
)


RESNET = backbone.Params(name="resnet20", width=0.25)


@pytest.fixture
def start(make_classifier):
    """Builds the tensors of an untrained flat network: `start(network)`."""

    def build(network=RESNET):
        return make_classifier("flat", hierarchy.flat(4), network=network).network.state_dict()

    return build


@pytest.fixture
def fit(make_classifier, make_trainer, tiny_data, two_level_hierarchy):
    """Fits on the drawings: `fit("folder", merge=1)` gives classifier, report and trainer."""

    def build(folder, *, params=PLAIN, data=None, start=None, network=RESNET, **own):
        data = data or tiny_data()
        classifier = make_classifier("merged", two_level_hierarchy, network=network, **own)
        trainer = make_trainer(data, params=params, folder=folder)
        return classifier, classifier.fit(data, trainer, seed=0, start=start), trainer

    return build


def inputs_of(data):
    return augment.scale(data.train.batch(np.arange(16)))


def test_alpha_is_chosen_on_validation_pictures(fit, tiny_data):
    """Each alpha is the best of its curve over the validation images."""
    data = tiny_data()
    classifier, _, _ = fit("work", data=data)
    with torch.no_grad():
        coarse, fine = classifier.confidences(
            augment.scale(data.val.batch(np.arange(len(data.val))))
        )
        labels = torch.from_numpy(data.val.labels)
        points = adaptation.curve(coarse, fine, labels, classifier.parents)
        row = {
            name: getattr(max(points, key=lambda p, n=name: getattr(p, n)), name)
            for name in ("coarse", "fine")
        }
        reached = {round(point.alpha, 1): (point.coarse, point.fine) for point in points}
    alphas = [round(alpha, 1) for alpha in classifier.alphas.tolist()]

    assert adaptation.chosen(points) == pytest.approx(tuple(classifier.alphas.tolist()))
    assert row["coarse"] == reached[alphas[0]][0]
    assert row["fine"] == reached[alphas[1]][1]


def test_given_alpha_stays(fit):
    """An alpha set in section merged is kept; the other alpha is chosen."""
    classifier, _, _ = fit("work", alpha_fine=0.3)

    assert 0.3 == pytest.approx(classifier.alphas[1].item())
    assert round(classifier.alphas[0].item(), 1) in adaptation.GRID


def test_alpha_is_saved_and_loaded(
    make_classifier, model_of, tiny_data, two_level_hierarchy, tmp_path
):
    """The chosen alphas are saved with the weights, not with the parameters."""
    classifier = make_classifier("merged", two_level_hierarchy, network=RESNET).eval()
    classifier.alphas.copy_(torch.tensor([1.4, 0.7]))
    saved.save(tmp_path / "run", classifier, model_of("merged", two_level_hierarchy, RESNET))
    loaded = saved.load(tmp_path / "run").classifier
    x = inputs_of(tiny_data())
    with torch.no_grad():
        here, there = classifier.outputs(x), loaded.outputs(x)

    assert [1.4, 0.7] == pytest.approx(loaded.alphas.tolist())
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_alpha_is_not_chosen_on_learnt_pictures(fit, tiny_data):
    """With data.train_on_val the alphas must be given; otherwise training does not start."""
    data = tiny_data()
    both = type(data)(data.labels, data.side, data.root_sha256, data.val, data.val)
    with pytest.raises(BadParams, match="alpha_coarse"):
        fit("refused", data=both)
    classifier, _, _ = fit("given", data=both, alpha_coarse=1.1, alpha_fine=0.9)

    assert [1.1, 0.9] == pytest.approx(classifier.alphas.tolist())
