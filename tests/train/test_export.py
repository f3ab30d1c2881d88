"""Export: every method gives one ONNX file, which is kept only if it equals torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from personae.errors import MissingInput, MissingPackage
from train import backbone, export, saved
from train.errors import BadExport
from train.methods import METHODS
from train.tree import hierarchy

onnxruntime = pytest.importorskip("onnxruntime", reason="extra `export` is not installed")

NETWORK = backbone.Params(width=0.125, batch_norm=True)
LABELS = ["ann", "bea", "cem", "dúa"]


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory, make_classifier, model_of):
    """Writes an untrained run of every method, with seed 0, to a results folder."""
    folder = tmp_path_factory.mktemp("results")
    for method in METHODS:
        tree = hierarchy.from_clusters([[0, 2], [1], [3]], 4)
        tree = hierarchy.flat(4) if method == "flat" else tree
        classifier = make_classifier(method, tree, network=NETWORK).eval()
        model = model_of(method, tree, NETWORK, labels=LABELS)
        saved.save(folder / method / "0", classifier, model)
    return folder


@pytest.mark.parametrize("method", sorted(METHODS))
def test_onnxruntime_gives_what_torch_gives(results_dir, tmp_path, method):
    """The file gives the classifier's outputs for a batch size other than the example's."""
    path = export.run(method, seed=0, results_dir=results_dir, out=tmp_path / "new" / "m.onnx")
    session = onnxruntime.InferenceSession(path)
    classifier = saved.load(results_dir / method / "0").classifier
    names = [output.name for output in session.get_outputs()]
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    actual = dict(zip(names, session.run(None, {"pictures": images.numpy()}), strict=True))
    with torch.no_grad():
        expected = classifier.outputs(images)
        default = classifier.predict_proba(images)

    assert names[0] == "probabilities"
    assert set(expected) - {"default", "executed"} == set(names) - {"probabilities"}
    assert np.allclose(default, actual["probabilities"], atol=1e-5)
    for name in set(names) - {"probabilities"}:
        assert np.allclose(expected[name], actual[name], atol=1e-5)
    assert [path] == [*path.parent.iterdir()]


@pytest.mark.parametrize(
    ("kind", "order", "width"),
    [
        ("rnn", "root_first", 3),
        ("rnn", "leaf_first", 1),
        ("s2s", "root_first", 3),
    ],
)
def test_search_over_paths_is_exported(tmp_path, make_classifier, kind, order, width):
    """For uneven paths, both RNNs and any beam width, the file equals the default mode."""
    tree = hierarchy.from_nested([[[3, 1], 0], [2]], 4)
    own = {"kind": kind, "order": order, "beam": width, "hidden": 8}
    classifier = make_classifier("dhnn", tree, network=NETWORK, **own).eval()
    for weight in classifier.network.decoder.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    path = tmp_path / "m.onnx"
    with torch.no_grad():
        export.write(path, classifier, side=16, facts={})
        session = onnxruntime.InferenceSession(path)
        for batch in (1, 5):
            images = torch.rand(batch, 3, 16, 16)
            expected = classifier.predict_proba(images).numpy()
            (actual,) = session.run(["probabilities"], {"pictures": images.numpy()})

            assert np.allclose(expected, actual, atol=export.TOLERANCE)
            assert len(set(expected[0])) > 1
        assert export.check(path, classifier, side=16) <= export.TOLERANCE


@pytest.mark.parametrize(
    ("method", "own"),
    [
        ("hdcnn", {"beta": 0.5}),  # a threshold of 2/3: for some images no component reaches it
        ("hdcnn", {"beta": 1.0}),
        ("hdcnn", {"beta": 6.0}),  # as in the presets
        ("hdcnn", {"share": False, "beta": 6.0}),
        ("uppsala", {"rollback": 1}),
    ],
)
def test_conditional_execution_is_exported(tmp_path, make_classifier, method, own):
    """For images that skip parts of the network, the file equals the default mode."""
    cover = hierarchy.from_cover([[0, 1, 2], [2, 3], [3]], 4)
    tree = cover if method == "hdcnn" else hierarchy.from_clusters([[0, 2], [1, 3]], 4)
    classifier = make_classifier(method, tree, network=NETWORK, **own).eval()
    torch.manual_seed(0)
    for name, weight in classifier.named_parameters():
        if "predictions" in name:
            torch.nn.init.normal_(weight, std=20.0)
    path = tmp_path / "m.onnx"
    with torch.no_grad():
        export.write(path, classifier, side=16, facts={})
        session = onnxruntime.InferenceSession(path)
        for batch in (1, 2, 9):
            images = torch.rand(batch, 3, 16, 16)
            expected = classifier.predict_proba(images).numpy()
            (actual,) = session.run(["probabilities"], {"pictures": images.numpy()})

            assert np.allclose(expected, actual, atol=export.TOLERANCE)
        assert not classifier.outputs(images)["executed"].all()
        assert export.check(path, classifier, side=16) <= export.TOLERANCE


def test_metadata_names_run_and_labels(results_dir, tmp_path):
    """The file's metadata holds the labels in leaf order, run, seed and the shards' hash."""
    path = export.run("flat", seed=0, results_dir=results_dir, out=tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(path)
    metadata = session.get_modelmeta().custom_metadata_map
    (entry,) = session.get_inputs()

    assert LABELS == json.loads(metadata["labels"])
    assert ("flat", "0", "c" * 64) == (metadata["run"], metadata["seed"], metadata["root_sha256"])
    assert ("pictures", "tensor(float)") == (entry.name, entry.type)
    assert [3, 16, 16] == entry.shape[1:]
    assert isinstance(entry.shape[0], str)


def test_default_path_is_in_the_working_folder(results_dir, tmp_path, monkeypatch):
    """Without --out the file is RUN-SEED.onnx in the working folder."""
    monkeypatch.chdir(tmp_path)

    assert (tmp_path / "flat-0.onnx").samefile(export.run("flat", seed=0, results_dir=results_dir))


def test_other_probabilities_leave_nothing(results_dir, tmp_path, make_classifier):
    """A file that differs from torch is refused with output and difference, and is removed."""
    out = tmp_path / "m.onnx"
    with pytest.raises(
        BadExport, match=r"'probabilities'.*differs from torch by.*nothing was kept"
    ):
        export.run("flat", seed=0, results_dir=results_dir, out=out, tolerance=-1)
    assert [] == [*tmp_path.iterdir()]

    trained = saved.load(results_dir / "flat" / "0").classifier
    other = make_classifier("flat", hierarchy.flat(4), seed=1, network=NETWORK).eval()
    with torch.no_grad():
        export.write(out, trained, side=16, facts={})
        assert export.check(out, trained, side=16) <= export.TOLERANCE
        with pytest.raises(BadExport, match="differs from torch"):
            export.check(out, other, side=16)


def test_file_that_onnxruntime_cannot_read_is_refused(tmp_path, make_classifier):
    """A file that onnxruntime cannot read gives an error with its reason."""
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    classifier = make_classifier("flat", hierarchy.flat(4), network=NETWORK).eval()

    with pytest.raises(BadExport, match="onnxruntime cannot run the ONNX file"):
        export.check(tmp_path / "m.onnx", classifier, side=16)


def test_missing_run_names_the_stage(tmp_path):
    """The error for an untrained run names the stage that trains it."""
    with pytest.raises(MissingInput, match="stage 'flat'"):
        export.run("flat", seed=0, results_dir=tmp_path, out=tmp_path / "m.onnx")


def test_missing_package_names_the_extra(results_dir, tmp_path, monkeypatch):
    """Without a package the error names it and the command that installs it."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)

    with pytest.raises(
        MissingPackage, match=r"importing onnxscript failed.*pip install -e .\.\[export\]"
    ):
        export.run("flat", seed=0, results_dir=results_dir, out=tmp_path / "m.onnx")


def test_no_other_command_needs_the_extra():
    """Importing the commands imports no package of the extra."""
    code = (
        "import sys, train.export, train.evaluate, train.predict\n"
        "print({'onnx', 'onnxruntime', 'onnxscript'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "set()" == done.stdout.strip()
