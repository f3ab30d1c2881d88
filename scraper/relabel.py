"""
The relabel file: posts whose label a person has corrected.

One post on a line, and `# ` begins a comment, which says why:

    post 1234 some_name  # the tag was that of her sister

The name is that of the character tag, or of the folder, that the post should have had.
"""

import re
from pathlib import Path
from typing import Final

from personae.errors import BadParams

_LINE: Final = re.compile(r"post ([0-9]{1,18}) (\S(?:.*\S)?)")
# A name may have `#` in it, so a comment needs a space on both sides.
_COMMENT: Final = re.compile(r"(?:^|\s)#(?:\s|$)")


def read(path: Path) -> dict[int, str]:
    """
    Returns the label of each corrected post by its id; none if the file is absent.

    Raises:
        BadParams: The file cannot be read, a line is no correction, or a post has two labels; the
            message names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadParams(
            f"{path} cannot be read as a list of corrected labels ({error})."
        ) from error
    labels: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        text = _COMMENT.split(line, maxsplit=1)[0].strip()
        if not text:
            continue
        where = f"{path}, line {number}"
        match = _LINE.fullmatch(text)
        if match is None:
            raise BadParams(
                f"{where}: {text!r:.80} is no correction. One is `post 1234 name_of_the_label`; a comment "
                "begins with `# `."
            )
        post_id, label = int(match[1]), match[2]
        if labels.setdefault(post_id, label) != label:
            raise BadParams(
                f"{where}: post {post_id} has two labels, {labels[post_id]!r:.80} and {label!r:.80}. "
                "Keep one."
            )
    return labels
