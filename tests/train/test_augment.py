"""Augmentation: the identity, each transform alone, and independence of the batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from personae.errors import BadParams
from train.data import augment
from train.data.augment import Draws, Params

ZERO = torch.zeros(3)


def draws(count=1, *, angle=0.0, zoom=1.0, x=0.0, y=0.0, mirrored=0.0):
    """Returns the same transform for `count` images."""
    return Draws(
        *[np.full(count, value, dtype=np.float32) for value in (angle, zoom, x, y, mirrored)]
    )


def images(count=3, side=8, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(values)


def moved(pictures, movement, **options):
    return augment.apply(pictures, movement, params=Params(**options), mean=ZERO)


def test_no_movement_changes_nothing():
    """The identity transform returns the images minus the mean, channels first."""
    pictures, mean = images(), torch.tensor([0.1, 0.2, 0.3])
    result = augment.apply(pictures, draws(3), params=Params(), mean=mean)
    expected = pictures.permute(0, 3, 1, 2).float() / 255 - mean[:, None, None]

    assert torch.allclose(expected, result, atol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("flip", "axis"), [("lr", 3), ("ud", 2)])
def test_mirror_is_exact(flip, axis):
    """`flip` mirrors an image left-right or top-bottom."""
    pictures = images()

    assert torch.allclose(
        augment.scale(pictures).flip(axis),
        moved(pictures, draws(3, mirrored=1), flip=flip),
        atol=1e-5,
    )


def test_shift_moves_right_and_down():
    """A shift of a quarter moves 8-pixel images by two pixels and repeats the border."""
    pictures = images()
    plain = augment.scale(pictures)

    assert torch.allclose(plain[..., :-2], moved(pictures, draws(3, x=0.25))[..., 2:], atol=1e-5)
    assert torch.allclose(
        plain[..., :-2, :], moved(pictures, draws(3, y=0.25))[..., 2:, :], atol=1e-5
    )
    assert torch.allclose(plain[..., :1], moved(pictures, draws(3, x=0.25))[..., :1], atol=1e-5)


def test_quarter_turn_is_anticlockwise():
    """A rotation by 90 degrees equals numpy's rot90."""
    pictures = images()
    expected = torch.rot90(augment.scale(pictures), 1, dims=(2, 3))

    assert torch.allclose(expected, moved(pictures, draws(3, angle=math.pi / 2)), atol=1e-4)


def test_zoom_shows_the_middle():
    """A zoom of two shows the middle half of the image, enlarged."""
    pictures = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    pictures[:, 4:12, 4:12] = 255
    result = moved(pictures, draws(zoom=2.0))

    assert result[..., 1:-1, 1:-1].min() > 0.99


