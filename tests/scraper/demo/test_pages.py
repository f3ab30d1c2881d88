"""The board's pages for people: in a browser, which passes the challenge, and as plain HTML."""

import dataclasses
import re
import shutil

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1100,900")


@pytest.fixture(scope="module")
def browser():
    """Returns headless Chromium."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium or chromedriver is absent")
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    driver = selenium.Chrome(options=options, service=Service(DRIVER))
    driver.implicitly_wait(20)
    yield driver
    driver.quit()


@pytest.mark.browser
def test_a_person_searches_and_opens_a_post(browser, demo_board, tmp_path):
    """The browser passes the challenge; a search, a thumbnail and a tag lead from page to page."""
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(demo_board.url + "/")
    images = browser.find_elements("css selector", "ul.posts img")
    assert len(images) > 10
    browser.find_element("name", "tags").send_keys("solo smile rating:g")
    button = browser.find_element("tag name", "button")
    button.click()
    WebDriverWait(browser, 20).until(staleness_of(button))  # the next page is there
    browser.find_element("css selector", "ul.posts a").click()
    loaded = "return [...document.images].every(i => i.complete && i.naturalWidth > 99)"
    image = browser.find_element("css selector", ".post img")
    browser.set_script_timeout(20)
    browser.execute_async_script(
        "const done = arguments[1]; arguments[0].decode().then(() => done(), () => done())", image
    )

    assert browser.execute_script(loaded)
    assert "smile" in browser.find_element("css selector", ".post").text
    assert browser.find_element("tag name", "h1").text == browser.title
    browser.find_element("link text", "smile").click()
    assert "smile" == browser.find_element("name", "tags").get_attribute("value")
    assert browser.save_screenshot(str(tmp_path / "posts.png"))


def test_pages_show_what_the_json_shows(get, demo_board):
    """A page holds as many posts as it says, links to the next, and each post has all its tags."""
    first = get("/posts", tags="solo").text
    second = get("/posts", tags="solo", page=2).text
    ids = [int(number) for number in re.findall(r'href="/posts/(\d+)"', first)]
    row = get(f"/posts/{ids[0]}.json").json()
    shown = get(f"/posts/{ids[0]}").text

    assert [each["id"] for each in get("/posts.json", tags="solo", limit=40).json()] == ids
    assert "Older" in first
    assert "Newer" not in first
    assert "Newer" in second
    assert not set(ids) & {int(number) for number in re.findall(r'href="/posts/(\d+)"', second)}
    assert all(f">{tag}</a>" in shown for tag in row["tag_string_general"].split())
    assert f"{row['image_width']} x {row['image_height']}" in shown


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/posts/1", 404, "no such post"),
        ("/posts?tags=a+b+c", 422, "2 tags"),
        ("/posts?page=1001", 422, "You cannot go beyond page 1000"),
        ("/posts?tags=nothing_has_this", 200, "No posts"),
    ],
)
def test_errors_are_pages_too(get, path, status, words):
    """An unknown post, a refused search, a page too far and an empty result say what they are."""
    answer = get(path)

    assert status == answer.status_code
    assert words in answer.text
    assert answer.headers["Content-Type"].startswith("text/html")


def test_text_of_a_post_is_escaped_and_no_script_may_run(own_demo_board):
    """Tags, source and search are text of strangers: none becomes markup."""
    import requests

    board = own_demo_board.board
    post = next(known for known in board.posts if not known.flags)
    board.change(dataclasses.replace(post, source="<script>alert(1)</script>"))
    board.retag(post.post_id, add=['"><img/src=x>'])
    headers = {"User-Agent": "personae-tests/1 (+https://example.org)"}
    for path in (f"/posts/{post.post_id}", "/posts?tags=<script>", '/?tags="><b>'):
        answer = requests.get(own_demo_board.url + path, headers=headers, timeout=20)

        assert "<script>" not in answer.text
        assert "<img/src" not in answer.text
        assert '"><b>' not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
