"""Predictions for the user's images: squaring as in `curation`, paths, refusals."""

import csv
import io
import json
import math
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from personae.errors import BadDocument, BadParams, MissingInput
from train import backbone, predict, saved
from train.__main__ import main
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


@pytest.fixture
def predicted(results_dir):
    """Predicts with a run and returns the printed JSON lines: `predicted("tree", paths)`."""

    def lines(name, paths, **options):
        out = io.StringIO()
        predict.run(name, paths, seed=0, results_dir=results_dir, out=out, **options)
        return [json.loads(line) for line in out.getvalue().splitlines()]

    return lines


def test_prints_labels_probabilities_and_path(predicted, tmp_path):
    """Each image gives one JSON line: best labels in order, and the path from root to leaf."""
    paths = [picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg", colour="blue")]
    lines = predicted("tree", paths)

    assert [str(path) for path in paths] == [line["image"] for line in lines]
    for line in lines:
        values = list(line["probabilities"].values())
        assert sorted(values, reverse=True) == values
        assert next(iter(line["probabilities"])) == line["label"]
        assert ["root", line["label"]] == [line["path"][0]["node"], line["path"][-1]["node"]]
        assert 3 == len(line["path"])
    (flat,) = predicted("flat", paths[:1])
    assert ["root", flat["label"]] == [entry["node"] for entry in flat["path"]]


@pytest.mark.parametrize("method", ["uppsala", "hdcnn", "merged"])
def test_probabilities_agree_along_the_path(
    method, results_dir, tmp_path, make_classifier, model_of
):
    """A node has the sum of its labels: one at the root, never less above, the label's at the end."""
    tree = hierarchy.from_clusters([[0, 1], [2, 3]], 4)
    classifier = make_classifier(method, tree, network=NETWORK)
    saved.save(results_dir / method / "0", classifier, model_of(method, tree, NETWORK))
    out = io.StringIO()
    paths = [picture(tmp_path / "a.png")]
    predict.run(method, paths, seed=0, results_dir=results_dir, out=out)
    line = json.loads(out.getvalue())
    shares = line["probabilities"]
    labels = list(model_of(method, tree).labels)
    cluster = labels[:2] if line["label"] in labels[:2] else labels[2:]
    root, middle, leaf = (entry["probability"] for entry in line["path"])

    assert math.isclose(1, root, abs_tol=1e-5)
    assert math.isclose(sum(shares[label] for label in cluster), middle, abs_tol=1e-5)
    assert shares[line["label"]] == leaf
    assert root + 1e-5 >= middle >= leaf


def test_folder_gives_its_images_by_content(predicted, tmp_path, caplog):
    """A folder gives the images in it and below it, whatever their names; other files are named."""
    folder = tmp_path / "mine"
    (folder / "inner").mkdir(parents=True)
    picture(folder / "b.png")
    picture(folder / "inner" / "a.png").rename(folder / "inner" / "no-suffix")
    for number in range(7):
        (folder / f"notes-{number}.gif").write_text("no image", encoding="utf-8")
    (folder / "._b.png").write_text("no image", encoding="utf-8")
    (folder / "loop").symlink_to(folder)
    with caplog.at_level("INFO"):
        lines = predicted("flat", [folder])

    assert [str(folder / "b.png"), str(folder / "inner" / "no-suffix")] == [
        line["image"] for line in lines
    ]
    assert f"passed over 8 of 10 files in {folder}, since only JPEG, PNG and WebP" in caplog.text
    assert "are read: ._b.png, notes-0.gif, " in caplog.text
    assert "notes-3.gif and 3 more" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInput, match="holds no JPEG, PNG or WebP"):
        predicted("flat", [tmp_path / "empty"])


def test_file_of_a_folder_that_is_named_like_an_image_has_its_error(results_dir, tmp_path):
    """An empty `zero.png` in a folder has an error of its own; it is not passed over."""
    folder = tmp_path / "mine"
    folder.mkdir()
    picture(folder / "b.png")
    (folder / "zero.png").touch()
    out = io.StringIO()
    with pytest.raises(BadImage, match=r"zero\.png cannot be predicted"):
        predict.run("flat", [folder], seed=0, results_dir=results_dir, out=out)

    good, bad = map(json.loads, out.getvalue().splitlines())
    assert "label" in good
    assert "zero.png cannot be predicted" in bad["error"]


