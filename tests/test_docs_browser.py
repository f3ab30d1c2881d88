"""Tests the documentation in a real browser, opened from files: no requests, working search."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

selenium = pytest.importorskip("selenium", reason="selenium is not installed")

from selenium import webdriver  # noqa: E402  # imported only if selenium is installed
from selenium.webdriver.chrome.service import Service  # noqa: E402  # as above
from selenium.webdriver.common.by import By  # noqa: E402  # as above
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402  # as above

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PAGES = ("index", "experiments", "queries", "methods/hdcnn", "methods/grouping")
PATIENCE_SECONDS = 30

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is absent"),
]


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
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--window-size=1280,900",  # wide enough that the search box is open
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


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
