"""Predictions for the user's images: squaring as in `curation`, paths, refusals."""

import io
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from personae.errors import BadDocument, BadParams, MissingInput
from train import backbone, predict, saved
from train.errors import BadCheckpoint, BadHierarchy, BadImage
from train.tree import hierarchy

NETWORK = backbone.Params(width=0.125)


@pytest.fixture
def results_dir(tmp_path, make_classifier, model_of):
    """Writes untrained runs `flat` and `tree` with seed 0 to a results folder."""
    trees = {"flat": hierarchy.flat(4), "tree": hierarchy.from_clusters([[0, 1], [2, 3]], 4)}
    for name, method in (("flat", "flat"), ("tree", "uppsala")):
        classifier = make_classifier(method, trees[name], network=NETWORK)
        model = model_of(method, trees[name], NETWORK)
        saved.save(tmp_path / "results" / name / "0", classifier, model)
    return tmp_path / "results"


def picture(path, *, size=(30, 20), colour="red", **options):
    Image.new("RGB", size, colour).save(path, **options)
    return path


def test_prints_labels_probabilities_and_path(results_dir, tmp_path):
    """Each image gives one JSON line: best labels in order, and the path from root to leaf."""
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
    """The long side fits, the image is centred, and the margin has the mean border colour."""
    inner = Image.new("RGB", (40, 20), (10, 200, 30))
    inner.paste((0, 0, 0), (10, 5, 30, 15))
    inner.save(tmp_path / "wide.png")
    pixels = predict.square(tmp_path / "wide.png", side=16)

    assert (16, 16, 3) == pixels.shape
    assert [10, 200, 30] == pixels[0, 0].tolist() == pixels[-1, -1].tolist()
    assert pixels[8, 8].max() < 20


def test_alpha_stands_on_white_and_exif_is_obeyed(tmp_path):
    """Transparency becomes white, and EXIF orientation is applied."""
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
    """Absent, empty, damaged, giant, animated and unsupported files are refused."""
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


def test_pipe_is_refused_without_waiting(results_dir, tmp_path):
    """A named pipe without a writer is refused at once, because opening it would block."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImage, match="it is no regular file"):
        predict.run("flat", [tmp_path / "pipe.png"], seed=0, results_dir=results_dir)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": 5}, BadDocument, "'labels' is"),
        ({"labels": [["ann"], "bea", "cem", "dua"]}, BadDocument, "'labels.0' is"),
        ({"labels": ["ann", "bea"]}, BadCheckpoint, "2 labels for 4 leaves"),
        ({"side": "wide"}, BadDocument, "'side' is"),
        ({"side": 1e300}, BadDocument, "'side' is"),
        ({"mean": [0.5]}, BadDocument, "'mean"),
        ({"hierarchy": {"nodes": 3, "edges": []}}, BadDocument, "'hierarchy.nodes' is"),
        ({"hierarchy": {"nodes": [], "edges": []}}, BadHierarchy, "describes no hierarchy"),
        ({"params": []}, BadDocument, "'params' is"),
        ({"params": {}}, BadCheckpoint, "no model of this version"),
        ({"method": "absent"}, BadParams, "'absent' is no method"),
        ({"version": 2}, BadDocument, "has version 2; this program reads version 1"),
        ({"unknown": 1}, BadDocument, "'unknown' is"),
    ],
)
def test_model_of_another_shape_is_refused(results_dir, tmp_path, change, error, message):
    """A model.json with a wrong field gives an error that names the field."""
    path = results_dir / "flat" / "0" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change), encoding="utf-8")
    with pytest.raises(error, match=message):
        predict.run("flat", [picture(tmp_path / "a.png")], seed=0, results_dir=results_dir)


def test_changed_weights_are_refused(results_dir, tmp_path):
    """One flipped bit in the weights is refused; a model.json without a hash is still read."""
    folder = results_dir / "flat" / "0"
    weights, path = folder / "weights.safetensors", picture(tmp_path / "a.png")
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BadCheckpoint, match="another SHA-256"):
        predict.run("flat", [path], seed=0, results_dir=results_dir)
    facts = json.loads((folder / "model.json").read_text())
    del facts["weights_sha256"], facts["version"]
    (folder / "model.json").write_text(json.dumps(facts), encoding="utf-8")

    assert predict.run("flat", [path], seed=0, results_dir=results_dir, out=io.StringIO())


def test_missing_run_names_its_file(tmp_path):
    """Without a trained run the error names the stage that trains it."""
    with pytest.raises(MissingInput, match="stage 'flat'"):
        predict.run("flat", [picture(tmp_path / "a.png")], seed=0, results_dir=tmp_path)


def test_agrees_with_the_classifier(results_dir, tmp_path):
    """The printed probabilities equal those of the classifier for the squared image."""
    path = picture(tmp_path / "a.png", size=(16, 16))
    line = predict.run("flat", [path], seed=0, results_dir=results_dir, out=io.StringIO())[0]
    classifier = saved.load(results_dir / "flat" / "0").classifier
    pixels = torch.from_numpy(predict.square(path, side=16).copy())[None]
    with torch.no_grad():
        rows = classifier.predict_proba(pixels.permute(0, 3, 1, 2).float() / 255)

    assert np.isclose(float(rows.max()), max(line["probabilities"].values()), atol=1e-5)
