"""Networks of timm: by name, with pretrained weights of a local file, and their errors."""

import json
import sys
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import save_file

from personae.errors import BadParams, MissingPackage
from train import backbone
from train.__main__ import main
from train.networks import timm as networks
from train.params.backbone import names
from train.params.networks.timm import Params
from train.runtime import checkpoint, seeds

NAME = "timm/test_resnet"  # half a million parameters


@pytest.fixture(scope="module")
def timm():
    """Imports timm, or skips the test with the reason."""
    try:
        return networks._library()
    except MissingPackage as error:
        pytest.skip(f"timm does not import: {error}")


@pytest.fixture
def weights(timm, tmp_path):
    """Writes weights of the model as timm publishes them, with a classifier of 1000 labels."""
    seeds.seed(3)
    model = timm.create_model("test_resnet", pretrained=False)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", model.state_dict()


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "regnetx_002"])
def test_model_by_name(timm, name):
    """The parameters of model and head are counted, norms with an activation inside included."""
    network = backbone.build(Params(name=f"timm/{name}"), outputs=7, side=64)
    model = timm.create_model(name, pretrained=False, num_classes=7)
    table = backbone.layer_table(network)

    assert backbone.count(model) == backbone.count(network) == sum(row.params for row in table)
    assert sum(row.macs for row in table) > 1_000_000
    assert (2, 7) == tuple(network.eval()(torch.zeros(2, 3, 64, 64)).shape)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet81", r"no model 'resnet81'. Near: resnet18"),
        ("timm/convnext_atto", "parameters of the backbone work outside convolutions"),
        ("timm/vit_tiny_patch16_224", "cannot take images of 64 pixels"),
    ],
)
def test_model_that_cannot_be_used_is_an_error(timm, name, message):
    """An unknown name gives the nearest names; attention and other sizes are refused."""
    with pytest.raises(BadParams, match=message):
        backbone.layer_table(backbone.build(Params(name=name), outputs=7, side=64))


def test_training_starts_from_the_file(timm, weights):
    """The model has the tensors of the file, the head is drawn, and the input is scaled."""
    path, tensors = weights
    network = backbone.build(Params(name=NAME, pretrained=path), outputs=5, side=32).eval()
    drawn = backbone.build(Params(name=NAME, pretrained=path), outputs=5, side=32, trains=False)
    model = network.blocks.get_submodule("0.model")
    x = torch.rand(2, 3, 32, 32)
    scaled = x / torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    assert dict.fromkeys(model.state_dict(), True) == {
        name: torch.equal(tensors[name], tensor) for name, tensor in model.state_dict().items()
    }
    assert not torch.equal(
        drawn.state_dict()["blocks.0.model.conv1.0.weight"], tensors["conv1.0.weight"]
    )
    assert drawn.state_dict().keys() == network.state_dict().keys()
    assert torch.allclose(model(scaled), network.blocks(x))


def test_wrong_weights_are_an_error(timm, weights):
    """Absent, pickled and other weights are refused, with the tensors that differ."""
    path, tensors = weights
    pickled, other = path.with_name("model.bin"), path.with_name("other.safetensors")
    torch.save(tensors, pickled)
    renamed = {name.replace("conv1.0", "stem"): tensor for name, tensor in tensors.items()}
    save_file(renamed | {"bn1.bias": torch.zeros(3)}, other)
    for file, message in (
        (path.with_name("absent"), "absent cannot be read as safetensors"),
        (pickled, r"Pickled weights \(.pth, .bin\) are refused"),
        (other, "missing: conv1.0.weight; unknown: stem.weight; of another shape: bn1.bias"),
    ):
        with pytest.raises(BadParams, match=message):
            backbone.build(Params(name=NAME, pretrained=file), outputs=5, side=32)


def test_run_with_pretrained_weights(weights, tiny_shards, tmp_path, monkeypatch, capsys):
    """`flat` trains from the file and records its hash; `evaluate` does not need the file."""
    path, _ = weights
    monkeypatch.chdir(tmp_path)
    section = f"backbone: {{name: {NAME}, pretrained: {path.name}}}\n"
    rest = "loop: {epochs: 1, threads: 1, device: cpu}\nevaluate: {latency_seconds: 0.05}\n"
    (tmp_path / "params.yaml").write_text(section + rest)

    assert 0 == main(["flat"])
    digest = checkpoint.sha256(path)
    path.unlink()
    versions = json.loads((tmp_path / "results/flat/0/model.json").read_text())["versions"]
    assert (version("timm"), digest) == (versions["timm"], versions["pretrained"])
    assert 0 == main(["evaluate", "flat"])
    capsys.readouterr()
    assert 2 == main(["flat", "--seed", "1"])
    assert "model.safetensors cannot be read" in capsys.readouterr().err


def test_help_shows_the_parameter_of_the_family(capsys):
    """`--name timm/NAME` adds the option `--pretrained`; without timm too."""
    with pytest.raises(SystemExit, match="0"):
        main(["flat", "--name", NAME, "--help"])

    assert "--pretrained" in capsys.readouterr().out
    assert "timm/NAME" in names()


def test_missing_timm_names_the_extra(monkeypatch):
    """Without timm the error names the extra to install."""
    monkeypatch.setattr(networks.vision, "torchvision", lambda: None)
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(MissingPackage, match=r"pip install 'personae\[timm\]'"):
        backbone.build(Params(name=NAME), outputs=5, side=32)
