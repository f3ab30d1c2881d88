"""Tests the prediction page: its answers over real HTTP, its refusals, its neighbours, and the page itself."""

import http.client
import io
import json
import shutil
import threading
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from personae import squares
from personae.local_page import UPLOAD
from tests import chromium
from tests.train.test_evaluate import places, settings, write_clusters
from train import fit, predict, saved
from train.__main__ import main
from train.data import images
from train.serve import server
from train.serve.neighbours import _spread


@pytest.fixture(scope="module")
def trained(shard_writer, tmp_path_factory):
    """Trains flat and a tree of two clusters on tiny shards; returns the folder."""
    folder = tmp_path_factory.mktemp("serve")
    write_shards, _ = shard_writer
    write_shards(folder / "data" / "shards", {"train": 6, "val": 4, "test": 4})
    fit.run(settings("flat"), name="flat", seed=0, **places(folder))
    write_clusters(folder)
    fit.run(settings("uppsala", grouping="given"), name="tree", seed=0, **places(folder))
    return folder


@pytest.fixture(scope="module")
def site(trained):
    """Serves the tree; returns the server."""
    page = server.opened("tree", seed=0, **places(trained))
    with server.PredictionServer(page, 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def drawing():
    """Draws an image that is wider than high."""
    return png(np.random.default_rng(5).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def request(site, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", site.server_address[1], timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def sent(site, body, **headers):
    kind = {"Content-Type": UPLOAD} | headers
    status, _, answer = request(site, "POST", "/api/predict", body, **kind)
    return status, json.loads(answer)


@pytest.mark.parametrize("background", ["border", "white"])
def test_margin_of_an_image_is_that_of_the_shards(background, tiny_shards, tmp_path, drawing):
    """Command and page square an image as stage `measure` did for the run's training images."""
    path = tiny_shards / "manifest.json"
    manifest = json.loads(path.read_text())
    if background == "white":
        manifest["image"]["background"] = background
    path.write_text(json.dumps(manifest))
    folder = fit.run(settings("flat"), name="flat", seed=0, **places(tmp_path))
    model = saved.load(folder)
    expected = squares.square(drawing, side=16, background=background, max_pixels=10_000)
    (tmp_path / "drawing.png").write_bytes(drawing)
    (line,) = predict.predict(model, [tmp_path / "drawing.png"], top=4)
    page = server.opened("flat", seed=0, **places(tmp_path))
    answer = json.loads(page.post("/api/predict", drawing).body)
    rows = predict.probabilities(model, [expected])[0]

    assert sorted(rows.tolist(), reverse=True) == pytest.approx(line.probabilities, abs=1e-6)
    assert answer["probabilities"] == line.to_json()["probabilities"]
    assert ("background" in model.model.facts()) == (background == "white")


def test_prediction_is_that_of_the_command(site, trained, drawing, tmp_path):
    """Labels, probabilities and path are those of `predict`; the nearest samples come in order."""
    (tmp_path / "drawing.png").write_bytes(drawing)
    model = saved.load(trained / "results" / "tree" / "0")
    expected = predict.predict(model, [tmp_path / "drawing.png"], top=4)[0].to_json()
    status, answer = sent(site, drawing)
    distances = [each["distance"] for each in answer["neighbours"]]

    assert 200 == status
    assert all(expected[key] == answer[key] for key in ("label", "probabilities", "path"))
    assert 8 == len(distances)
    assert distances == sorted(distances)
    status, kind, sample = request(site, "GET", f"/samples/{answer['neighbours'][0]['row']}")
    assert (200, "image/png") == (status, kind)
    assert (16, 16) == Image.open(io.BytesIO(sample)).size


def test_training_sample_is_its_own_nearest(site, trained):
    """An image of the training split has distance 0 to itself."""
    near = site.get.__self__._neighbours
    pixels = near.images.batch(np.array([3])).numpy()[0]
    _, answer = sent(site, png(pixels))

    assert 0 == pytest.approx(answer["neighbours"][0]["distance"], abs=1e-3)
    assert str(near.images.post_ids[3]) in [each["post_id"] for each in answer["neighbours"][:3]]


@pytest.mark.parametrize("data", [{"share": 0.5}, {"train_on_val": True}])
def test_neighbours_are_images_that_the_run_was_trained_on(data, tiny_shards, tmp_path):
    """They are those of the share, and of the validation split where it is trained on."""
    chosen = replace(settings("flat"), data=images.Params(batch_size=16, **data))
    fit.run(chosen, name="flat", seed=0, **places(tmp_path))
    opened = images.open_data(tiny_shards, tmp_path / "work" / "cache", params=chosen.data)
    page = server.opened("flat", seed=0, **places(tmp_path))

    assert set(opened.train.post_ids.tolist()) == set(page._neighbours.images.post_ids.tolist())


def test_neighbours_are_spread_over_the_labels():
    """Of few samples each label has as many, up to one."""
    labels = np.array([0] * 50 + [1] * 3 + [2] * 50)
    chosen = labels[_spread(labels, most=23)]

    assert [10, 3, 10] == np.bincount(chosen).tolist()
    assert 103 == len(_spread(labels, most=500))


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"no image", {}, 422, "cannot be read"),
        (b"", {}, 422, "cannot be read"),
        (b"x", {"Content-Type": "text/plain"}, 415, "Send the bytes"),
        (b"x", {"Origin": "http://evil.example"}, 403, "Only the page itself"),
        (b"x", {"Host": "evil.example"}, 403, "to this machine only"),
        (b"x", {"Content-Length": str(10**12)}, 413, "more than"),
        (b"x", {"Content-Length": "x"}, 411, "Content-Length"),
    ],
)
def test_bad_requests_are_refused(site, body, headers, status, message):
    """What is no image, comes from elsewhere or is too large has an error that says so."""
    code, answer = sent(site, body, **headers)

    assert status == code
    assert message in answer["error"]


