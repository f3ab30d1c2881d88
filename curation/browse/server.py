"""The server of the browse page: the library of a data folder behind `personae.local_page`."""

from pathlib import Path

from curation.browse.routes import reply
from curation.browse.snapshot import Library
from personae.local_page import LocalServer

PORT = 8423
_COMMAND = "python -m curation browse"


class BrowseServer(LocalServer):
    """
    Answers GET requests until it is shut down.

    Args:
        library: The catalog and predictions to show.
        port: Port of the loopback address; 0 takes any that is free.

    Raises:
        BadParams: The port is in use, or may not be opened.
    """

    def __init__(self, library: Library, port: int) -> None:
        super().__init__(port, command=_COMMAND, get=lambda target: reply(library, target))


def serve(data_dir: Path, results_dir: Path, *, port: int) -> None:
    """
    Serves the browse page until Ctrl-C, and prints its address.

    Raises:
        MissingInput: There is no catalog, or it is of another version.
        AlreadyRunning: Another program has the catalog open for writing.
        BadParams: The port is in use.
    """
    library = Library(data_dir, results_dir)
    with BrowseServer(library, port) as server:
        reply(library, "/api/choices")  # counted before the first page is requested
        server.run()
