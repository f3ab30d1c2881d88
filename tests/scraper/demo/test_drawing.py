"""Tests the drawings: determinism, difficulty for a classifier, saturation, white backgrounds."""

import itertools
import random

import numpy as np
import pdqhash
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from scraper.demo.facts.personae import MAJOR, MINOR, PERSONAE, Persona
from scraper.demo.painter import accessory, hair, outfit
from scraper.demo.painter.drawing import EDITS, GROUNDS, KINDS, STYLES, draw, edit

_TRAIN, _TEST = 75, 50


def _portrait(persona: Persona, seed: int, **changes) -> Image.Image:
    rng = random.Random(f"{persona.name}/{seed}")
    width, height = rng.choice(((300, 400), (400, 300), (360, 360)))
    given = {"ground": rng.choice(GROUNDS), "style": rng.choice(STYLES), **changes}
    return draw([persona], kind="portrait", seed=seed, width=width, height=height, **given)


def _saturation(image: Image.Image) -> float:
    pixels = np.asarray(image.convert("HSV"))[..., 1] / 255
    return float(np.percentile(pixels, 95))


def _frame_whiteness(image: Image.Image) -> float:
    pixels = np.asarray(image)
    edge = max(1, round(0.02 * min(image.size)))
    inside = np.zeros(pixels.shape[:2], bool)
    inside[edge:-edge, edge:-edge] = True
    return float((pixels >= 245).all(axis=2)[~inside].mean())


def _distance(first_image: Image.Image, second_image: Image.Image) -> int:
    first, second = (pdqhash.compute(np.asarray(image))[0] for image in (first_image, second_image))
    return int((first != second).sum())


