"""The contract of every method: one test body for each entry of METHODS."""

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.train.conftest import FAMILIES, trainers
from train import backbone, params, saved
from train.data import augment
from train.engine import loop
from train.errors import Diverged
from train.evaluation import prediction
from train.methods import METHODS
from train.runtime import checkpoint, seeds
from train.tree import hierarchy

FAST = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")
NETWORK = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.0, noise=0.0, init="he"
)
ROOT = Path(__file__).resolve().parents[2]
ALL = pytest.mark.parametrize("method", sorted(METHODS))


@torch.no_grad()
def _predicts_clusters(method):
    seeds.seed(0, method)
    classifier = METHODS[method].Classifier(
        METHODS[method].Params(),
        hierarchy=hierarchy.from_clusters(FAMILIES, 4),
        build=lambda outputs: backbone.build(NETWORK, outputs=outputs, side=16),
        mean=np.zeros(3, dtype=np.float32),
    )
    return classifier.eval().coarse_proba(torch.zeros(1, 3, 16, 16)) is not None


TREELESS = {method for method in METHODS if not _predicts_clusters(method)}


def fitting(make_classifier, make_trainer, tiny_data):
    """Returns a function that fits a method on tiny data and gives classifier, data and report."""

    def fit(method, *, seed=0, tree=None, data=None, params=FAST, folder="work", **built):
        data = data or tiny_data()
        families = hierarchy.from_clusters(FAMILIES, 4)
        tree = tree or (hierarchy.flat(4) if method in TREELESS else families)
        start = make_classifier("flat", hierarchy.flat(4), seed=seed, **built).network.state_dict()
        classifier = make_classifier(method, tree, seed=seed, **built)
        trainer = make_trainer(data, params=params, folder=f"{folder}-{method}-{seed}")
        report = classifier.fit(data, trainer, seed=seed, start=start)
        return classifier.eval(), data, report

    return fit


@pytest.fixture
def fitted(make_classifier, make_trainer, tiny_data):
    """Fits a method on tiny data: `fitted(method)` gives classifier, data and report."""
    return fitting(make_classifier, make_trainer, tiny_data)


@pytest.fixture(scope="module")
def fitted_once(make_classifier, tiny_data, tmp_path_factory):
    """Fits each method once for all tests that only read its classifier."""
    root = tmp_path_factory.mktemp("fitted")
    return cache(fitting(make_classifier, trainers(root), tiny_data))


LOADER = """
import hashlib, sys
from pathlib import Path
import numpy as np, torch
from train import saved

torch.set_num_threads(1)
torch.set_grad_enabled(False)
for line in sys.stdin:
    folder = Path(line.strip())
    classifier = saved.load(folder / "run").classifier
    x = torch.from_numpy(np.load(folder / "inputs.npy"))
    digest = hashlib.sha256(classifier.predict_proba(x).numpy().tobytes()).hexdigest()
    print(digest, flush=True)
"""


