"""
The board that is scraped: its address, the hosts that may be asked, the polite rates, who we are.

In come section `site`, and contact and credentials that `__main__` took from the environment; out
goes a frozen `Site`. Nothing here speaks to the network.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Self
from urllib.parse import SplitResult, urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from personae.errors import BadParams
from scraper.post import relative_url

FOLDER = "folder"
"""Name of the site that is no board: labelled images on this machine."""
_HTTP_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[ -~]{3,200}")


class Manners(BaseModel):
    """How a board is asked: by whom, how fast and how patiently."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contact: str = Field(
        "",
        description="address or account by which the board's staff can reach you; part of the "
        "User-Agent, required for public boards (or in PERSONAE_CONTACT)",
    )
    api_rate: float | None = Field(
        None,
        gt=0,
        description="requests per second to the API; none is the board's polite rate: 1 on public "
        "boards, as Danbooru asks of sustained use, 10 on this machine",
    )
    cdn_rate: float | None = Field(
        None,
        gt=0,
        description="files per second; none is the board's polite rate: 1 on public boards, 2000 "
        "on this machine",
    )
    file_hosts: tuple[str, ...] = Field(
        (), description="further hosts (host or host:port) that files may come from"
    )
    connect_seconds: float = Field(10.0, gt=0, description="longest wait for a connection")
    read_seconds: float = Field(60.0, gt=0, description="longest silence while an answer arrives")
    total_seconds: float = Field(
        180.0, gt=0, description="longest time for one answer, so that a drip ends"
    )
    attempts: int = Field(
        5, ge=1, le=20, description="tries of one request before the run ends, resumable"
    )
    max_wait_seconds: float = Field(
        900.0,
        gt=0,
        description="longest wait that the board may ask for (Retry-After) before the run ends, "
        "resumable",
    )


class Params(Manners):
    """Section `site`: which board, and the manners towards it."""

    name: str = Field(
        "demo",
        description="the board: demo (built in), danbooru, or the URL of a compatible one; or "
        "folder, for labelled images on this machine",
    )
    folder: str = Field("", description="path of those images, for site folder")

    @model_validator(mode="after")
    def _folder_has_a_path(self) -> Self:
        if self.name == FOLDER and not self.folder:
            raise ValueError("site 'folder' needs a path in 'site.folder', or --folder PATH")
        return self


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
        # Danbooru's API help: 10 reads a second at most, about one for sustained use.
        "danbooru": _Known("https://danbooru.donmai.us", ("cdn.donmai.us",), 1.0, 1.0, 10.0),
    }
)


@dataclass(frozen=True, slots=True)
class Site:
    """One board, ready to be asked."""

    name: str
    base_url: str
    """Scheme, host and port, without a final slash."""
    hosts: frozenset[str]
    """`host:port` of everything that may be asked, the API among them."""
    api_rate: float
    """Requests per second."""
    cdn_rate: float
    """Files per second."""
    user_agent: str
    is_local: bool
    """True when the board runs on this machine."""
    login: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)

    @classmethod
    def resolve(
        cls,
        params: Params,
        *,
        contact: str = "",
        login: str = "",
        api_key: str = "",
        demo_url: str | None = None,
    ) -> Self:
        """
        Returns the site that `params` names.

        Args:
            params: Section `site`.
            contact: Used where `params.contact` is empty.
            login: Account name, empty for anonymous.
            api_key: Key of that account.
            demo_url: Where the demo board runs; required when the name is demo.

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
                "Only one of PERSONAE_LOGIN and PERSONAE_API_KEY is set; an account needs both. "
                "Set the other, or neither to ask anonymously."
            )
        files = (*(known.file_hosts if known else ()), *params.file_hosts)
        return cls(
            name=params.name,
            base_url=base_url,
            hosts=frozenset({_host_and_port(urlsplit(base_url)), *map(_listed, files)}),
            api_rate=params.api_rate or (known.api_rate if known else 10.0 if local else 1.0),
            cdn_rate=params.cdn_rate or (known.cdn_rate if known else 2000.0 if local else 1.0),
            user_agent=_user_agent(params.contact or contact, login, required=not local),
            is_local=local,
            login=login,
            api_key=api_key,
        )

    def relative(self, url: str) -> str:
        """Returns `url` without the board's own scheme and host; other URLs unchanged."""
        return relative_url(url, self.base_url)

    def absolute(self, url: str) -> str:
        """Returns the URL to fetch for one that a table holds (RFC 3986)."""
        try:
            return urljoin(self.base_url + "/", url)
        except ValueError:  # brackets that hold no address; the client refuses it by name
            return url

    def allows(self, url: str) -> bool:
        """Returns whether `url` is http or https, without credentials, to a listed host."""
        try:
            parts = urlsplit(url)
            return (
                parts.scheme in _HTTP_PORTS
                and "@" not in parts.netloc
                and _host_and_port(parts) in self.hosts
            )
        except ValueError:
            return False

    def is_api(self, url: str) -> bool:
        """Returns whether `url` goes to the API's scheme, host and port: only there goes the key."""
        parts, base = urlsplit(url), urlsplit(self.base_url)
        return parts.scheme == base.scheme and _host_and_port(parts) == _host_and_port(base)


def needs_contact(params: Params) -> bool:
    """Returns whether the board is public, so that its staff must be able to reach the user."""
    if params.name in ("demo", FOLDER):
        return False
    known = _known(params.name)
    return not _is_loopback(_host(known.base_url if known else params.name))


def _known(name: str) -> _Known | None:
    """The known board of that name, or of that address."""
    if name in KNOWN:
        return KNOWN[name]
    host = _host(name)
    return next((known for known in KNOWN.values() if host == _host(known.base_url)), None)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _base_url(params: Params, known: _Known | None, demo_url: str | None) -> str:
    if params.name == "demo" and demo_url is not None:
        return demo_url.rstrip("/")
    if known:
        return known.base_url
    try:
        parts = urlsplit(params.name)
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), None
    if (
        parts.scheme not in _HTTP_PORTS
        or not parts.hostname
        or "@" in parts.netloc
        or parts.path.strip("/")
        or parts.query
    ):
        raise BadParams(
            f"'site.name' is {params.name!r}, which is no board: write demo, "
            f"{', '.join(KNOWN)}, or a URL such as http://127.0.0.1:8080 (no path, no credentials)."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _check_rates(params: Params, known: _Known | None) -> None:
    for name, rate in (("api_rate", params.api_rate), ("cdn_rate", params.cdn_rate)):
        if known and rate is not None and rate > known.fastest:
            raise BadParams(
                f"'site.{name}' is {rate:g} requests a second; {params.name} allows "
                f"{known.fastest:g} at most and asks for about one. Lower it, or leave it out."
            )


def _user_agent(contact: str, login: str, *, required: bool) -> str:
    """Names the project and who runs it; never a browser, which boards refuse."""
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


def _host_and_port(parts: SplitResult) -> str:
    return f"{parts.hostname or ''}:{parts.port or _HTTP_PORTS.get(parts.scheme, 0)}"


def _listed(host: str) -> str:
    """`cdn.example.org` means its https port; `cdn.example.org:8080` says its own."""
    try:
        parts = urlsplit(f"https://{host}")
        listed = _host_and_port(parts)
    except ValueError:
        parts, listed = SplitResult("", "", "", "", ""), ""
    if not parts.hostname or parts.netloc != host or "@" in host:
        raise BadParams(
            f"'site.file_hosts' names {host!r}, which is no host. Write cdn.example.org or "
            "cdn.example.org:8080."
        )
    return listed


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
