"""Shared fixtures of all tests: the real test data, Hypothesis profiles, and a network guard."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "personae",
    deadline=None,  # two shared cores: a slow example is not a defect
    derandomize=True,
    max_examples=40,
    suppress_health_check=[
        HealthCheck.too_slow,  # as for the deadline
        HealthCheck.function_scoped_fixture,  # these fixtures hold no state
    ],
)
settings.load_profile("personae")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Returns the folder of real test data: `PERSONAE_TEST_DATA`, else `../shared/data`."""
    root = Path(__file__).resolve().parent.parent
    folder = Path(os.environ.get("PERSONAE_TEST_DATA", root / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"real test data is absent ({folder}): set PERSONAE_TEST_DATA to have it")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_host_budgets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the counts of requests to hosts apart from those of the user's own runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONAE_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails every test that connects to a host other than loopback."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]  # type: ignore[index]  # an INET address is a tuple
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                raise AssertionError(f"a test tried to reach {host}: only loopback is allowed")
        connect(self, address)  # type: ignore[arg-type]  # the same address, unchanged

    monkeypatch.setattr(socket.socket, "connect", guarded)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the tests of the chain, the longest file, to the front, so that no process waits for it."""
    items.sort(key=lambda item: item.get_closest_marker("chain") is None)
