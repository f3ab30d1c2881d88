"""
The board that is scraped: its address, the hosts on its list, its rates, and the User-Agent.

Reads section `site`, and contact and credentials that `__main__` took from the environment;
returns a frozen `Site`. Nothing here uses the network.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Self

from yarl import URL

from personae.errors import BadParams
from personae.settings import near_miss
from scraper.params.site import FOLDER, Params
from scraper.proxy import Proxies

_PRINTABLE = re.compile(r"[ -~]{3,200}")


@dataclass(frozen=True, slots=True)
class _Known:
    base_url: str
    file_hosts: tuple[str, ...]
    api_rate: float
    cdn_rate: float
    fastest: float
    """Documented ceiling in requests per second; a faster rate is refused."""


KNOWN: Mapping[str, _Known] = MappingProxyType(
    {
        # https://danbooru.donmai.us/wiki_pages/help:api: 10 reads a second at most, about one for
        # sustained use.
        "danbooru": _Known("https://danbooru.donmai.us", ("cdn.donmai.us",), 1.0, 1.0, 10.0),
    }
)


@dataclass(frozen=True, slots=True)
class Site:
    """One board: where requests may go, how fast, and as whom."""

    name: str
    base_url: str
    """Scheme, host and port, without a final slash."""
    hosts: frozenset[str]
    """`host:port` of everything that may be requested, the API among them."""
    api_rate: float
    """Requests per second."""
    cdn_rate: float
    """Files per second."""
    user_agent: str
    is_local: bool
    """True when the board runs on this machine."""
    daily_requests: int | None = None
    """Most requests a UTC day, of all runs together; None for no limit."""
    login: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    proxies: Proxies = field(default_factory=Proxies)

    @classmethod
    def resolve(
        cls,
        params: Params,
        *,
        contact: str = "",
        login: str = "",
        api_key: str = "",
        demo_url: str | None = None,
        proxies: Proxies | None = None,
    ) -> Self:
        """
        Returns the site that `params` names.

        Args:
            params: Section `site`.
            contact: Used where `params.contact` is empty.
            login: Account name, empty for anonymous.
            api_key: Key of that account.
            demo_url: Where the demo board runs; required when the name is demo.
            proxies: Where requests go through; None sends them directly.

        Raises:
            BadParams: The name is no known board and no URL, the contact is missing or cannot
                stand in a header, a rate is above the board's ceiling, or only one of login and
                key is given.
        """
        known = _known(params.name)
        base_url = _base_url(params, known, demo_url)
        local = _is_loopback(_host(base_url))
        _check_rates(params, known)
        if bool(login) != bool(api_key):
            raise BadParams(
                "Only one of PERSONAE_LOGIN and PERSONAE_API_KEY is set. An account needs both. "
                "Set the other, or neither to send requests anonymously."
            )
        files = (*(known.file_hosts if known else ()), *params.file_hosts)
        return cls(
            name=params.name,
            base_url=base_url,
            hosts=frozenset({_host_and_port(URL(base_url)), *map(_listed, files)}),
            api_rate=params.api_rate or (known.api_rate if known else 10.0 if local else 1.0),
            cdn_rate=params.cdn_rate or (known.cdn_rate if known else 2000.0 if local else 1.0),
            user_agent=_user_agent(params.contact or contact, login, required=not local),
            is_local=local,
            daily_requests=params.daily_requests,
            login=login,
            api_key=api_key,
            proxies=proxies or Proxies(),
        )

    def absolute(self, url: str) -> str:
        """Returns the URL to fetch for one that a table holds (RFC 3986, section 5.2)."""
        try:
            return str(URL(self.base_url + "/").join(URL(url)))
        except ValueError:  # brackets that hold no address; `policy.checked` refuses it by name
            return url

    def hours(self, requests: int, rate: float) -> float:
        """
        Returns the hours that `requests` take at `rate` a second, with a day's limit.

        Of the last day, only the time at the rate counts.
        """
        days, rest = 0, requests
        if self.daily_requests is not None and self.daily_requests < rate * 86_400:
            days = max(requests - 1, 0) // self.daily_requests
            rest = requests - days * self.daily_requests
        return days * 24 + rest / rate / 3600

    def is_api(self, url: URL) -> bool:
        """Returns whether `url` has the API's scheme, host and port: the key is sent to it alone."""
        base = URL(self.base_url)
        return (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)