def test_many_images_come_in_batches(predicted, tmp_path, monkeypatch):
    """Batches change neither order nor predictions."""
    paths = [
        picture(tmp_path / f"{shade}.png", colour=(shade, 9, 90)) for shade in range(0, 250, 50)
    ]
    whole = predicted("tree", paths)
    monkeypatch.setattr(predict, "_BATCH", 2)

    assert [line["image"] for line in whole] == [str(path) for path in paths]
    for line, other in zip(whole, predicted("tree", paths), strict=True):
        assert line["image"] == other["image"]
        assert pytest.approx(line["probabilities"], abs=1e-5) == other["probabilities"]


def test_one_bad_image_stops_no_other(results_dir, tmp_path):
    """A damaged image has an error in its place, and the others their predictions."""
    good, torn = picture(tmp_path / "good.png"), tmp_path / "torn.png"
    torn.write_bytes(good.read_bytes()[:40])
    out = io.StringIO()
    with pytest.raises(BadImage, match=r"2 of 3 images failed. The first: .*torn.png"):
        predict.run(
            "flat", [torn, good, tmp_path / "absent.png"], seed=0, results_dir=results_dir, out=out
        )
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())

    assert "truncated" in first["error"]
    assert "error" not in second
    assert "does not exist" in third["error"]


def test_tables_have_the_values_of_the_lines(results_dir, predicted, tmp_path):
    """CSV and Parquet hold the same predictions, one column for each rank and an empty error."""
    paths = [picture(tmp_path / "a.png"), tmp_path / "absent.png"]
    (line,) = predicted("tree", paths[:1])
    csv_text = io.StringIO()
    for options in ({"form": "csv"}, {"parquet": tmp_path / "out.parquet"}):
        with pytest.raises(BadImage, match=r"absent.png"):
            predict.run(
                "tree", paths, seed=0, results_dir=results_dir, top=2, out=csv_text, **options
            )
    first, second = csv.DictReader(io.StringIO(csv_text.getvalue()))
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()

    assert ["image", "label", "probability", "label_2", "probability_2", "path", "error"] == list(
        first
    )
    assert (line["label"], " > ".join(entry["node"] for entry in line["path"]), "") == (
        first["label"],
        first["path"],
        first["error"],
    )
    assert list(line["probabilities"])[:2] == [rows[0]["label"], rows[0]["label_2"]]
    assert list(line["probabilities"].values())[:2] == [
        rows[0]["probability"],
        rows[0]["probability_2"],
    ]
    assert rows[1]["label"] is None
    assert rows[1]["error"] == second["error"] != ""


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
        "empty.png",
        "torn.png",
        "text.png",
        "giant.png",
        "drawing.bmp",
        "moving.webp",
    ):
        with pytest.raises(BadImage, match="cannot be predicted"):
            predict.run("flat", [tmp_path / name], seed=0, results_dir=results_dir)
    with pytest.raises(BadImage, match=r"absent\.png does not exist\. Name an image file"):
        predict.run("flat", [tmp_path / "absent.png"], seed=0, results_dir=results_dir)


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

    out = io.StringIO()
    predict.run("flat", [path], seed=0, results_dir=results_dir, out=out)
    assert "label" in json.loads(out.getvalue())


def test_number_of_labels_is_checked(capsys):
    """No labels at all is wrong usage."""
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "flat", "a.png", "--top", "0"])
    assert "needs at least 1 label" in capsys.readouterr().err


def test_missing_run_names_its_file(results_dir, tmp_path):
    """Without a trained run the error names the stage that trains it, and the runs that there are."""
    with pytest.raises(MissingInput, match="stage 'flat'"):
        predict.run("flat", [picture(tmp_path / "a.png")], seed=0, results_dir=tmp_path)
    with pytest.raises(MissingInput, match=r"Trained are: flat \(seed 0\), tree \(seed 0\)"):
        predict.run("three", [tmp_path / "a.png"], seed=0, results_dir=results_dir)


def test_agrees_with_the_classifier(results_dir, predicted, tmp_path):
    """The printed probabilities equal those of the classifier for the squared image."""
    path = picture(tmp_path / "a.png", size=(16, 16))
    (line,) = predicted("flat", [path])
    classifier = saved.load(results_dir / "flat" / "0").classifier
    pixels = torch.from_numpy(predict.square(path, side=16).copy())[None]
    with torch.no_grad():
        rows = classifier.predict_proba(pixels.permute(0, 3, 1, 2).float() / 255)

    assert np.isclose(float(rows.max()), max(line["probabilities"].values()), atol=1e-5)