def _thumbnail(image: Image.Image) -> np.ndarray:
    image.thumbnail((48, 48), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    square = Image.new("RGB", (48, 48), tuple(int(part) for part in rim.mean(axis=0)))
    square.paste(image, ((48 - image.width) // 2, (48 - image.height) // 2))
    cells = np.asarray(square, dtype=np.float64).reshape(8, 6, 8, 6, 3).mean(axis=(1, 3)) / 255
    return np.concatenate([cells.mean(axis=(0, 1)), cells.ravel()])


@pytest.mark.parametrize("kind", KINDS)
def test_same_arguments_give_same_bytes(kind):
    """The same arguments give the same bytes, for every kind of image."""
    given = {"kind": kind, "ground": "patterned", "style": "painted", "width": 320, "height": 260}

    first, second, other = (draw(MAJOR[:3], seed=seed, **given) for seed in (7, 7, 8))

    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


@settings(max_examples=40)
@given(
    who=st.sampled_from(PERSONAE),
    kind=st.sampled_from(KINDS),
    ground=st.sampled_from(GROUNDS),
    style=st.sampled_from(STYLES),
    seed=st.integers(0, 2**63),
    width=st.integers(40, 500),
    height=st.integers(40, 500),
    monochrome=st.booleans(),
)
def test_any_arguments_draw_an_image_of_the_requested_size(who, kind, width, height, **given):
    """Every combination of arguments draws an RGB image of the requested size."""
    image = draw([who, MAJOR[0]], kind=kind, width=width, height=height, **given)

    assert (width, height) == image.size
    assert "RGB" == image.mode


def test_linear_classifier_on_colour_and_thumbnail_stays_under_half():
    """A linear classifier of mean colour and an 8×8 thumbnail beats chance but stays under 50 %."""
    features = np.stack(
        [_thumbnail(_portrait(who, seed)) for who in MAJOR for seed in range(_TRAIN + _TEST)]
    ).reshape(len(MAJOR), _TRAIN + _TEST, -1)
    train = features[:, :_TRAIN].reshape(len(MAJOR) * _TRAIN, -1)
    test = features[:, _TRAIN:].reshape(len(MAJOR) * _TEST, -1)
    scaler = StandardScaler().fit(train)
    leaves = np.arange(len(MAJOR))

    accuracies = []
    for strength in (0.01, 0.05, 0.2):
        model = LogisticRegression(C=strength, max_iter=1000)
        with threadpool_limits(1):  # a small fit is faster with one thread
            model.fit(scaler.transform(train), np.repeat(leaves, _TRAIN))
        accuracies.append(model.score(scaler.transform(test), np.repeat(leaves, _TEST)))

    # Measured accuracy: 0.39, and 0.42 with twice the images. The limit 0.45 stays below 0.5.
    assert 0.45 > max(accuracies)
    assert 2 / len(MAJOR) < max(accuracies)


def test_monochrome_images_have_no_saturation_and_others_have():
    """Monochrome images have a saturation under 0.05; 97 % of the others exceed 0.15."""
    grey = [
        draw(
            MAJOR[seed % 12 : seed % 12 + 1],
            kind=KINDS[seed % len(KINDS)],
            ground=GROUNDS[seed % len(GROUNDS)],
            style=STYLES[seed // 4 % len(STYLES)],
            seed=seed,
            width=300,
            height=300,
            monochrome=True,
        )
        for seed in range(60)
    ]
    coloured = [_saturation(_portrait(MAJOR[seed % 12], seed)) for seed in range(240)]

    assert 0.05 > max(_saturation(image) for image in grey)
    assert 0.97 <= np.mean([saturation > 0.15 for saturation in coloured])


def test_white_grounds_are_white_where_the_figure_is_not():
    """A white background keeps all channels at 245 or more, with paper grain too."""
    for seed, style in itertools.product(range(30), STYLES):
        pixels = np.asarray(_portrait(MAJOR[seed % 12], seed, ground="white", style=style))

        assert (pixels >= 245).all(axis=2).mean() > 0.02

    shares = [
        _frame_whiteness(_portrait(MAJOR[seed % 12], seed, ground="white")) for seed in range(120)
    ]

    assert 0.4 <= np.mean([share >= 0.90 for share in shares])


def test_other_grounds_are_seldom_white():
    """At most 2 % of the other backgrounds have a white border."""
    shares = [
        _frame_whiteness(_portrait(MAJOR[seed % 12], seed, ground=GROUNDS[1 + seed % 3]))
        for seed in range(120)
    ]

    assert 0.02 >= np.mean([share >= 0.90 for share in shares])


@pytest.mark.parametrize("kind", EDITS)
def test_edits_stay_near_duplicates(kind):
    """
    At least 95 % of the edited images stay within 31 bits of the perceptual hash, 90 % for crops.

    A crop changes the hash most: 56 of 60 crops stay within 31 bits, and all other edits do.
    """
    distances = []
    for seed in range(60):
        image = _portrait(MAJOR[seed % 12], seed)
        distances.append(_distance(image, edit(image, kind=kind, seed=seed)))

    assert (0.9 if kind == "crop" else 0.95) <= np.mean([distance <= 31 for distance in distances])


def test_drawings_of_one_persona_are_no_near_duplicates():
    """99 % of the pairs of drawings of a persona differ in more than 60 bits of the hash."""
    distances = []
    for who in MAJOR:
        hashes = [
            pdqhash.compute(np.asarray(_portrait(who, seed, ground="white")))[0]
            for seed in range(25)
        ]
        distances += [int((a != b).sum()) for a, b in itertools.combinations(hashes, 2)]

    assert 0.99 <= np.mean([distance > 60 for distance in distances])
    assert 31 < min(distances)


def test_cast_has_four_families_of_three_with_a_pair_each():
    """The twelve major personae form four families of three, with one look-alike pair each."""
    families = {
        who.family: [other for other in MAJOR if other.family == who.family] for who in MAJOR
    }
    names = {who.name: who for who in PERSONAE}

    assert 12 == len(MAJOR)
    assert 3 == len(MINOR)
    assert [3, 3, 3, 3] == [len(members) for members in families.values()]
    for members in families.values():
        pair = [who for who in members if who.look_alike is not None]
        assert [pair[1].name, pair[0].name] == [who.look_alike for who in pair]
    assert 2 == sum(who.base is not None and names[who.base].family == who.family for who in MAJOR)


def test_every_feature_is_one_that_the_pen_knows():
    """Every shape, cut and accessory of a persona has a drawing function."""
    for who in PERSONAE:
        assert {who.hair, who.other_hair} <= set(hair.BACKS)
        assert who.bangs in hair.BANGS
        assert who.outfit in outfit.OUTFITS
        assert who.accessory in accessory.WORN | accessory.CARRIED


def test_no_tag_gives_a_family_away():
    """Every copyright spans at least three families, and every family at least two copyrights."""
    for field, other, least in (("copyright", "family", 3), ("family", "copyright", 2)):
        for value in {getattr(who, field) for who in MAJOR}:
            met = {getattr(who, other) for who in MAJOR if getattr(who, field) == value}
            assert least <= len(met)