def needs_contact(params: Params) -> bool:
    """Returns whether the board is public, so that its staff must be able to reach the user."""
    if params.name in ("demo", FOLDER):
        return False
    known = _known(params.name)
    return not _is_loopback(_host(known.base_url if known else params.name))


def _known(name: str) -> _Known | None:
    """Returns the known board of that name, or of that address."""
    if name in KNOWN:
        return KNOWN[name]
    host = _host(name)
    return next((known for known in KNOWN.values() if host == _host(known.base_url)), None)


def _host(url: str) -> str:
    return _parsed(url).host or ""


def _parsed(url: str) -> URL:
    """Returns the parts of an address; those of the empty one when it cannot be read."""
    try:
        parts = URL(url)
        _ = parts.port
    except ValueError:
        return URL()
    return parts


def _base_url(params: Params, known: _Known | None, demo_url: str | None) -> str:
    if params.name == "demo" and demo_url is not None:
        return demo_url.rstrip("/")
    if known:
        return known.base_url
    parts = _parsed(params.name)
    if (
        parts.scheme not in ("http", "https")
        or not parts.host
        or "@" in parts.authority
        or parts.path.strip("/")
        or parts.query_string
    ):
        raise BadParams(
            f"'site.name' is {params.name!r}, which is no board."
            f"{near_miss(params.name, ['demo', *KNOWN], least=0.6)} Write demo, "
            f"{', '.join(KNOWN)}, or a URL such as http://127.0.0.1:8080 (no path, no credentials)."
        )
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    return f"{parts.scheme}://{host}" + (f":{parts.explicit_port}" if parts.explicit_port else "")


def _check_rates(params: Params, known: _Known | None) -> None:
    for name, rate in (("api_rate", params.api_rate), ("cdn_rate", params.cdn_rate)):
        if known and rate is not None and rate > known.fastest:
            raise BadParams(
                f"'site.{name}' is {rate:g} requests a second. {params.name} allows "
                f"{known.fastest:g} at most and asks for about one. Lower the rate, or leave it out."
            )


def _user_agent(contact: str, login: str, *, required: bool) -> str:
    """Returns a header that names the project and who runs it; boards refuse browsers' names."""
    try:
        number = version("personae")
    except PackageNotFoundError:
        number = "0"
    if not contact:
        if required:
            raise BadParams(
                "A public board must be able to reach you: the User-Agent needs a contact. "
                "Set 'site.contact' in params.yaml or PERSONAE_CONTACT in the environment to "
                "your e-mail address, web page, or account on the board (user #123)."
            )
        return f"Personae/{number} (local board)"
    if not _PRINTABLE.fullmatch(contact) or "mozilla" in contact.lower():
        raise BadParams(
            f"'site.contact' is {contact!r}, which cannot stand in a User-Agent. Write 3 to 200 "
            "plain characters: an e-mail address, web page, or account (user #123)."
        )
    account = f"user {login}; " if login and login.isascii() and login.isprintable() else ""
    return f"Personae/{number} ({account}+{contact})"


def _host_and_port(url: URL) -> str:
    return f"{url.host or ''}:{url.port or 0}"


def _listed(host: str) -> str:
    """Returns `host:port`; a host without a port means its https port."""
    parts = _parsed(f"https://{host}")
    if not parts.host or any(letter in host for letter in "/?#@"):
        raise BadParams(
            f"'site.file_hosts' names {host!r}, which is no host. Write cdn.example.org or "
            "cdn.example.org:8080."
        )
    return _host_and_port(parts)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
