"""The report in a browser: it opens offline, shows all content, and fits screen and phone."""

import base64
import json

import pytest

from tests import chromium
from tests.train.report_fixture import LABELS, arguments, write
from train import report

pytest.importorskip("selenium", reason="selenium is not installed")

WIDTHS = (1280, 390)

pytestmark = chromium.MARKS


@pytest.fixture(scope="module")
def page_path(tmp_path_factory):
    """Writes the page of the fake results."""
    folder = write(tmp_path_factory.mktemp("browser"), seeds=(0,), each=8)
    report.run(**arguments(folder))
    return folder.report_dir / "index.html"


@pytest.fixture(scope="module")
def browser():
    """Starts one Chromium with a network log for all tests of this file."""
    with chromium.started() as driver:
        yield driver


def _open(browser, path, *, width=1280, scheme="light"):
    chromium.show_as(browser, width=width, scheme=scheme)
    browser.get(path.as_uri())


def _screenshot(browser, path):
    size = browser.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    path.write_bytes(base64.b64decode(shot["data"]))


def test_opens_without_a_request_or_an_error(browser, page_path):
    """The page requests only its own file, and the console stays empty."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    _open(browser, page_path)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }

    assert {page_path.as_uri()} == {url for url in asked if not url.startswith("data:")}
    assert [] == browser.get_log("browser")


def test_every_heading_is_visible(browser, page_path):
    """Each section's heading has a size, and each entry of the contents leads to a section."""
    _open(browser, page_path)
    headings = browser.execute_script(
        "return [...document.querySelectorAll('section > h2')]"
        ".map(e => [e.textContent, e.getClientRects().length, e.checkVisibility()])"
    )
    broken = browser.execute_script(
        "return [...document.querySelectorAll('nav a')]"
        ".filter(a => !document.querySelector(a.getAttribute('href'))).length"
    )

    assert 14 == len(headings)
    assert [name for name, boxes, visible in headings if not (boxes and visible)] == []
    assert 0 == broken


def test_every_picture_is_drawn(browser, page_path):
    """Each image is decoded, and each figure has a size and text."""
    _open(browser, page_path)
    sizes = browser.execute_script(
        "return [...document.images].map(e => e.complete && e.naturalWidth * e.naturalHeight)"
    )
    figures = browser.execute_script(
        "return [...document.querySelectorAll('.drawing svg')]"
        ".map(e => Math.min(e.clientWidth, e.clientHeight, e.querySelectorAll('text').length))"
    )

    assert 4 * len(LABELS) == len(sizes)
    assert min(sizes) > 0
    assert min(figures) > 0


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out(browser, page_path, width):
    """The page never scrolls sideways; wide content scrolls in its own box."""
    _open(browser, page_path, width=width)
    widest = browser.execute_script("return document.documentElement.scrollWidth")

    assert width == widest


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, page_path, tmp_path, width, scheme):
    """In both schemes text, muted text and figures have the contrast of WCAG AA."""
    _open(browser, page_path, width=width, scheme=scheme)
    _screenshot(browser, tmp_path / f"{scheme}-{width}.png")
    colours = browser.execute_script(
        "const style = name => getComputedStyle(document.querySelector(name));"
        "return [style('section').backgroundColor, style('section p').color,"
        " style('figcaption').color, style('summary').color,"
        " style('.drawing svg text').fill, style('.sentence strong').color]"
    )
    ground, *inks = [_luminance(colour) for colour in colours]
    ratios = [(max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) for ink in inks]

    assert (tmp_path / f"{scheme}-{width}.png").stat().st_size > 10_000
    assert (ground > 0.5) is (scheme == "light")
    assert min(ratios) >= 4.5


def _luminance(colour):
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
