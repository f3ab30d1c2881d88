"""
The proxies of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`), as curl reads them.

A proxy changes the way of a request, not its aim: addresses are still checked against the site's
list before anything is sent. Only the look-up of their names is the proxy's then.
"""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL

from personae.errors import BadParams

_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies for requests by scheme; without any, requests go directly."""

    by_scheme: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Scheme of a request to the proxy's URL, which may hold credentials; `no` to exceptions."""

    @classmethod
    def of_environment(cls) -> "Proxies":
        """
        Returns the proxies that the environment names, upper case or lower.

        Raises:
            BadParams: One is no HTTP proxy, as one for SOCKS.
        """
        named = urllib.request.getproxies_environment()
        every = named.get("all", "")
        chosen = {scheme: named.get(scheme) or every for scheme in _SCHEMES}
        for scheme, url in chosen.items():
            if url and not _is_http(url):
                raise BadParams(
                    f"{scheme.upper()}_PROXY or ALL_PROXY names no HTTP proxy ({_shown(url)}). Write "
                    "http://HOST:PORT, or unset it to send requests directly."
                )
        return cls({scheme: url for scheme, url in chosen.items() if url} | _exceptions(named))

    def of(self, target: URL) -> str | None:
        """Returns the proxy for a request; None for this machine and the hosts of `NO_PROXY`."""
        host = target.host or ""
        if not self.by_scheme or host == "localhost" or host.startswith("127.") or host == "::1":
            return None
        if urllib.request.proxy_bypass_environment(host, dict(self.by_scheme)):  # type: ignore[attr-defined]  # typeshed lacks it
            return None
        return self.by_scheme.get(target.scheme)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts of the proxies, which may have private addresses."""
        urls = (url for scheme, url in self.by_scheme.items() if scheme in _SCHEMES)
        return frozenset(URL(url).host or "" for url in urls)

    def __str__(self) -> str:
        """Returns the proxies without their credentials; empty without any."""
        urls = {_shown(url) for scheme, url in self.by_scheme.items() if scheme in _SCHEMES}
        return ", ".join(sorted(urls))


def _exceptions(named: Mapping[str, str]) -> dict[str, str]:
    return {"no": named["no"]} if "no" in named else {}


def _is_http(url: str) -> bool:
    try:
        parts = URL(url)
        return parts.scheme in _SCHEMES and bool(parts.host and parts.port)
    except ValueError:
        return False


def _shown(url: str) -> str:
    """Returns a URL without user and password."""
    try:
        return str(URL(url).with_user(None))
    except ValueError:
        return "no URL"
