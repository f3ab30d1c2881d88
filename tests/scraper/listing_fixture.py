"""A source in memory, and the posts in it."""

from datetime import UTC, datetime

from scraper.post import Post, Variant
from scraper.sources import Page, Tag

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BASE = "http://board"
BLANK = Post(
    post_id=1,
    created_at_utc=MOMENT,
    updated_at_utc=MOMENT,
    md5="0" * 32,
    pixel_hash=None,
    rating="g",
    image_width=400,
    image_height=500,
    file_ext="png",
    file_bytes=1000,
    duration_seconds=None,
    parent_id=None,
    has_children=False,
    is_pending=False,
    is_flagged=False,
    is_deleted=False,
    is_banned=False,
    score=0,
    uploader_id=1,
    source="",
    tags_general=("1girl", "solo"),
    tags_character=(),
    tags_copyright=("series",),
    tags_artist=(),
    tags_meta=(),
    variants=(Variant("original", "/original/0.png", 400, 500, "png"),),
)


def post_of_row(row):
    """Returns the post of a row of `posts.parquet`, so that tables can be compared with posts."""
    lists = {name: tuple(value) for name, value in row.items() if name.startswith("tags_")}
    files = tuple(Variant(**variant) for variant in row["variants"])
    return Post(**{**row, **lists, "variants": files})


def raw(post_id, **changes):
    """Returns the JSON of a post."""
    row = dict.fromkeys((f"tag_string_{kind}" for kind in ("general", "artist", "meta")), "")
    row |= dict.fromkeys(("is_pending", "is_flagged", "is_deleted", "is_banned"), False)
    row |= dict.fromkeys(("created_at", "updated_at"), "2026-02-18T06:12:44.310-05:00")
    row |= {
        "id": post_id,
        "uploader_id": 1,
        "score": 0,
        "source": "",
        "rating": "g",
        "parent_id": None,
    }
    row |= {"md5": f"{post_id:032x}", "file_url": f"{BASE}/{post_id}.png", "has_children": False}
    row |= {"image_width": 4, "image_height": 4, "file_ext": "png", "file_size": 9}
    row |= {"tag_string_character": "rin", "tag_string_copyright": ""}
    row |= {"media_asset": {"variants": [variant(post_id)]}}
    return row | changes


def variant(post_id, **changes):
    url = f"{BASE}/original/{post_id}.png"
    return {"type": "original", "url": url, "width": 4, "height": 4, "file_ext": "png"} | changes


class Shelf:
    """Posts as a source; `asked` lists the requests, and `fault` may raise on a page."""

    def __init__(self, *posts, identity="shelf"):
        self.posts = list(posts)
        self.identity = identity
        self.pairs = {
            "implications": [("rin_(swimsuit)", "rin")],
            "aliases": [("old_rin", "rin"), ("old_rin", "rin")],
        }
        self.asked = []
        self.fault = lambda _search, _before: None
        self.counted = lambda search, before: len(self._matching(search, before))

    def _tags(self):
        counts = {}
        for post in self.posts:
            for name in post.tags_character:
                counts[name] = counts.get(name, 0) + 1
        return [
            Tag(name, 4, counts[name]) for name in sorted(counts, key=lambda n: (-counts[n], n))
        ]

    def _matching(self, search, before):
        name = search.split()[0]
        listed = {int(text) for text in name.removeprefix("id:").split(",") if text.isdecimal()}
        return sorted(
            (
                post
                for post in self.posts
                if (name == "id:>0" or name in post.tags_character or post.post_id in listed)
                and (before is None or post.post_id < before)
            ),
            key=lambda post: -post.post_id,
        )

    async def candidates(self, min_images):
        self.asked.append("candidates")
        for tag in self._tags():
            if tag.post_count >= min_images:
                yield tag

    async def named(self, names):
        for tag in self._tags():
            if tag.name in names:
                yield tag

    async def page(self, search, *, before, size):
        self.asked.append((search, before))
        self.fault(search, before)
        found = self._matching(search, before)[:size]
        return Page(tuple(found), min((post.post_id for post in found), default=None))

    async def remaining(self, search, *, before):
        self.asked.append(("remaining", search, before))
        return self.counted(search, before)

    async def implications(self):
        self.asked.append("implications")
        for pair in self.pairs["implications"]:
            yield pair

    async def aliases(self):
        self.asked.append("aliases")
        for pair in self.pairs["aliases"]:
            yield pair