@pytest.fixture(scope="module")
def other_process():
    """Starts a new process: `other_process(folder)` loads the classifier of that folder in it."""
    with subprocess.Popen(
        [sys.executable, "-c", LOADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def load(folder):
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield load


def inputs_of(data, rows=range(32)):
    return augment.scale(data.train.batch(np.array(list(rows))))


@ALL
def test_rows_are_probabilities(fitted_once, method):
    """Rows are non-negative and sum to 1, for one and seven images, in modes route and full."""
    classifier, data, _ = fitted_once(method)
    for count in (1, 7):
        for mode in ("default", "route", "full"):
            with torch.no_grad():
                rows = classifier.predict_proba(inputs_of(data, range(count)), mode=mode)

            assert (count, 4) == tuple(rows.shape)
            assert rows.min() >= 0
            assert torch.allclose(torch.ones(count), rows.sum(dim=1), rtol=0, atol=1e-6)


@ALL
@pytest.mark.parametrize("leaves", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_memorises_in_the_order_of_the_labels(fitted, tiny_data, method, leaves):
    """64 images are memorised, and leaves keep the order of the labels after any permutation."""
    families = [[leaves[0], leaves[1]], [leaves[3], leaves[2]]]
    tree = hierarchy.flat(4) if method in TREELESS else hierarchy.from_clusters(families, 4)
    longer = method == "hdcnn"  # 16 epochs are too few for its root and its joint training
    params = FAST.model_copy(
        update={
            "epochs": 40 if longer else 16,
            "ema": 0.5,
            "label_smoothing": 0.0,
            "lr": 0.1 if longer else 0.05,
        }
    )
    classifier, data, _ = fitted(
        method, tree=tree, data=tiny_data(16, leaves=leaves), params=params
    )
    with torch.no_grad():
        predicted = classifier.predict_proba(inputs_of(data, range(64))).argmax(dim=1).numpy()

    assert (predicted == data.train.labels).all()


@ALL
def test_neighbours_in_the_batch_do_not_matter(fitted_once, method):
    """In evaluation a row is the same alone, in a batch, and in another order."""
    classifier, data, _ = fitted_once(method)
    with torch.no_grad():
        together = classifier.predict_proba(inputs_of(data))
        alone = torch.cat([classifier.predict_proba(inputs_of(data, [row])) for row in range(32)])
        backwards = classifier.predict_proba(inputs_of(data, range(31, -1, -1))).flip(0)

    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, backwards, atol=1e-5)


@ALL
def test_gradient_reaches_every_trainable_tensor(fitted, method):
    """After the first epoch of its phase each trained tensor has a finite, non-zero gradient."""
    plain = NETWORK.model_copy(update={"batch_norm": False})
    classifier, _, _ = fitted(method, network=plain)
    for name, weight in classifier.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().max() > 0, name


@ALL
def test_seed_decides_the_numbers(fitted, method):
    """The same seed gives bit-identical probabilities, and another seed gives different ones."""
    first, data, _ = fitted(method, seed=1, folder="a")
    second, _, _ = fitted(method, seed=1, folder="b")
    third, _, _ = fitted(method, seed=2)
    with torch.no_grad():
        rows = [one.predict_proba(inputs_of(data), mode="full") for one in (first, second, third)]

    assert torch.equal(rows[0], rows[1])
    assert not torch.allclose(rows[0], rows[2], atol=1e-3)


@ALL
def test_saved_and_loaded_in_a_new_process(fitted_once, other_process, model_of, tmp_path, method):
    """A new process loads equal outputs; the weights file holds leaf order and parameters."""
    classifier, data, _ = fitted_once(method)
    model = model_of(method, classifier.hierarchy, NETWORK)
    saved.save(tmp_path / "run", classifier, model)
    np.save(tmp_path / "inputs.npy", inputs_of(data).contiguous().numpy())
    there = other_process(tmp_path)
    with torch.no_grad():
        here = classifier.predict_proba(torch.from_numpy(np.load(tmp_path / "inputs.npy")))
    _, inside = checkpoint.load(tmp_path / "run" / "weights.safetensors")

    assert hashlib.sha256(here.numpy().tobytes()).hexdigest() == there
    digest = hashlib.sha256((tmp_path / "run" / "weights.safetensors").read_bytes()).hexdigest()
    written = json.loads((tmp_path / "run" / "model.json").read_text())
    assert list(data.labels) == inside["labels"]
    assert model.facts() == inside
    assert inside | {"version": 1, "weights_sha256": digest} == written


@pytest.mark.parametrize("method", sorted(set(METHODS) - TREELESS))
def test_tree_is_used(fitted, method):
    """Swapping two leaves between groups changes the result; a tree with one group works too."""
    first, data, _ = fitted(method)
    swapped = hierarchy.from_clusters([[0, 2], [1, 3]], 4)
    second, _, _ = fitted(method, tree=swapped, folder="swapped")
    single = hierarchy.from_clusters([[0, 1, 2, 3]], 4)
    third, _, _ = fitted(method, tree=single, folder="single")
    with torch.no_grad():
        rows = [one.predict_proba(inputs_of(data)) for one in (first, second, third)]

    assert not torch.allclose(rows[0], rows[1], atol=1e-3)
    assert torch.allclose(torch.ones(32), rows[2].sum(dim=1), rtol=0, atol=1e-6)


@ALL
def test_divergence_is_named(fitted, tmp_path, method):
    """A loss that is not finite raises Diverged with step and rate, and keeps a good checkpoint."""
    params = FAST.model_copy(update={"lr": 1e30, "ema": 0.0, "clip": 0.0, "warm_up": 0.0})
    with pytest.raises(Diverged) as caught:
        fitted(method, params=params)
    kept = tmp_path / f"work-{method}-0" / f"{caught.value.network}.safetensors"
    tensors, _ = checkpoint.load(kept)

    assert caught.value.step >= 0
    assert caught.value.lr > 1e28
    assert str(caught.value.step) in str(caught.value)
    assert all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())


def test_methods_are_the_files():
    """The names of the help, which imports no torch, are METHODS; those with a tree are known."""
    trees = {"uppsala", "merged", "dhnn", "hiernet", "hdcnn", "recover"}

    assert tuple(METHODS) == params.METHODS
    assert {"flat", "ensemble", *trees} <= set(METHODS)
    assert {"flat", "ensemble"} <= TREELESS
    assert not trees & TREELESS


@ALL
def test_source_is_cited_and_parameters_have_a_section(method):
    """The class names its source, and its section has valid values and describes each parameter."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))

    assert "Source:" in METHODS[method].Classifier.__doc__
    assert METHODS[method].Params(**(document.get(method) or {}))
    assert all(field.description for field in METHODS[method].Params.model_fields.values())


@ALL
def test_costs_are_counted_from_the_tensors(fitted_once, method):
    """Parameters count distinct tensors, and the expected MACs are at most all MACs."""
    classifier, data, report = fitted_once(method)
    cost = classifier.cost()
    with torch.no_grad():
        executed = classifier.outputs(inputs_of(data))["executed"]
    shares = prediction.predict(classifier, data.train, device=torch.device("cpu")).executed

    assert sum(weight.numel() for weight in classifier.parameters()) == cost.params
    assert (len(data.train), len(cost.macs)) == tuple(executed.shape)
    assert executed.dtype == torch.bool
    assert executed[:, 0].all()
    assert executed.double().mean(dim=0).tolist() == pytest.approx(list(shares.values()))
    assert list(cost.macs) == list(shares)
    assert 0 < cost.macs_expected(shares) <= cost.macs_max
    assert all(network.train_flops > 0 for network in report.networks)
