"""
JSON of the board, with Danbooru's fields in Danbooru's order: posts, tags, relations, errors.

The fields are described at https://danbooru.donmai.us/wiki_pages/api:posts and its neighbours. The
tests compare keys, order and types with answers that were recorded from the live site.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from scraper.demo.facts.clock import eastern
from scraper.demo.facts.record import CATEGORIES, DemoPost, FileFacts
from scraper.demo.facts.tags import TagRelation
from scraper.demo.painter import files
from scraper.demo.search.match import PostIndex

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TAGS_CREATED_MS = 1_361_000_000_000
"""2013-02-16, near the creation time of the oldest tags of the live site."""
_MINUTE_MS = 60_000
_BETWEEN_WORDS = re.compile(r"[ _+:;!./()-]+")
"""Characters between the words of a tag, as in every recorded tag."""

Json = dict[str, Any]
"""A JSON object."""


def post(shown: DemoPost, facts: FileFacts, *, host: str, hidden: bool) -> Json:
    """
    Returns a post as `/posts.json` lists it.

    A hidden post lacks seven keys, as on Danbooru (`visible?` in `app/models/post.rb`): `md5` and
    three URLs, and of `media_asset` the keys `md5`, `file_key` and `variants`.

    Args:
        shown: The post.
        facts: Facts of the post's file.
        host: Base URL of the CDN, without a slash at the end.
        hidden: Whether the caller may not see the files of the post.
    """
    variants = files.variants(
        shown.width, shown.height, file_ext=shown.file_ext, duration=shown.duration
    )
    urls = {
        variant.type: host + files.path(variant.type, facts.md5, variant.file_ext)
        for variant in variants
    }
    answer: Json = {
        "id": shown.post_id,
        "created_at": eastern(shown.created_ms),
        "uploader_id": shown.uploader_id,
        "score": shown.score,
        "source": shown.source,
        **({} if hidden else {"md5": facts.md5}),
        "last_comment_bumped_at": None,
        "rating": shown.rating,
        "image_width": shown.width,
        "image_height": shown.height,
        "tag_string": " ".join(shown.all_tags),
        "fav_count": shown.fav_count,
        "file_ext": shown.file_ext,
        "last_noted_at": None,
        "parent_id": shown.parent_id,
        "has_children": bool(shown.children),
        "approver_id": None,
        **{f"tag_count_{kind}": len(shown.tags[kind]) for kind in _COUNTED_EARLY},
        "file_size": facts.file_bytes,
        "up_score": shown.up_score,
        "down_score": shown.down_score,
        **{f"is_{flag}": flag in shown.flags for flag in ("pending", "flagged", "deleted")},
        "tag_count": len(shown.all_tags),
        "updated_at": eastern(shown.updated_ms),
        "is_banned": "banned" in shown.flags,
        "pixiv_id": shown.pixiv_id,
        "last_commented_at": None,
        "has_active_children": shown.active_children,
        "bit_flags": 0,
        "tag_count_meta": len(shown.tags["meta"]),
        "has_large": "sample" in urls,
        "has_visible_children": bool(shown.children),
        "media_asset": _asset(shown, facts, variants, urls, hidden=hidden),
        **{f"tag_string_{kind}": " ".join(shown.tags[kind]) for kind in _TAG_STRINGS},
    }
    if not hidden:
        answer["file_url"] = urls["original"]
        answer["large_file_url"] = urls.get("sample", urls["original"])
        answer["preview_file_url"] = urls.get("180x180", f"{host}/images/flash-preview.png")
    return answer


_COUNTED_EARLY = ("general", "artist", "character", "copyright")
_TAG_STRINGS = ("general", "character", "copyright", "artist", "meta")


def _asset(
    shown: DemoPost,
    facts: FileFacts,
    variants: Sequence[files.FileVariant],
    urls: dict[str, str],
    *,
    hidden: bool,
) -> Json:
    uploaded = shown.created_ms - 2 * _MINUTE_MS
    answer: Json = {
        "id": 3 * shown.post_id + 1_000,
        "created_at": eastern(uploaded),
        "updated_at": eastern(uploaded + 2_767),
        **({} if hidden else {"md5": facts.md5}),
        "file_ext": shown.file_ext,
        "file_size": facts.file_bytes,
        "image_width": shown.width,
        "image_height": shown.height,
        "duration": shown.duration,
        "status": "deleted" if shown.asset_gone else "active",
        **({} if hidden else {"file_key": _file_key(facts.md5)}),
        "is_public": True,
        "pixel_hash": facts.pixel_hash,
    }
    if not hidden:
        answer["variants"] = [
            {
                "type": variant.type,
                "url": urls[variant.type],
                "width": variant.width,
                "height": variant.height,
                "file_ext": variant.file_ext,
            }
            for variant in variants
        ]
    return answer


def _file_key(md5: str) -> str:
    """Returns nine base62 digits, the form of Danbooru's file keys."""
    rest, key = int(md5[:16], 16), ""
    for _ in range(9):
        rest, digit = divmod(rest, 62)
        key += _BASE62[digit]
    return key


