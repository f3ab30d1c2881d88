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


def _open_all(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(e => e.open = true)")


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
        "return [...document.querySelectorAll('section h2')]"
        ".map(e => [e.textContent, e.getClientRects().length, e.checkVisibility()])"
    )
    broken = browser.execute_script(
        "return [...document.querySelectorAll('nav a')]"
        ".filter(a => !document.querySelector(a.getAttribute('href'))).length"
    )

    assert 16 == len(headings)
    assert [name for name, boxes, visible in headings if not (boxes and visible)] == []
    assert 0 == broken


def test_every_picture_is_drawn(browser, page_path):
    """Each image is decoded, and each figure of an open section has a size and text."""
    _open(browser, page_path)
    _open_all(browser)
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
    _open_all(browser)
    widest = browser.execute_script("return document.documentElement.scrollWidth")

    assert width == widest


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, page_path, tmp_path, width, scheme):
    """In both schemes text, muted text and figures have the contrast of WCAG AA."""
    _open(browser, page_path, width=width, scheme=scheme)
    _open_all(browser)
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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_accessibility_rules_find_nothing(browser, page_path, width, scheme):
    """axe-core has no finding on the page with every section open."""
    _open(browser, page_path, width=width, scheme=scheme)
    _open_all(browser)

    assert {} == chromium.accessibility_findings(browser)


def test_letters_of_figures_have_eleven_pixels(browser, page_path):
    """No text of a figure is smaller than 11 pixels on a phone either."""
    _open(browser, page_path, width=390)
    _open_all(browser)
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('.drawing svg')].flatMap(svg => "
        "[...svg.querySelectorAll('text')].map(e => parseFloat(getComputedStyle(e).fontSize)"
        " * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)))"
    )

    assert smallest >= 11


def test_page_is_short_until_sections_are_opened(browser, page_path):
    """Most sections are one line at first; a link in the contents opens its section."""
    _open(browser, page_path)
    folded = (
        "return [...document.querySelectorAll('section > details')].filter(e => !e.open).length"
    )
    assert 14 == browser.execute_script(folded)
    browser.execute_script("document.querySelector('nav a[href=\"#mosaic\"]').click()")
    assert 13 == browser.execute_script(folded)
    top = browser.execute_script(
        "return document.querySelector('#mosaic').getBoundingClientRect().top"
    )
    assert 0 <= top < 900
    toggle = browser.find_element("css selector", "#tools > button")
    toggle.click()
    assert 0 == browser.execute_script(folded)
    toggle.click()
    assert 14 == browser.execute_script(folded)


def test_table_is_sorted_by_a_click(browser, page_path):
    """A click on a heading sorts by its numbers, a second one turns the order round."""
    _open(browser, page_path)
    values = (
        "return [...document.querySelectorAll('#results table')[0].tBodies[0].rows]"
        ".map(row => Number(row.cells[2].textContent.split(' ')[0]))"
    )
    before = browser.execute_script(values)
    heading = browser.find_elements("css selector", "#results table")[0].find_elements(
        "css selector", "thead button"
    )[2]
    heading.click()
    rising = browser.execute_script(values)
    heading.click()

    assert sorted(before) == rising != before[::-1]
    assert rising[::-1] == browser.execute_script(values)


def test_run_is_hidden_and_shown(browser, page_path):
    """A box hides every row and figure of one run, and shows them again."""
    _open(browser, page_path)
    _open_all(browser)
    seen = (
        "return [[...document.querySelectorAll('tbody th')].filter(e => "
        "/^uppsala( \\(|$)/.test(e.textContent.trim()) && e.checkVisibility()).length,"
        " document.getElementById('figure-curves-uppsala').checkVisibility(),"
        " [...document.querySelectorAll('tbody th')].filter(e => "
        "e.textContent.trim() === 'uppsala_random' && e.checkVisibility()).length]"
    )
    rows, is_drawn, others = browser.execute_script(seen)
    box = browser.find_element("css selector", "#tools input[value=uppsala]")
    box.click()

    assert rows > 3
    assert is_drawn
    assert others > 0
    assert [0, False, others] == browser.execute_script(seen)
    box.click()
    assert [rows, True, others] == browser.execute_script(seen)


def test_figure_and_image_are_enlarged(browser, page_path):
    """A button shows a figure in a dialog, a click on an image the image; Escape closes it."""
    _open(browser, page_path)
    _open_all(browser)
    width = "return document.querySelector('#enlarged > div > *').getBoundingClientRect().width"
    is_open = "return document.getElementById('enlarged').open"
    for chosen in ("#figure-cost button", "button.tile"):
        browser.find_element("css selector", chosen).click()
        assert browser.execute_script(is_open)
        assert browser.execute_script(width) > 600
        browser.switch_to.active_element.send_keys("\ue00c")  # Escape
        assert not browser.execute_script(is_open)


def test_cell_of_a_confusion_is_a_link(browser, page_path):
    """The element at the middle of the first cell is the link to its images."""
    _open(browser, page_path)
    _open_all(browser)
    href, is_hit = browser.execute_script(
        "const link = document.querySelector('#figure-confusion .canvas a');"
        "link.scrollIntoView({block: 'center'});"
        "const box = link.getBoundingClientRect();"
        "const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);"
        "return [link.href, hit === link]"
    )

    assert is_hit
    assert href.startswith("http://127.0.0.1:8423/?run=flat&split=test&true=")


def test_page_is_readable_without_its_script(browser, page_path):
    """Without scripts the sections open by a click, and no button is there that does nothing."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        _open(browser, page_path)
        fold = browser.find_element("css selector", "section > details > summary")
        fold.click()
        text = browser.find_element("css selector", "section > details[open] > div").text
        buttons = browser.find_elements("css selector", "main button, #tools button")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert len(text) > 100
    assert [] == buttons


def _luminance(colour):
    channels = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
