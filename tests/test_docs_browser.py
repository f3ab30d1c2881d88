"""Tests the documentation in a real browser, opened from files: no requests, working search."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import chromium

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("index", "experiments", "queries", "methods/hdcnn", "methods/grouping")
PATIENCE_SECONDS = 30

pytestmark = chromium.MARKS


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Returns the built site."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def browser():
    """Returns one Chromium for all tests of this file, with its network log on."""
    with chromium.started() as driver:
        yield driver


def _requests(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("page", PAGES)
def test_pages_open_without_a_request_or_an_error(browser, site, page):
    """A page loads only files of the site, draws all its images, and leaves the console empty."""
    browser.get((site / f"{page}.html").as_uri())
    broken = browser.execute_script(
        "return [...document.images].filter((one) => !one.naturalWidth).map((one) => one.src)"
    )
    errors = [entry["message"] for entry in browser.get_log("browser")]

    assert [url for url in _requests(browser) if not url.startswith(("file:", "data:"))] == []
    assert broken == []
    assert errors == []


def test_formulas_have_a_size(browser, site):
    """The browser draws the MathML of a page with a size above zero."""
    browser.get((site / "methods" / "hdcnn.html").as_uri())
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('math')].map((one) => one.getBoundingClientRect().width)"
    )

    assert len(sizes) > 5
    assert min(sizes) > 0


def test_search_works_from_files(browser, site):
    """The search returns a page of the site without a server."""
    browser.get((site / "index.html").as_uri())
    box = browser.find_element(By.CSS_SELECTOR, "input.md-search__input")
    box.click()
    box.send_keys("eigenvector")
    wait = WebDriverWait(browser, PATIENCE_SECONDS)
    found = wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".md-search-result__link"))

    assert any("grouping.html" in link.get_attribute("href") for link in found)
    assert [url for url in _requests(browser) if not url.startswith(("file:", "data:"))] == []
