"""
JSON of the board, field by field in Danbooru's order: posts, tags, relations, errors.

Recorded answers of the live site are the model; the tests compare with them.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from scraper.demo.facts.clock import eastern
from scraper.demo.facts.record import CATEGORIES, DemoPost, FileFacts
from scraper.demo.facts.tags import TagRelation
from scraper.demo.painter import files
from scraper.demo.search.match import PostIndex

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TAGS_BORN_MS = 1_361_000_000_000  # 2013
_MINUTE_MS = 60_000

Json = dict[str, Any]


def post(shown: DemoPost, facts: FileFacts, *, host: str, hidden: bool) -> Json:
    """One post as `/posts.json` lists it; a hidden one lacks exactly seven keys."""
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
    born = shown.created_ms - 2 * _MINUTE_MS
    answer: Json = {
        "id": 3 * shown.post_id + 1_000,
        "created_at": eastern(born),
        "updated_at": eastern(born + 2_767),
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
    """Nine base62 digits, as an asset has."""
    rest, key = int(md5[:16], 16), ""
    for _ in range(9):
        rest, digit = divmod(rest, 62)
        key += _BASE62[digit]
    return key


def tag(name: str, index: PostIndex) -> Json:
    """One row of `/tags.json`."""
    number = tag_id(name)
    return {
        "id": number,
        "name": name,
        "post_count": index.count(name),
        "category": CATEGORIES[index.categories.get(name, "general")],
        "created_at": eastern(_TAGS_BORN_MS + number * 977),
        "updated_at": eastern(_TAGS_BORN_MS + number * 1_499),
        "is_deprecated": False,
        "words": [word for word in name.replace("(", "").replace(")", "").split("_") if word],
    }


def tag_id(name: str) -> int:
    """A number that stays with the name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) % 2_400_000 + 1


def relation(shown: TagRelation) -> Json:
    """One row of `/tag_aliases.json` or `/tag_implications.json`."""
    made = eastern(_TAGS_BORN_MS + shown.relation_id * 1_000_000)
    return {
        "id": shown.relation_id,
        "antecedent_name": shown.antecedent,
        "reason": "",
        "creator_id": 1_001,
        "consequent_name": shown.consequent,
        "status": shown.status,
        "forum_topic_id": None,
        "created_at": made,
        "updated_at": made,
        "approver_id": 1_001,
        "forum_post_id": None,
    }


def error(name: str, message: str) -> Json:
    """The body of every error that the application itself answers."""
    return {"success": False, "error": name, "message": message, "backtrace": list(_BACKTRACE)}


_BACKTRACE = ("app/logical/rack_server_timing.rb:19:in 'RackServerTiming#call'",)


def only(answer: Any, fields: str) -> Any:
    """Keeps the named keys (`id,media_asset[variants]`); unknown names are ignored."""
    if isinstance(answer, list):
        return [only(one, fields) for one in answer]
    wanted = _split(fields)
    return {
        key: only(value, wanted[key]) if wanted[key] and isinstance(value, dict | list) else value
        for key, value in answer.items()
        if key in wanted
    }


def _split(fields: str) -> dict[str, str]:
    """`a,b[c,d]` to {a: "", b: "c,d"}."""
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
