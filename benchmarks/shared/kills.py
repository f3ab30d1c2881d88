"""What a part of the kill matrix returns: one row for each kill."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, and what was wrong after the same command had run again."""

    group: str
    """`random`, `named`, `recovery`, `power`, or `exchanged`: a program with a known defect."""
    where: str
    """The moment or the operation."""
    problems: tuple[str, ...] = ()
    """Empty when the outcome equals that of an unbroken run."""