def tag(name: str, index: PostIndex) -> Json:
    """Returns a tag as `/tags.json` lists it; a tag without posts is a general tag."""
    number = tag_id(name)
    return {
        "id": number,
        "name": name,
        "post_count": index.count(name),
        "category": CATEGORIES[index.categories.get(name, "general")],
        "created_at": eastern(_TAGS_CREATED_MS + number * 977),
        "updated_at": eastern(_TAGS_CREATED_MS + number * 1_499),
        "is_deprecated": False,
        "words": list(filter(None, _BETWEEN_WORDS.split(name))) or [name],
    }


def tag_id(name: str) -> int:
    """Returns the id of a tag, from 1 to 2,400,000: a hash of its name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) % 2_400_000 + 1


def relation(shown: TagRelation) -> Json:
    """Returns a relation as `/tag_aliases.json` or `/tag_implications.json` lists it."""
    created = eastern(_TAGS_CREATED_MS + shown.relation_id * 1_000_000)
    return {
        "id": shown.relation_id,
        "antecedent_name": shown.antecedent,
        "reason": "",
        "creator_id": 1_001,
        "consequent_name": shown.consequent,
        "status": shown.status,
        "forum_topic_id": None,
        "created_at": created,
        "updated_at": created,
        "approver_id": 1_001,
        "forum_post_id": None,
    }


def error(name: str, message: str) -> Json:
    """Returns the body of an error: the name of Danbooru's error class, and the message."""
    backtrace = [
        *_BACKTRACES.get(name, ()),
        "app/logical/rack_server_timing.rb:19:in 'RackServerTiming#call'",
    ]
    return {"success": False, "error": name, "message": message, "backtrace": backtrace}


_INDEX = "app/controllers/posts_controller.rb:21:in 'PostsController#index'"
_BACKTRACES = {
    "PostQuery::TagLimitError": (
        "app/logical/post_query.rb:321:in 'PostQuery::ValidationMethods#validate_tag_limit!'",
        "app/logical/post_sets/post.rb:109:in 'PostSets::Post#posts'",
        _INDEX,
    ),
    "ActiveRecord::RecordNotFound": (
        "app/controllers/posts_controller.rb:32:in 'PostsController#show'",
    ),
    "ActiveRecord::QueryCanceled": (
        "app/logical/post_query_builder.rb:172:in 'PostQueryBuilder#paginated_posts'",
        "app/logical/post_query.rb:91:in 'PostQuery#paginated_posts'",
        "app/logical/post_sets/post.rb:110:in 'PostSets::Post#posts'",
        _INDEX,
    ),
}
"""Error class to the first lines of its backtrace, recorded from the live site."""


def only(answer: Any, fields: str) -> Any:
    """
    Returns an answer with some keys only, as `only=` asks.

    Args:
        answer: A JSON object, or a list of JSON objects.
        fields: Names such as `id,media_asset[variants]`; unknown names are ignored. See
            https://danbooru.donmai.us/wiki_pages/help:common_url_parameters.
    """
    if isinstance(answer, list):
        return [only(row, fields) for row in answer]
    kept = _split(fields)
    return {
        key: only(value, kept[key]) if kept[key] and isinstance(value, dict | list) else value
        for key, value in answer.items()
        if key in kept
    }


def _split(fields: str) -> dict[str, str]:
    """Returns name to nested names: `a,b[c,d]` gives {a: "", b: "c,d"}."""
    parts: dict[str, str] = {}
    depth, word, inside = 0, "", ""
    for letter in [*fields, ","]:
        if letter == "," and depth == 0:
            if word.strip():
                parts[word.strip()] = ",".join(filter(None, (parts.get(word.strip()), inside)))
            word, inside = "", ""
            continue
        depth += (letter == "[") - (letter == "]")
        if depth == 0 and letter == "]":
            continue
        if depth == 1 and letter == "[":
            continue
        if depth:
            inside += letter
        else:
            word += letter
    return parts
