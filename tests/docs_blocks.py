"""
The code blocks of README and docs: which are commands, which a test runs, and what they print.

A block of a shell, Python or SQL is run by `tests/test_docs_commands.py`, in the order of its page. A
comment on the line above may say otherwise, for a reader of the source: `<!-- not run: REASON -->`,
or `<!-- needs: PACKAGE, PACKAGE -->` for a block that runs only where these packages are installed.
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
COMMANDS = ("sh", "python", "sql")
"""The languages of blocks that are run."""
DATA = ("text", "json", "yaml", "csv")
"""The languages of blocks that show a file or an output."""
_BLOCK = re.compile(
    r"^(?:<!-- (?P<marker>not run|needs): (?P<why>[^\n]+) -->\n\n?)?"
    r"(?P<indent> *)```(?P<language>\w*)(?P<title> title=[^\n]*)?\n(?P<text>.*?)^ *```$"
    r"(?:\n\n *```text\n(?P<output>.*?)^ *```$)?",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its page, the line of its text, and the output that the page shows below."""

    page: str
    line: int
    language: str
    text: str
    output: str
    is_file: bool
    """Whether the block has the content of a file, which its title names."""
    reason: str
    """Why no test runs the block; empty if one does."""
    needs: tuple[str, ...]
    """Packages that the block imports and that are no dependencies of Personae."""

    @property
    def is_command(self) -> bool:
        """Whether a reader would run the block."""
        return self.language in COMMANDS and not self.is_file

    @property
    def missing(self) -> list[str]:
        """The packages of `needs` that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def with_value(self, value: str, replacement: str) -> "Block":
        """Returns the block with another value, in its text and its output."""
        text, output = (each.replace(value, replacement) for each in (self.text, self.output))
        return replace(self, text=text, output=output)

    def lines(self) -> list[str]:
        """Returns the commands of a shell block, without comments, a continued line as one."""
        joined = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in joined if shlex.split(line, comments=True)]


def blocks(page: str) -> Iterator[Block]:
    """Yields the blocks of a page in order; an output stands with the block above it."""
    text = PAGES[page].read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        marker, why = block["marker"], block["why"] or ""
        yield Block(
            page=page,
            line=text.count("\n", 0, block.start("text")) + 1,
            language=block["language"],
            text=block["text"],
            output=block["output"] or "",
            is_file=bool(block["title"]),
            reason=why if marker == "not run" else "",
            needs=tuple(why.split(", ")) if marker == "needs" else (),
        )


def unlike(output: str, printed: str) -> list[str]:
    """
    Returns the lines of `output` that `printed` has not, whatever their numbers and spaces are.

    A line that ends with an ellipsis is the beginning of a line. Of a table, only the head is
    compared: the rows below its rule are data.
    """
    lines = [_shape(line) for line in printed.splitlines()]
    missing = []
    is_data = False
    for line in output.splitlines():
        shape = _shape(line)
        is_data = (is_data and bool(shape)) or shape.startswith("─")
        start = shape.removesuffix("…").rstrip()
        is_cut = shape.endswith("…")
        is_there = shape in lines or (is_cut and any(each.startswith(start) for each in lines))
        if not is_data and not is_there:
            missing.append(line)
    return missing


def _shape(line: str) -> str:
    """Returns a line with hashes and numbers as `#`, and with single spaces."""
    line = re.sub(r"\b(?=\w*\d)[0-9a-f]{8,}\b", "#", line)
    line = re.sub(r"\d+(?:[.,]\d+)*", "#", line)
    return " ".join(line.split())