@pytest.mark.parametrize("path", ["/samples/9999999", "/samples/-1", "/../secret", "/api/none"])
def test_other_addresses_do_not_exist(site, path):
    """Only the files of the page, the run and its samples have an address."""
    assert 404 == request(site, "GET", path)[0]
    assert 404 == request(site, "POST", path, b"x", **{"Content-Type": UPLOAD})[0]


def test_page_works_without_the_shards(trained, drawing, tmp_path):
    """Without shards, or with others, the page predicts and says why there are no neighbours."""
    shutil.copytree(trained / "results", tmp_path / "results")
    page = server.opened("flat", seed=0, **places(tmp_path))
    run = json.loads(page.get("/api/run").body)

    assert (0, "The shards are not here.") == (run["samples"], run["without"])
    assert [] == json.loads(page.post("/api/predict", drawing).body)["neighbours"]
    assert 404 == page.get("/samples/0").status


def test_missing_run_is_exit_5(trained, capsys):
    """A run that was not trained ends the command before a page opens."""
    folders = ("--data", str(trained / "data"), "--results", str(trained / "results"))

    assert 5 == main(["serve", "absent", "--port", "0", *folders])
    assert "error: " in capsys.readouterr().err


@pytest.mark.browser
@pytest.mark.skipif(
    not (chromium.CHROMIUM and chromium.DRIVER), reason="chromium or chromedriver is absent"
)
def test_dropped_image_is_predicted_in_the_browser(site, drawing, tmp_path):
    """A chosen and a dropped image show label, path, bars and samples; axe-core finds nothing."""
    (tmp_path / "drawing.png").write_bytes(drawing)
    _, answer = sent(site, drawing)
    drop = (
        "const bytes = Uint8Array.from(arguments[0]), data = new DataTransfer();"
        "data.items.add(new File([bytes], arguments[1], {type: 'image/png'}));"
        "document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}));"
    )
    with chromium.started() as browser:
        browser.get(site.address)

        def wait(condition):
            script = (
                "const done = arguments[0], look = () => "
                f"({condition}) ? done(true) : setTimeout(look, 20); look();"
            )
            browser.set_script_timeout(30)
            assert browser.execute_async_script(script)

        browser.find_element("id", "file").send_keys(str(tmp_path / "drawing.png"))
        wait("!document.getElementById('result').hidden")
        wait("[...document.images].every((image) => image.complete && image.naturalWidth)")
        text = browser.execute_script("return document.body.innerText")
        asked = {
            urlsplit(entry["name"]).hostname
            for entry in browser.execute_script(
                "return performance.getEntriesByType('resource').map(({name}) => ({name}))"
            )
        }
        findings = {}
        for scheme in ("light", "dark"):
            chromium.show_as(browser, width=390, scheme=scheme)
            findings |= chromium.accessibility_findings(browser)
        browser.execute_script(drop, list(b"no image"), "broken.png")
        wait("document.getElementById('status').classList.contains('error')")
        refusal = browser.execute_script("return document.getElementById('status').innerText")
        hidden = browser.execute_script("return document.getElementById('result').hidden")
        browser.execute_script(drop, list(drawing), "again.png")
        wait("!document.getElementById('result').hidden")

    assert f"{answer['label']}: " in text
    assert "root 100.0 %" in text
    assert "Nearest training samples" in text
    assert {"127.0.0.1"} == asked - {None}
    assert {} == findings
    assert "cannot be read" in refusal
    assert hidden
