"""Tests the choice of the board, its request limits, and the User-Agent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from personae.errors import BadParams
from scraper import policy
from scraper.errors import ForeignHost
from scraper.params.site import Params
from scraper.site import Site, needs_contact
from scraper.sources.board_post import relative_url

CANARY = "canary-key-4711"


def resolve(name="http://127.0.0.1:8080", **changes):
    known = {
        key: changes.pop(key)
        for key in ("contact", "login", "api_key", "demo_url")
        if key in changes
    }
    return Site.resolve(Params(name=name, **changes), **known)


def allows(site, url):
    """Returns whether a request to that address is allowed."""
    try:
        policy.checked(site, url)
    except ForeignHost:
        return False
    return True


def test_danbooru_is_asked_once_a_second():
    """Danbooru has its API and file host on the list, and a rate of one request per second."""
    site = resolve("danbooru", contact="me@example.org")

    assert "https://danbooru.donmai.us" == site.base_url
    assert {"danbooru.donmai.us:443", "cdn.donmai.us:443"} == site.hosts
    assert (1.0, 1.0) == (site.api_rate, site.cdn_rate)


def test_address_of_a_known_board_is_that_board():
    """The URL of Danbooru gets Danbooru's hosts and ceiling, not those of an unknown board."""
    assert (
        resolve("danbooru", contact="a@b").hosts
        == resolve("https://danbooru.donmai.us/", contact="a@b").hosts
    )


def test_demo_is_where_it_runs():
    """The address of the demo board is the one that its process announced."""
    site = resolve("demo", demo_url="http://127.0.0.1:5555")

    assert "http://127.0.0.1:5555" == site.base_url
    assert (10.0, 2000.0) == (site.api_rate, site.cdn_rate)


@pytest.mark.parametrize(
    "name",
    [
        "danboru",
        "ftp://board",
        "http://",
        "http://[",
        "http://u:p@board",
        "http://board/x",
        "http://board:99999",
        "demo",
    ],
)
def test_refuses_what_is_no_board(name):
    """For a name that is neither known nor a URL, the error lists the allowed values."""
    with pytest.raises(BadParams, match="danbooru, or a URL"):
        resolve(name)


def test_public_board_needs_a_contact():
    """A public board is refused without a contact."""
    with pytest.raises(BadParams, match="PERSONAE_CONTACT"):
        resolve("danbooru")
    assert needs_contact(Params(name="https://booru.example.org"))
    assert not needs_contact(Params(name="http://localhost:3000"))
    assert not needs_contact(Params())


@pytest.mark.parametrize(
    "contact", ["a\r\nX-Evil: 1", "é@example.org", "ab", "x" * 300, "Mozilla/5.0"]
)
def test_contact_must_fit_a_header(contact):
    """A contact that would break the header, or look like a browser, is refused."""
    with pytest.raises(BadParams, match="User-Agent"):
        resolve("danbooru", contact=contact)


def test_user_agent_names_project_contact_and_account():
    """The User-Agent contains project, contact and account."""
    site = resolve("danbooru", contact="me@example.org", login="rin", api_key=CANARY)

    assert site.user_agent.startswith("Personae/")
    assert "(user rin; +me@example.org)" in site.user_agent


def test_key_is_in_no_representation():
    """The printed site does not contain the key."""
    site = resolve("danbooru", contact="me@example.org", login="rin", api_key=CANARY)

    assert CANARY not in f"{site} {site!r}"


@pytest.mark.parametrize("half", [{"login": "rin"}, {"api_key": CANARY}])
def test_half_an_account_is_refused(half):
    """A login without a key, or a key without a login, is refused; the message hides the key."""
    with pytest.raises(BadParams, match="needs both") as caught:
        resolve(**half)
    assert CANARY not in str(caught.value)


def test_ceiling_of_a_public_board():
    """A rate above the ceiling of a public board is refused."""
    with pytest.raises(BadParams, match="allows 10 at most"):
        resolve("danbooru", contact="me@example.org", api_rate=11)


@pytest.mark.parametrize("host", ["http://cdn", "a/b", "", "u@h", "h:99999", "[::1"])
def test_refuses_what_is_no_host(host):
    """A file host that is not a host, with or without a port, is refused."""
    with pytest.raises(BadParams, match="file_hosts"):
        resolve(file_hosts=(host,))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://127.0.0.1:8080/a.jpg", True),
        ("https://cdn.example.org/a.jpg", True),
        ("http://127.0.0.1:8081/a.jpg", False),
        ("http://127.0.0.1/a.jpg", False),
        ("http://evil.example/a.jpg", False),
        ("http://user@127.0.0.1:8080/a.jpg", False),
        ("file:///etc/passwd", False),
        ("http://[", False),
        ("//127.0.0.1:8080/a.jpg", False),
    ],
)
def test_allows_listed_hosts_only(url, allowed):
    """Scheme, host and port must match, and URLs with credentials are refused."""
    assert allowed == allows(resolve(file_hosts=("cdn.example.org",)), url)


@pytest.mark.parametrize(
    ("url", "relative"),
    [
        ("http://127.0.0.1:8080/180x180/a.jpg", "/180x180/a.jpg"),
        ("http://127.0.0.1:8080/a.jpg?x=1", "/a.jpg?x=1"),
        ("http://127.0.0.1:9090/a.jpg", "http://127.0.0.1:9090/a.jpg"),
        ("https://127.0.0.1:8080/a.jpg", "https://127.0.0.1:8080/a.jpg"),
        ("http://127.0.0.1:8080//evil.example/a.jpg", "http://127.0.0.1:8080//evil.example/a.jpg"),
        ("http://u:p@127.0.0.1:8080/a.jpg", "http://u:p@127.0.0.1:8080/a.jpg"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("/already/relative.jpg", "/already/relative.jpg"),
        ("http://[", "http://["),
    ],
)
def test_relative_urls(url, relative):
    """Only URLs of the board itself are stored as relative URLs."""
    assert relative == relative_url(url, resolve().base_url)


@given(path=st.text(st.characters(codec="ascii", exclude_characters=" #?\t\r\n"), max_size=30))
def test_relative_and_absolute_agree(path):
    """A stored URL is allowed exactly if the original URL is allowed."""
    site = resolve()
    url = f"http://127.0.0.1:8080/a/{path}"

    stored = relative_url(url, site.base_url)

    assert allows(site, site.absolute(stored)) == allows(site, url)


def test_key_goes_to_the_api_alone():
    """A URL with another scheme, host or port is not the API and gets no key."""
    site = resolve("danbooru", contact="me@example.org")

    assert site.is_api(URL("https://danbooru.donmai.us/posts.json"))
    assert not site.is_api(URL("https://cdn.donmai.us/a.jpg"))
    assert not site.is_api(URL("http://danbooru.donmai.us/posts.json"))
