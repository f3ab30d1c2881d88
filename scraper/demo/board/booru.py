"""
The demo board itself: its posts, tags, aliases, implications, files, and the truth of each post.

The truth is for tests in Python; no answer over HTTP carries it.
"""

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


class DemoBoard:
    """
    Everything that a board knows.

    Attributes:
        posts: Ascending by id.
        version: Grows with every change, so that what was derived from posts can be renewed.
        studio: The files.
    """

    def __init__(
        self,
        found: Sequence[DemoPost],
        *,
        shelf: Shelf,
        workers: int = 2,
        truths: Mapping[int, Truth] | None = None,
        aliases: Sequence[TagRelation] = (),
        implications: Sequence[TagRelation] = (),
    ) -> None:
        self.posts = tuple(found)
        self.aliases = tuple(aliases)
        self.implications = tuple(implications)
        self.version = 0
        self._truths = dict(truths or {})
        self._by_id = {post.post_id: post for post in found}
        self.studio = Studio(
            lambda post_id: self._by_id[post_id].recipe, shelf=shelf, workers=workers
        )

    def post(self, post_id: int) -> DemoPost | None:
        """The post with this id as it is now."""
        return self._by_id.get(post_id)

    def truth(self, post_id: int) -> Truth:
        """What the post really shows, whatever its tags say. KeyError for an unknown post."""
        return self._truths[post_id]

    @cached_property
    def alias_of(self) -> dict[str, str]:
        """Old names to new ones, of active aliases."""
        return {old: new[0] for old, new in tags.edges(self.aliases).items()}

    async def find(self, md5: str) -> int | None:
        """Id of the first post whose original has this md5."""
        return await self.studio.find(md5, [post.post_id for post in self.posts])

    def change(self, post: DemoPost) -> None:
        """Puts a new state in place of the post with the same id."""
        old = self._by_id[post.post_id]
        if old.recipe != post.recipe:
            self.studio.forget(post.post_id)
        self._by_id[post.post_id] = post
        self.posts = tuple(self._by_id[one.post_id] for one in self.posts)
        self.version += 1

    def insert(self, post: DemoPost, truth: Truth | None = None) -> None:
        """Adds a post; its id must be larger than every other."""
        assert post.post_id > max(self._by_id, default=0), "ids grow"  # noqa: S101  # our own mistake
        self._by_id[post.post_id] = post
        self.posts = (*self.posts, post)
        self.studio.forget(post.post_id)
        if truth is not None:
            self._truths[post.post_id] = truth
        self.version += 1

    def retag(
        self, post_id: int, *, add: Iterable[str] = (), drop: Iterable[str] = (), rating: str = ""
    ) -> None:
        """Edits tags or rating as a user would: implications follow, `updated_at` is later."""
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
                updated_ms=post.updated_ms + 3_600_000,
            )
        )

    def flag(self, post_id: int, *names: str) -> None:
        """Adds status flags: pending, flagged, deleted or banned."""
        post = self._by_id[post_id]
        updated = post.updated_ms + 3_600_000
        self.change(replace(post, flags=post.flags | set(names), updated_ms=updated))

    def replace_file(self, post_id: int) -> None:
        """Gives a post another original: new md5, new URLs; the old files are gone."""
        post = self._by_id[post_id]
        recipe = replace(post.recipe, seed=post.recipe.seed + 1, salt=post.recipe.salt + 1)
        self.change(replace(post, recipe=recipe, updated_ms=post.updated_ms + 3_600_000))

    def remove_files(self, post_id: int) -> None:
        """Moves the files of a post to the trash: its URLs answer 404 from now on."""
        self.change(replace(self._by_id[post_id], asset_gone=True))

    def close(self) -> None:
        """Ends the workers that draw."""
        self.studio.close()


def board(params: Params) -> DemoBoard:
    """The generated board of these parameters: the same posts and bytes on every run."""
    found, truths = posts.generate(params)
    shape = params.model_dump(
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
        found,
        shelf=Shelf(params.cache, key=repr(sorted(shape.items()))),
        workers=params.workers,
        truths=truths,
        aliases=tags.aliases(),
        implications=tags.implications(),
    )
