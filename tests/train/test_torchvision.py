"""Our augmentation against torchvision's, per pixel, and the import of torchvision."""

import importlib
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from personae.errors import MissingPackage
from train.backbone import vision
from train.data import augment
from train.data.augment import Draws

TOLERANCE = 1e-4  # for pixels in 0..1: both sum in float32, in another order
MOVEMENTS = {
    "nothing": {},
    "rotation": {"angle": 17.0},
    "rotation back": {"angle": -140.0},
    "zoom": {"zoom": 1.17},
    "shift right": {"x": 0.13},
    "shift up": {"y": -0.2},
    "mirror": {"mirrored": 1.0},
    "all": {"angle": -23.0, "zoom": 1.2, "x": -0.11, "y": 0.07, "mirrored": 1.0},
    "all but mirror": {"angle": 9.0, "zoom": 1.05, "x": 0.2, "y": -0.03},
}


@pytest.fixture(scope="module")
def functional():
    """Imports torchvision's functions on tensors, or skips the test with the reason."""
    try:
        vision.torchvision()
    except MissingPackage as error:
        pytest.skip(f"torchvision does not import: {error}")
    return importlib.import_module("torchvision.transforms.v2.functional")


def theirs(functional, pixels, *, flip, angle=0.0, zoom=1.0, x=0.0, y=0.0, mirrored=0.0):
    """Applies the same transform with torchvision: degrees clockwise, pixels, mirror first."""
    if mirrored:
        pixels = functional.vertical_flip(pixels) if flip == "ud" else functional.hflip(pixels)
    side = pixels.shape[-1]
    return functional.affine(
        pixels,
        angle=-angle,
        translate=[x * side, y * side],
        scale=zoom,
        shear=[0.0, 0.0],
        interpolation=functional.InterpolationMode.BILINEAR,
    )


def drawn(count, *, angle=0.0, zoom=1.0, x=0.0, y=0.0, mirrored=0.0):
    values = (math.radians(angle), zoom, x, y, mirrored)
    return Draws(*[np.full(count, value, dtype=np.float32) for value in values])


@pytest.mark.parametrize("side", [24, 31])
@pytest.mark.parametrize("flip", ["lr", "ud"])
@pytest.mark.parametrize("movement", MOVEMENTS.values(), ids=MOVEMENTS)
def test_every_movement_is_torchvisions(functional, movement, flip, side):
    """Rotation, zoom, shift and mirror, alone and combined, equal torchvision's per pixel."""
    values = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    pictures = torch.from_numpy(values)
    params = augment.Params(flip=flip, outside="mean")
    ours = augment.apply(pictures, drawn(3, **movement), params=params, mean=torch.zeros(3))
    expected = theirs(functional, augment.scale(pictures), flip=flip, **movement)

    assert (expected - ours).abs().max() <= TOLERANCE
    if movement:
        assert (augment.scale(pictures) - ours).abs().max() > 0.1


def test_each_picture_has_its_own_movement(functional):
    """The draws for four images transform each image as torchvision transforms it alone."""
    params = augment.Params(outside="mean")
    draws = augment.draw(params, 4, np.random.default_rng(5), side=32)
    pictures = torch.from_numpy(
        np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    )
    ours = augment.apply(pictures, draws, params=params, mean=torch.zeros(3))
    for row, picture in enumerate(augment.scale(pictures)):
        expected = theirs(
            functional,
            picture[None],
            flip="lr",
            angle=math.degrees(draws.angle[row]),
            zoom=float(draws.zoom[row]),
            x=float(draws.shift_x[row]),
            y=float(draws.shift_y[row]),
            mirrored=draws.mirrored[row],
        )

        assert (expected[0] - ours[row]).abs().max() <= TOLERANCE


def test_classifiers_by_name(functional):
    """Torchvision builds a network by its name, and the network runs with this torch."""
    network = (
        vision.torchvision().models.get_model("squeezenet1_1", weights=None, num_classes=4).eval()
    )
    with torch.no_grad():
        logits = network(torch.zeros(2, 3, 32, 32))

    assert (2, 4) == tuple(logits.shape)


def test_loads_in_a_fresh_process_without_a_word(functional):
    """Loading twice gives one module, without output and without a warning."""
    code = (
        "from train.backbone import vision\nassert vision.torchvision() is vision.torchvision()\n"
        "import torchvision.models"
    )
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_missing_torchvision_names_the_extra(monkeypatch):
    """Without torchvision the error names the package to install."""
    monkeypatch.setitem(sys.modules, "torchvision", None)

    with pytest.raises(MissingPackage, match=r"pip install -e .\.\[train\]"):
        vision.torchvision()
