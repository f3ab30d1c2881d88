"""
The faults of a connection before any response, in the same words for both HTTP clients.

Certificates are checked against the authorities of the system; `SSL_CERT_FILE` and `SSL_CERT_DIR`
name others, such as a company's own.
"""

import functools
import ssl

from scraper.errors import BadCertificate
from scraper.responses import quoted, shown
from scraper.site import Site


def trust(site: Site) -> ssl.SSLContext | None:
    """Returns how the servers of a board must prove who they are; None for one without TLS."""
    return _authorities() if site.base_url.startswith("https:") else None


@functools.cache
def _authorities() -> ssl.SSLContext:
    return ssl.create_default_context()  # takes up to 0.1 s


def bad_certificate(url: str, error: BaseException) -> BadCertificate:
    """Returns the error of a certificate that is expired, of another host or of nobody known."""
    reason = quoted(getattr(error, "verify_message", "") or str(error)).rstrip(".")
    return BadCertificate(
        f"{shown(url)} shows a certificate that is not valid: {reason}. Somebody may stand between, "
        "as the login page of a network does. Nothing was sent, and what is finished is kept. Check "
        "clock and network, then run the same command again. SSL_CERT_FILE names further "
        "authorities.",
        url=url,
    )


def no_handshake(url: str, error: BaseException) -> str:
    """Returns the message for a server that does not speak TLS, or none of its safe versions."""
    return (
        f"{shown(url)} does not speak TLS as https requires: {_reason(error)}. Check scheme and port "
        "of the address: http:// is without TLS."
    )


def unreachable(url: str, error: BaseException) -> str:
    """Returns the message for a host that has no address, or does not accept connections."""
    return (
        f"{shown(url)} cannot be reached: {_reason(error)}. Is the board running, and this machine "
        "online?"
    )


def _reason(error: BaseException) -> str:
    """Returns what the system says, without the class and the number where it has words."""
    words = type(error).__name__
    if isinstance(error, ssl.SSLError) and error.reason:
        words = error.reason.replace("_", " ").lower()
    elif isinstance(error, OSError):
        words = error.strerror or str(error) or words
    return quoted(words).rstrip(".")
