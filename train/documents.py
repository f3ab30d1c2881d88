"""JSON between stages, read without torch: a mapping, or a message that names who writes it."""

import json
from pathlib import Path
from typing import Any

from train.errors import MissingInput


def read(path: Path, *, written_by: str) -> dict[str, Any]:
    """
    Returns a JSON mapping; `written_by` is the command that makes the file.

    Raises:
        MissingInput: The file is absent or holds no JSON mapping.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingInput(f"{path} is absent: run `{written_by}` first.") from error
    except (OSError, ValueError) as error:
        raise MissingInput(
            f"{path} is no readable JSON ({error}). Remove it and run `{written_by}` again."
        ) from error
    if not isinstance(document, dict):
        raise MissingInput(f"{path} holds no mapping. Remove it and run `{written_by}` again.")
    return document