def test_outside_is_the_mean():
    """With `outside: mean`, pixels from outside the image are zero after centring."""
    result = moved(images(), draws(3, x=0.5), outside="mean")

    assert result[..., :3].abs().max() < 1e-6


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 11))
def test_batches_do_not_matter(seed, count, cut):
    """An epoch augmented in two batches equals the same epoch augmented in one batch."""
    pictures = images(count, seed=seed)
    drawn = augment.draw(Params(), count, np.random.default_rng(seed), side=8)
    cut = min(cut, count - 1)
    whole = moved(pictures, drawn)
    parts = [
        moved(pictures[:cut], drawn.at(np.arange(cut))),
        moved(pictures[cut:], drawn.at(np.arange(cut, count))),
    ]

    assert torch.allclose(whole, torch.cat(parts), atol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_draws_stay_in_their_ranges(seed):
    """Draws stay within the section's limits, and a longer epoch starts with the same draws."""
    params = Params()
    drawn = augment.draw(params, 50, np.random.default_rng(seed), side=8)
    longer = augment.draw(params, 70, np.random.default_rng(seed), side=8)

    assert np.abs(drawn.angle).max() <= math.radians(20) + 1e-6
    assert 1 <= drawn.zoom.min() <= drawn.zoom.max() <= 1.2 + 1e-6
    assert max(np.abs(drawn.shift_x).max(), np.abs(drawn.shift_y).max()) <= 0.2 + 1e-6
    assert set(np.unique(drawn.mirrored)) <= {0.0, 1.0}
    assert (drawn.angle == longer.angle[:50]).all()
    assert not augment.draw(
        Params(flip="none"), 50, np.random.default_rng(seed), side=8
    ).mirrored.any()


PADDING = {"reflect": "reflect", "border": "edge", "grey": "constant", "black": "constant"}


@given(
    outside=st.sampled_from(sorted(PADDING)),
    flip=st.sampled_from(["lr", "ud", "none"]),
    crop=st.sampled_from([None, 6, 8]),
    pad=st.sampled_from([2, 9, 30]),
    seed=st.integers(0, 5),
)
def test_crops_equal_cutting_out_of_the_padded_picture(outside, flip, crop, pad, seed):
    """Every pixel equals numpy's pad, slice and flip with the same draws, however wide the padding."""
    params = Params(rotation=0, zoom=1, shift=0, pad=pad, crop=crop, outside=outside, flip=flip)
    pictures = images(16)
    drawn = augment.draw(params, 16, np.random.default_rng(seed), side=8)
    level = {"grey": 0.5}.get(outside, 0.0)
    options = {"constant_values": level} if PADDING[outside] == "constant" else {}
    side, result = crop or 8, augment.apply(pictures, drawn, params=params, mean=ZERO)

    assert (16, 3, side, side) == tuple(result.shape)
    for place, picture in enumerate(augment.scale(pictures).numpy()):
        padded = np.pad(picture, ((0, 0), (pad, pad), (pad, pad)), PADDING[outside], **options)
        top, left = int(drawn.shift_y[place]) + pad, int(drawn.shift_x[place]) + pad
        expected = padded[:, top : top + side, left : left + side]
        if drawn.mirrored[place]:
            expected = np.flip(expected, 1 if flip == "ud" else 2)
        assert np.array_equal(expected, result[place].numpy())


def test_crops_reach_every_place_equally():
    """With 4 pixels of padding around 32, the nine shifts per axis are equally frequent."""
    params = Params(rotation=0, zoom=1, shift=0, pad=4)
    drawn = augment.draw(params, 9000, np.random.default_rng(0), side=32)

    assert [*range(-4, 5)] == sorted(set(drawn.shift_x.tolist()))
    assert np.bincount(drawn.shift_y.astype(int) + 4).min() > 880
    hdcnn = Params(rotation=0, zoom=1, shift=0, crop=26)
    places = augment.draw(hdcnn, 9000, np.random.default_rng(0), side=32).shift_x
    assert [*range(7)] == sorted(set(places.tolist()))


def test_mean_outside_reads_as_zero():
    """With `outside: mean`, pixels outside the image are zero after the mean is subtracted."""
    params = Params(rotation=0, zoom=1, shift=0, pad=3, outside="mean", flip="none")
    result = augment.apply(
        images(1), draws(x=-3.0, y=0.0), params=params, mean=torch.full((3,), 0.4)
    )

    assert not result[..., :3].any()
    assert result[..., 3:].abs().min() > 0


def test_grey_outside_an_affine_map():
    """With HierNet's bilinear translation, pixels from outside the image are grey."""
    params = Params(rotation=0, zoom=1, shift=0.125, outside="grey", flip="none")
    mean = torch.tensor([0.1, 0.2, 0.3])
    result = augment.apply(images(1), draws(x=0.25), params=params, mean=mean)

    expected = (0.5 - mean)[:, None, None].expand(3, 8, 2)
    assert torch.allclose(expected, result[0, :, :, :2], atol=1e-6)


def test_middle_of_larger_pictures():
    """Evaluation crops the middle 26 of 32 pixels; images of the right size stay the same."""
    x = torch.arange(32.0).expand(1, 1, 32, 32)

    assert [3.0, 28.0] == augment.middle(x, 26)[0, 0, 0, [0, -1]].tolist()
    assert augment.middle(x, 32) is x


def test_crops_exclude_the_affine_map():
    """Crops with an affine map are refused, and so is a crop larger than the padded image."""
    with pytest.raises(ValueError, match="exclude rotation, zoom, shift"):
        Params(pad=4)
    wide = Params(rotation=0, zoom=1, shift=0, crop=40)
    with pytest.raises(BadParams, match=r"augment\.crop is 40, and the images have 32"):
        augment.draw(wide, 3, np.random.default_rng(0), side=32)
