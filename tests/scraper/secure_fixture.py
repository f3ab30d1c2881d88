"""A board on loopback that speaks TLS, the certificates that it may show, and faulty look-ups."""

import contextlib
import datetime as dt
import socket
import ssl

import pytest

from tests.scraper.faulty_fixture import FaultyBoard
from tests.scraper.network_fixture import html, reset, stall

x509 = pytest.importorskip("cryptography.x509", reason="cryptography makes the certificates")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402  # after the skip
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402  # after the skip

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Authority:
    """A certificate authority that lives for one test session."""

    def __init__(self, folder, name):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        certificate = self._signed(self._name, self._key, self._key, -DAY, 9 * DAY, is_ca=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context(self, host="localhost", *, begins=-DAY, ends=9 * DAY, is_own=False):
        """Returns a server's context with a certificate for `host`; signed by itself if `is_own`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        certificate = self._signed(name, key, key if is_own else self._key, begins, ends, host=host)
        path = self._folder / f"{certificate.serial_number}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _signed(self, subject, key, signer, begins, ends, *, host=None, is_ca=False):
        issuer = self._name if signer is self._key else subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + begins)
            .not_valid_after(NOW + ends)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if host:
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(signer, hashes.SHA256())


class SecureBoard(FaultyBoard):
    """
    A board at https://localhost:PORT. `handshake(number)` may return what a connection gets instead
    of a valid certificate: a context, bytes, or a coroutine function of the writer.
    """

    def __init__(self, context):
        super().__init__()
        self._context = context
        self.connections = 0
        self.handshake = lambda _number: None

    async def __aenter__(self):
        await super().__aenter__()
        self.origin = f"https://localhost:{self.origin.rpartition(':')[2]}"
        return self

    async def _respond(self, reader, writer):
        self.connections += 1
        entry = self.handshake(self.connections)
        entry = self._context if entry is None else entry
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if isinstance(entry, ssl.SSLContext):
                await writer.start_tls(entry)
                await super()._respond(reader, writer)
            elif isinstance(entry, bytes):
                await reader.read(1)
                writer.write(entry)
                await writer.drain()
            else:
                await entry(writer)


def certificates(folder):
    """Returns (the file of the trusted authority, a valid context, fault to context)."""
    trusted, unknown = Authority(folder, "trusted"), Authority(folder, "unknown")
    faults = {
        "unknown authority": unknown.context(),
        "self-signed": trusted.context(is_own=True),
        "expired": trusted.context(begins=-3 * DAY, ends=-DAY),
        "not yet valid": trusted.context(begins=DAY),
        "another host": trusted.context("other.example.org"),
    }
    return trusted.file, trusted.context(), faults


async def silent(writer):
    """Reads the greeting of TLS and never answers."""
    await stall(writer)


HANDSHAKES = {
    "plain HTTP": html(400),
    "closed": b"",
    "alert": bytes([21, 3, 3, 0, 2, 2, 40]),  # a fatal handshake_failure (RFC 8446, section 6)
    "garbage": bytes(range(256)),
    "reset": reset,
    "silence": silent,
}
"""What a server sends in place of its part of the handshake."""


def _none(*_arguments, **_options):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _later(*_arguments, **_options):
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def _leads_to(*addresses):
    def look_up(_host, port, *_arguments, **_options):
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in addresses
        ]

    return look_up


LOOK_UPS = {
    "no such name": (_none, "Name or service not known"),
    "no name server": (_later, "Temporary failure in name resolution"),
    "no address": (_leads_to(), "has no address"),
    "private": (_leads_to("10.0.0.7"), "private addresses only"),
    "loopback": (_leads_to("127.0.0.1", "::1"), "private addresses only"),
    "link-local": (_leads_to("169.254.169.254", "fe80::1"), "private addresses only"),
    "mapped": (_leads_to("::ffff:127.0.0.1"), "private addresses only"),
    "shared": (_leads_to("100.64.0.1", "0.0.0.0"), "private addresses only"),
}
"""What a look-up of a public name returns, and the words of the error."""
