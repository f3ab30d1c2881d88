"""
The state of the demo board: its posts, tag relations and files, and the truth of each post.

The truth is for tests in Python; no answer over HTTP carries it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from scraper.demo.board import posts
from scraper.demo.facts import tags
from scraper.demo.facts.params import Params
from scraper.demo.facts.record import DemoPost, Truth
from scraper.demo.facts.tags import TagRelation
from scraper.demo.painter.shelf import Shelf
from scraper.demo.painter.studio import Studio

_MD5 = re.compile("[0-9a-f]{32}")
_EDIT_DELAY_MS = 3_600_000
"""An edit is one hour later than the last change of the post, so that runs do not differ."""


class DemoBoard:
    """
    The posts of a board, their files and their truth, with the methods that change posts.

    Attributes:
        posts: All posts, ascending by id.
        aliases: Every tag alias, active or not.
        implications: Every tag implication, active or not.
        version: Number of changes so far. A result computed from `posts` is valid for one version.
        studio: Makes the files of the posts.
    """

    def __init__(
        self,
        board_posts: Sequence[DemoPost],
        *,
        shelf: Shelf,
        workers: int = 2,
        truths: Mapping[int, Truth] | None = None,
        aliases: Sequence[TagRelation] = (),
        implications: Sequence[TagRelation] = (),
    ) -> None:
        """
        Takes the posts of a board.

        Args:
            board_posts: The posts, ascending by id.
            shelf: Cache of file facts and thumbnails.
            workers: Processes that draw images; 0 draws in a thread of this process.
            truths: Truth by post id, where it is known.
            aliases: Rows of the alias table.
            implications: Rows of the implication table.
        """
        self.posts = tuple(board_posts)
        self.aliases = tuple(aliases)
        self.implications = tuple(implications)
        self.version = 0
        self._truths = dict(truths or {})
        self._by_id = {post.post_id: post for post in board_posts}
        self.studio = Studio(
            lambda post_id: self._by_id[post_id].recipe, shelf=shelf, workers=workers
        )

    def post(self, post_id: int) -> DemoPost | None:
        """Returns the current state of a post, or None for an unknown id."""
        return self._by_id.get(post_id)

    def truth(self, post_id: int) -> Truth:
        """
        Returns what the image of a post shows, whatever its tags say.

        Raises:
            KeyError: There is no such post, or its truth is unknown.
        """
        return self._truths[post_id]

    @cached_property
    def alias_of(self) -> dict[str, str]:
        """Old name to new name, of the active aliases."""
        return {old: new[0] for old, new in tags.edges(self.aliases).items()}

    async def find(self, md5: str) -> int | None:
        """
        Returns the id of the first post whose original has this md5 (32 hex digits), or None.

        Draws images until a post matches, so an unknown md5 draws every image of the board once.
        A text that is no md5 draws nothing.
        """
        if not _MD5.fullmatch(md5):
            return None
        return await self.studio.find(md5, (post.post_id for post in self.posts))

    def change(self, post: DemoPost) -> None:
        """
        Replaces the post that has the same id.

        Raises:
            KeyError: No post has this id.
        """
        old = self._by_id[post.post_id]
        if old.recipe != post.recipe:
            self.studio.forget(post.post_id)
        self._by_id[post.post_id] = post
        self.posts = tuple(self._by_id[other.post_id] for other in self.posts)
        self.version += 1

    def insert(self, post: DemoPost, truth: Truth | None = None) -> None:
        """Adds a post. Its id must be larger than the id of every other post."""
        newest = max(self._by_id, default=0)
        assert post.post_id > newest, f"post {post.post_id} is not newer than post {newest}"  # noqa: S101  # our own mistake
        self._by_id[post.post_id] = post
        self.posts = (*self.posts, post)
        self.studio.forget(post.post_id)
        if truth is not None:
            self._truths[post.post_id] = truth
        self.version += 1

    def retag(
        self, post_id: int, *, add: Iterable[str] = (), drop: Iterable[str] = (), rating: str = ""
    ) -> None:
        """
        Edits tags or rating as a user does: implied tags are added and `updated_ms` increases.

        Args:
            post_id: The post to edit.
            add: Tags to add.
            drop: Tags to remove. An implied tag comes back.
            rating: First letter of the new rating; empty keeps the rating.

        Raises:
            KeyError: There is no such post.
        """
        post = self._by_id[post_id]
        names = posts.full_tags(
            (set(post.all_tags) | set(add)) - set(drop),
            tags.edges(self.implications),
            size=(post.width, post.height),
            file_ext=post.file_ext,
            duration=post.duration,
        )
        self.change(
            replace(
                post,
                tags=posts.categorised(names),
                all_tags=tuple(sorted(names)),
                rating=rating or post.rating,
                updated_ms=post.updated_ms + _EDIT_DELAY_MS,
            )
        )

    def flag(self, post_id: int, *names: str) -> None:
        """
        Adds status flags to a post: pending, flagged, deleted or banned.

        Raises:
            KeyError: There is no such post.
        """
        post = self._by_id[post_id]
        updated = post.updated_ms + _EDIT_DELAY_MS
        self.change(replace(post, flags=post.flags | set(names), updated_ms=updated))

    def replace_file(self, post_id: int) -> None:
        """
        Gives a post another original file, with a new md5 and new URLs. The old URLs answer 404.

        Raises:
            KeyError: There is no such post.
        """
        post = self._by_id[post_id]
        recipe = replace(post.recipe, seed=post.recipe.seed + 1, salt=post.recipe.salt + 1)
        self.change(replace(post, recipe=recipe, updated_ms=post.updated_ms + _EDIT_DELAY_MS))

    def remove_files(self, post_id: int) -> None:
        """
        Removes the files of a post: its URLs answer 404 from now on.

        Raises:
            KeyError: There is no such post.
        """
        self.change(replace(self._by_id[post_id], asset_gone=True))

    def close(self) -> None:
        """Ends the worker processes and closes the cache."""
        self.studio.close()


def board(params: Params) -> DemoBoard:
    """Returns the generated board of `params`: the same posts and bytes on every run."""
    generated, truths = posts.generate(params)
    cache_key = params.model_dump(
        include={
            "seed",
            "posts_large",
            "posts_small",
            "posts_minor",
            "refused_share",
            "mistagged_share",
            "duplicate_share",
        }
    )
    return DemoBoard(
        generated,
        shelf=Shelf(params.cache, key=repr(sorted(cache_key.items()))),
        workers=params.workers,
        truths=truths,
        aliases=tags.aliases(),
        implications=tags.implications(),
    )
