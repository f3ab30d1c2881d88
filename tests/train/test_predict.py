"""Images of one's own: squared as `curation` does, named with a path, refused when bad."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from personae.errors import MissingInput
from train import backbone, predict, saved
from train.errors import BadImage
from train.tree import hierarchy

NETWORK = backbone.Params(width=0.125)


@pytest.fixture
def results_dir(tmp_path, make_classifier):
    """A folder with untrained runs `flat` and `tree`, seed 0."""
    trees = {"flat": hierarchy.flat(4), "tree": hierarchy.from_clusters([[0, 1], [2, 3]], 4)}
    for name, method in (("flat", "flat"), ("tree", "uppsala")):
        classifier = make_classifier(method, trees[name], network=NETWORK)
        facts = {
            "method": method,
            "labels": ["ann", "bea", "cem", "dua"],
            "side": 16,
            "mean": [0.3, 0.2, 0.3],
            "hierarchy": hierarchy.to_json(trees[name]),
            "params": {"augment": {}, "backbone": NETWORK.model_dump(mode="json"), method: {}},
        }
        saved.save(tmp_path / "results" / name / "0", classifier, facts)
    return tmp_path / "results"


def picture(path, *, size=(30, 20), colour="red", **options):
    Image.new("RGB", size, colour).save(path, **options)
    return path


def test_prints_labels_probabilities_and_path(results_dir, tmp_path):
    """One JSON line per image: best labels in order, and the way from the root to the leaf."""
    paths = [picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg", colour="blue")]
    out = io.StringIO()
    predict.run("tree", paths, seed=0, results_dir=results_dir, out=out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]

    assert [str(path) for path in paths] == [line["picture"] for line in lines]
    for line in lines:
        values = list(line["probabilities"].values())
        assert sorted(values, reverse=True) == values
        assert next(iter(line["probabilities"])) == line["label"]
        assert "root" == line["path"][0]
        assert line["label"] == line["path"][-1]
        assert line["label"] in line["cluster"]
        assert 3 == len(line["path"])
    flat = predict.run("flat", paths[:1], seed=0, results_dir=results_dir, out=io.StringIO())
    assert ["root", flat[0]["label"]] == flat[0]["path"]
    assert "cluster" not in flat[0]


def test_squares_with_the_border_colour(tmp_path):
    """The long side fits, the image is centred, and the margin has the border's mean colour."""
    inner = Image.new("RGB", (40, 20), (10, 200, 30))
    inner.paste((0, 0, 0), (10, 5, 30, 15))
    inner.save(tmp_path / "wide.png")
    pixels = predict.square(tmp_path / "wide.png", side=16)

    assert (16, 16, 3) == pixels.shape
    assert [10, 200, 30] == pixels[0, 0].tolist() == pixels[-1, -1].tolist()
    assert pixels[8, 8].max() < 20


def test_alpha_stands_on_white_and_exif_is_obeyed(tmp_path):
    """Transparency becomes white; an image marked as turned is turned upright."""
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    palette = Image.new("P", (8, 8), 0)
    palette.save(tmp_path / "palette.png", transparency=0)
    turned = Image.new("RGB", (16, 16), "white")
    turned.paste("black", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=100)

    assert 255 == predict.square(tmp_path / "clear.png", side=8).min()
    assert 255 == predict.square(tmp_path / "palette.png", side=8).min()
    pixels = predict.square(tmp_path / "turned.jpg", side=16)
    assert pixels[:6].min() > 200
    assert pixels[10:].max() < 50


def test_bad_pictures_are_named(results_dir, tmp_path):
    """Absent, empty, damaged, giant, animated and foreign files: each a clear refusal."""
    good = picture(tmp_path / "good.png").read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "torn.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.png").write_text("hello", encoding="utf-8")
    Image.new("1", (8000, 7000)).save(tmp_path / "giant.png")
    picture(tmp_path / "drawing.bmp")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    for name in (
        "absent.png",
        "empty.png",
        "torn.png",
        "text.png",
        "giant.png",
        "drawing.bmp",
        "moving.webp",
        ".",
    ):
        with pytest.raises(BadImage, match="cannot be predicted"):
            predict.run("flat", [tmp_path / name], seed=0, results_dir=results_dir)


def test_missing_run_names_its_file(tmp_path):
    """Without a trained run the message says which stage makes one."""
    with pytest.raises(MissingInput, match="Stage 'fit'"):
        predict.run("flat", [picture(tmp_path / "a.png")], seed=0, results_dir=tmp_path)


def test_agrees_with_the_classifier(results_dir, tmp_path):
    """The printed probabilities are the classifier's on the squared image."""
    path = picture(tmp_path / "a.png", size=(16, 16))
    line = predict.run("flat", [path], seed=0, results_dir=results_dir, out=io.StringIO())[0]
    classifier = saved.load(results_dir / "flat" / "0").classifier
    pixels = torch.from_numpy(predict.square(path, side=16).copy())[None]
    with torch.no_grad():
        rows = classifier.predict_proba(pixels.permute(0, 3, 1, 2).float() / 255)

    assert np.isclose(float(rows.max()), max(line["probabilities"].values()), atol=1e-5)
