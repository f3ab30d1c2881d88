"""Tests the browse page by clicking and typing in a real Chromium."""

import json
import threading

import pytest

from tests import chromium
from tests.curation.browse_fixture import edit_catalog, opened, samples, write_predictions

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from curation.browse import server

pytestmark = chromium.MARKS
PATIENCE_SECONDS = 30
HOSTILE = "<img src=/squares/1000 onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    """Starts one Chromium with its logs on for both tests."""
    with chromium.started() as driver:
        yield driver


@pytest.fixture
def site(curated):
    """Serves the small data folder, one tag and every source of it hostile; returns the server."""
    edit_catalog(
        curated.data_dir,
        f"UPDATE posts SET source = 'javascript:alert(1)', tags_meta = ['{HOSTILE}']",
    )
    with server.BrowseServer(opened(curated.data_dir), 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Page:
    """The page in the browser, as a person uses it."""

    def __init__(self, browser, site) -> None:
        self.browser, self.site = browser, site

    def open(self, query: str = "") -> None:
        self.browser.get(self.site.address + query)
        self.wait("grid.getAttribute('aria-busy') === 'false' && document.fonts.status")

    def wait(self, condition: str) -> None:
        """Waits for a condition in JavaScript, in which `grid` and `dialog` are known."""
        script = (
            "const grid = document.getElementById('grid'), dialog = document.getElementById('detail');"
            f"return Boolean({condition})"
        )
        WebDriverWait(self.browser, PATIENCE_SECONDS, poll_frequency=0.02).until(
            lambda driver: driver.execute_script(script), condition
        )

    def wait_for(self, text: str) -> None:
        """Waits for the line over the grid."""
        self.wait(f"document.getElementById('summary').textContent.includes({json.dumps(text)})")

    def press(self, *keys: str) -> None:
        ActionChains(self.browser).send_keys(*keys).perform()

    @property
    def posts(self) -> list[str]:
        return [
            link.get_attribute("data-post")
            for link in self.browser.find_elements(By.CSS_SELECTOR, "#grid a")
        ]

    @property
    def query(self) -> str:
        return self.browser.execute_script("return location.search")

    def choose(self, name: str, value: str) -> None:
        Select(self.browser.find_element(By.NAME, name)).select_by_value(value)


@pytest.fixture
def page(browser, site) -> Page:
    chromium.show_as(browser)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    return Page(browser, site)


def test_keys_lead_from_a_filter_to_a_post_and_back(page: Page, curated) -> None:
    """`/` and a label filter the grid, arrows and Enter open a post, Esc closes it, back goes back."""
    count = len(samples(curated.data_dir))
    amber = [row["post_id"] for row in samples(curated.data_dir) if row["label"] == "amber"]
    page.open()
    page.wait_for(f"of {count} posts")
    page.press("/")
    page.press("amber", Keys.ENTER)
    page.wait_for(f"of {len(amber)} posts")
    assert sorted(map(str, amber)) == sorted(page.posts)
    assert "?label=amber" == page.query

    page.press(Keys.ESCAPE)
    page.press("l", Keys.ARROW_RIGHT, Keys.ENTER)
    page.wait("dialog.open && dialog.dataset.post")
    second, third = page.posts[1:3]
    assert f"?label=amber&post={second}" == page.query
    page.press("j")
    page.wait(f"dialog.dataset.post === '{third}'")
    page.press(Keys.ESCAPE)
    page.wait("!dialog.open")
    page.wait(f"document.activeElement.dataset.post === '{third}'")
    assert "?label=amber" == page.query

    page.choose("why", "decide/comic")
    page.wait_for("No post fits")  # the tags alone refused the comic: it has no persona
    page.browser.back()
    page.wait_for(f"of {len(amber)} posts")
    page.browser.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    page.wait_for(f"of {count} posts")
    page.choose("why", "decide/comic")
    page.wait_for("1 to 1 of 1 post")
    assert "not downloaded" in page.browser.find_element(By.ID, "grid").text
    _check_logs(page)


def test_confusion_cell_shows_its_images(page: Page, curated, tmp_path) -> None:
    """The address of a confusion cell shows its images; hostile text of the catalog stays text."""
    predictions = write_predictions(curated.data_dir, tmp_path / "again")
    cell = [
        row
        for row in predictions
        if (row["run"], row["seed"], row["split"]) == ("flat", 0, "test")
        and (row["label"], row["predicted"]) == (1, 2)
    ]
    assert cell
    page.open("?run=flat&seed=0&split=test&true=beryl&predicted=coral")
    page.wait(f"grid.querySelectorAll('a').length === {len(cell)}")
    page.wait("[...document.images].every(image => image.complete && image.naturalWidth)")
    assert sorted(str(row["post_id"]) for row in cell) == sorted(page.posts)
    assert "→ coral" in page.browser.find_element(By.CSS_SELECTOR, "#grid a").text

    page.browser.find_element(By.CSS_SELECTOR, "#grid a").click()
    page.wait("dialog.open && [...dialog.querySelectorAll('img')].length >= 2")
    page.wait("[...dialog.querySelectorAll('img')].every(image => image.naturalWidth)")
    text = page.browser.find_element(By.ID, "detail").text
    links = page.browser.execute_script(
        "return [...document.querySelectorAll('dialog a')].map(link => link.href)"
    )
    assert HOSTILE in text
    assert "javascript:alert(1)" in text
    assert "packed" in text
    assert all(link.startswith(page.site.address) for link in links)
    page.browser.find_element(By.LINK_TEXT, "coral").click()
    page.wait("!dialog.open && grid.getAttribute('aria-busy') === 'false'")
    assert "run=flat" in page.query

    for width, scheme in ((390, "dark"), (1280, "light")):
        chromium.show_as(page.browser, width=width, scheme=scheme)
        assert width == page.browser.execute_script("return document.documentElement.scrollWidth")
        assert {} == chromium.accessibility_findings(page.browser)
    _check_logs(page)


def _check_logs(page: Page) -> None:
    """No error is in the console, and every request went to the page itself."""
    events = [
        json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")
    ]
    urls = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }

    assert [url for url in urls if not url.startswith((page.site.address, "data:"))] == []
    assert [] == page.browser.get_log("browser")
