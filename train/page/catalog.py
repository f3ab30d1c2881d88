"""Queries the catalog of `curation`. A machine that only trains may lack it, or the library duckdb."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class CatalogUnreadable(Exception):
    """The catalog is absent or cannot be read; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The open catalog; `execute` runs a statement, and is None where there is no catalog."""

    path: Path
    execute: Callable[[str], Any] | None = None
    absent_because: str = ""

    def rows(self, statement: str) -> list[Any]:
        """
        Returns the rows of a SQL statement.

        Raises:
            CatalogUnreadable: There is no catalog, or it cannot be read.
        """
        if self.execute is None:
            raise CatalogUnreadable(self.absent_because)
        import duckdb

        try:
            rows: list[Any] = self.execute(statement).fetchall()
        except duckdb.Error as error:
            raise CatalogUnreadable(f"{self.path} could not be read: {error}") from error
        return rows


@contextmanager
def opened(path: Path) -> Iterator[Catalog]:
    """Opens the catalog at `path` for reading; without it every query raises `CatalogUnreadable`."""
    if not path.is_file():
        yield Catalog(path, absent_because=f"{path} is absent (stage 'catalog' writes it).")
        return
    try:
        import duckdb
    except ImportError:
        yield Catalog(path, absent_because="The library duckdb is not installed here.")
        return
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        yield Catalog(path, absent_because=f"{path} could not be read: {error}")
        return
    with connection:
        yield Catalog(path, connection.execute)
