"""
The relabel file: posts whose label a person has corrected.

One post on a line, and `# ` begins a comment, which says why:

    post 1234 some_name  # the tag was that of her sister

The name is that of the character tag, or of the folder, that the post should have had.
"""

import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from personae import edited
from personae.errors import BadParams

_log = logging.getLogger(__name__)

_LINE: Final = re.compile(r"post ([0-9]{1,18}) (\S(?:.*\S)?)")


def read(path: Path) -> dict[int, str]:
    """
    Returns the label of each corrected post by its id; none if the file is absent.

    Raises:
        BadParams: The file cannot be read, a line is no correction, or a post has two labels; the
            message names file and line.
    """
    labels: dict[int, str] = {}
    for line in edited.lines(path, of="corrected labels"):
        match = _LINE.fullmatch(line.text)
        if match is None:
            raise BadParams(
                f"{line.where}: {line.text!r:.80} is no correction. One is `post 1234 "
                "name_of_the_label`; a comment begins with `# `."
            )
        post_id, label = int(match[1]), match[2]
        if labels.setdefault(post_id, label) != label:
            raise BadParams(
                f"{line.where}: post {post_id} has two labels, {labels[post_id]!r:.80} and "
                f"{label!r:.80}. Keep one."
            )
    return labels


def warn_of_unlisted(path: Path, posts: Collection[int]) -> None:
    """Logs the number of corrected posts that are not listed, whose lines have no effect."""
    if posts:
        _log.warning(
            "decide: %s corrects posts that are not listed: %d, such as post %d. Check their numbers.",
            path,
            len(posts),
            min(posts),
        )
