"""
One budget for the requests of several machines: a small service on one, which the others ask.

`python -m scraper budget` serves the budgets of the machine that it runs on, to programs of that
machine alone. Another machine reaches it through a tunnel, and names it by `PERSONAE_STATE`:

    ssh -N -L 8766:127.0.0.1:8766 MACHINE
    PERSONAE_STATE=http://127.0.0.1:8766 python -m scraper download

The service has one clock and one file for each board (`host_budget.py`). Without an answer of it, no
request leaves.
"""

import http.client
import json
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from personae import local_page
from personae.errors import BadParams
from personae.local_page import LocalServer, Reply
from scraper.errors import DailyBudgetSpent, Unfinished
from scraper.host_budget import HostBudget, Kind

_COMMAND = "python -m scraper budget"
_MOST_BYTES = 4096
_ANSWER_SECONDS = 10.0
_LONGEST_SECONDS = 86_400.0
_MOST_HOSTS = 100


class CommonBudget(Protocol):
    """What a run shares with others: a file of this machine, or a service."""

    def take(self, kind: str, interval: float) -> float:
        """Lets a request leave, if it may; returns 0 then, and else the seconds until it may."""

    def pause(self, kind: str, seconds: float) -> None:
        """Lets no request of a kind leave for `seconds` from now, of no process."""


class SharedBudget:
    """
    The budget of one board at a service; each call asks it.

    Args:
        address: Of the service: `http://127.0.0.1:PORT`.
        host: Name of the board's host, with its port if it is one of several on one machine.
        daily_requests: Most requests a UTC day, of all machines together; None for no limit.
        most_pause: Longest obeyed pause in seconds.

    Raises:
        BadParams: The address is not http and a port of this machine.
    """

    def __init__(
        self, address: str, host: str, *, daily_requests: int | None, most_pause: float
    ) -> None:
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = None
        if port is None or not local_page.is_loopback(parts.netloc) or parts.path not in ("", "/"):
            raise BadParams(
                "PERSONAE_STATE is neither a folder nor the address of a budget on this machine. A "
                f"budget is served by\n  {_COMMAND}\nwhich prints its address. Another machine needs a "
                "tunnel to it."
            )
        self._address = f"{parts.hostname}:{port}"
        self._board = {"host": host, "daily_requests": daily_requests, "most_pause": most_pause}

    def take(self, kind: str, interval: float) -> float:
        """
        Lets a request leave, if it may; returns 0 then, and else the seconds until it may.

        Raises:
            DailyBudgetSpent: The requests of this day are used up.
            Unfinished: The service does not answer.
        """
        answer = self._ask("take", kind=kind, seconds=interval)
        if "spent" in answer:
            raise DailyBudgetSpent(str(answer["spent"]))
        wait = answer.get("wait")
        if not isinstance(wait, int | float) or not 0 <= wait <= _LONGEST_SECONDS:
            raise self._silent(f"it sends {answer!r:.80}")
        return float(wait)

    def pause(self, kind: str, seconds: float) -> None:
        """
        Lets no request of a kind leave for `seconds` from now, of no machine.

        Raises:
            Unfinished: The service does not answer.
        """
        self._ask("pause", kind=kind, seconds=seconds)

    def _ask(self, action: str, *, kind: str, seconds: float) -> dict[str, Any]:
        body = json.dumps({**self._board, "kind": kind, "seconds": seconds}).encode()
        connection = http.client.HTTPConnection(self._address, timeout=_ANSWER_SECONDS)
        try:
            connection.request("POST", f"/{action}", body, {"Content-Type": local_page.UPLOAD})
            response = connection.getresponse()
            answer = json.loads(response.read(_MOST_BYTES))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._silent(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if response.status != 200 or not isinstance(answer, dict):
            raise self._silent(f"it answers {response.status}: {answer!r:.200}")
        return answer

    def _silent(self, reason: str) -> Unfinished:
        return Unfinished(
            f"The budget at http://{self._address} gives no leave ({reason}), and without it no request "
            f"is sent. Start `{_COMMAND}` on its machine, or the tunnel to it, and run the same command "
            "again. What is finished is kept."
        )


def server(port: int, folder: Path | None) -> LocalServer:
    """
    Returns the service, which does not run yet.

    Args:
        port: Of the loopback address; 0 takes any that is free.
        folder: Folder of the states, which runs of this machine share too; see `host_budget`.

    Raises:
        BadParams: The port is in use; or there is no folder.
    """
    if folder is None:
        raise BadParams("The budget needs a folder for its state. Set PERSONAE_STATE to one.")
    return LocalServer(
        port,
        command=_COMMAND,
        get=lambda _target: local_page.error(404, "A budget has no page."),
        post=_Desk(folder).answer,
        most_bytes=_MOST_BYTES,
    )


class _Question(BaseModel):
    """What a client asks, and for which board."""

    model_config = ConfigDict(extra="forbid", strict=True)

    host: str = Field(min_length=1, max_length=255)
    kind: Kind
    seconds: float = Field(ge=0, le=_LONGEST_SECONDS, allow_inf_nan=False)
    daily_requests: int | None = Field(gt=0)
    most_pause: float = Field(ge=0, le=_LONGEST_SECONDS, allow_inf_nan=False)


class _Desk:
    """Answers the questions of all machines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._budgets: dict[tuple[str, int | None, float], HostBudget] = {}

    def answer(self, target: str, body: bytes) -> Reply:
        """Returns the wait, or what is wrong with the question."""
        try:
            question = _Question.model_validate_json(body)
        except ValidationError:
            question = None
        if question is None or target not in ("/take", "/pause"):
            return local_page.error(400, "This is no question to a budget.")
        key = (question.host, question.daily_requests, question.most_pause)
        if key not in self._budgets and len(self._budgets) >= _MOST_HOSTS:
            return local_page.error(429, f"A budget serves at most {_MOST_HOSTS} boards.")
        budget = self._budgets.setdefault(
            key,
            HostBudget(
                question.host,
                self._folder,
                daily_requests=question.daily_requests,
                most_pause=question.most_pause,
            ),
        )
        if target == "/pause":
            budget.pause(question.kind, question.seconds)
            return local_page.as_json({})
        try:
            return local_page.as_json({"wait": budget.take(question.kind, question.seconds)})
        except DailyBudgetSpent as error:
            return local_page.as_json({"spent": str(error)})
