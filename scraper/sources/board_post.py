"""
Turns the JSON of a Danbooru-style board into `Post`, with strict validation.

Only a post that has every field, of the right type and in range, becomes a `Post`, so later stages
need no checks. The fields are those of Danbooru's API (https://danbooru.donmai.us/wiki_pages/help:api).
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic_core import ErrorDetails
from yarl import URL

from scraper.errors import UnexpectedResponse
from scraper.post import Post, Variant

ONLY_FIELDS: Final = (
    "id,created_at,updated_at,uploader_id,score,source,md5,rating,image_width,image_height,"
    "file_ext,file_size,parent_id,has_children,is_pending,is_flagged,is_deleted,is_banned,"
    "tag_string_general,tag_string_character,tag_string_copyright,tag_string_artist,"
    "tag_string_meta,file_url,media_asset"
)
"""Value of the API parameter `only`: every field that `read_post` uses, and no other."""

_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_ModelT = TypeVar("_ModelT", bound=BaseModel)


def _encodable(value: Any) -> Any:
    """Replaces halves of surrogate pairs, which JSON may carry and no UTF-8 file can hold."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _moment(value: Any) -> datetime:
    """Returns an ISO 8601 time with its offset as UTC, to the millisecond."""
    if not isinstance(value, str):
        raise ValueError("an ISO 8601 time is a string")  # noqa: TRY004  # pydantic's own protocol
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError("the time lacks its offset from UTC")
        utc = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is out of range") from error
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _names(value: Any) -> tuple[str, ...]:
    """Splits a tag string at its spaces, and at no other white space; a repeated name counts once."""
    if not isinstance(value, str):
        raise ValueError("a tag string is a string")  # noqa: TRY004  # pydantic's own protocol
    return tuple(name for name in dict.fromkeys(_encodable(value).split(" ")) if name)


_Text = Annotated[str, BeforeValidator(_encodable)]
_Moment = Annotated[datetime, PlainValidator(_moment)]
_Names = Annotated[tuple[str, ...], PlainValidator(_names)]
_Hash = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Natural = Annotated[int, Field(ge=0, le=_INT64)]
_Pixels = Annotated[int, Field(ge=0, le=_INT32)]


class _StrictModel(BaseModel):
    """No conversion between types; fields that the board adds are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class _BoardVariant(_StrictModel):
    """One entry of `media_asset.variants`."""

    type: _Text
    url: _Text
    width: _Pixels
    height: _Pixels
    file_ext: _Text


class _BoardAsset(_StrictModel):
    """The part of `media_asset` that hidden posts have too."""

    duration: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    pixel_hash: _Hash | None = None


class _BoardFiles(_StrictModel):
    """The part of `media_asset` that only visible posts have."""

    variants: list[_BoardVariant] | None = None


class _BoardChecksum(_StrictModel):
    """The field of a post that only visible posts have."""

    md5: _Hash | None = None


class _BoardPost(_StrictModel):
    """One object of `/posts.json`, without the fields that a hidden post lacks."""

    id: Annotated[int, Field(ge=1, le=_INT64)]
    created_at: _Moment
    updated_at: _Moment
    uploader_id: _Natural
    score: Annotated[int, Field(ge=-_INT32, le=_INT32)]
    source: _Text
    rating: _Text
    image_width: _Pixels
    image_height: _Pixels
    file_ext: _Text
    file_size: _Natural
    parent_id: _Natural | None = None
    has_children: bool
    is_pending: bool
    is_flagged: bool
    is_deleted: bool
    is_banned: bool
    tag_string_general: _Names
    tag_string_character: _Names
    tag_string_copyright: _Names
    tag_string_artist: _Names
    tag_string_meta: _Names


def read_post(answer: Any, *, base_url: str) -> Post:
    """
    Returns the post that a board described in one JSON object.

    Args:
        answer: One element of the list that `/posts.json` returns.
        base_url: The board's address. URLs on this host become relative, so that tables do not
            depend on it.

    Raises:
        UnexpectedResponse: A field is absent, ill-typed or out of range; the message names the
            post and the field.
    """
    if not isinstance(answer, dict):
        raise UnexpectedResponse(
            f"The board sent {_shown(answer)} where a post was expected. Its API differs from "
            "Danbooru's. Check the address of the site."
        )
    name = f"post {answer['id']!r:.30}" if "id" in answer else "post"
    post = _checked(_BoardPost, answer, name)
    media_asset = answer.get("media_asset")
    fields = media_asset if isinstance(media_asset, dict) else {}
    asset = _checked(_BoardAsset, fields, f"{name}.media_asset")
    variants: tuple[Variant, ...] = ()
    # A hidden post has no `file_url`. What it states about its files beyond that is ignored.
    if answer.get("file_url"):
        files = _checked(_BoardFiles, fields, f"{name}.media_asset")
        variants = tuple(_variant(entry, base_url) for entry in files.variants or ())
    md5 = _checked(_BoardChecksum, answer, name).md5 if variants else None
    return Post(
        post_id=post.id,
        created_at_utc=post.created_at,
        updated_at_utc=post.updated_at,
        md5=md5,
        pixel_hash=asset.pixel_hash,
        rating=post.rating,
        image_width=post.image_width,
        image_height=post.image_height,
        file_ext=post.file_ext,
        file_bytes=post.file_size,
        duration_seconds=asset.duration,
        parent_id=post.parent_id,
        has_children=post.has_children,
        is_pending=post.is_pending,
        is_flagged=post.is_flagged,
        is_deleted=post.is_deleted,
        is_banned=post.is_banned,
        score=post.score,
        uploader_id=post.uploader_id,
        source=post.source,
        tags_general=post.tag_string_general,
        tags_character=post.tag_string_character,
        tags_copyright=post.tag_string_copyright,
        tags_artist=post.tag_string_artist,
        tags_meta=post.tag_string_meta,
        variants=variants if md5 else (),
    )


def relative_url(url: str, base_url: str) -> str:
    """
    Returns `url` without scheme and host when they are those of `base_url`, else unchanged.

    Joining the result to `base_url` (RFC 3986, section 5.2) gives an equivalent URL again. A URL
    with credentials, without a path, or with a path that would read as a host (`//…`) is unchanged.
    """
    try:
        # Encoded: the text of the path must not change.
        target, base = URL(url, encoded=True), URL(base_url, encoded=True)
        own = (target.scheme, target.host, target.port) == (base.scheme, base.host, base.port)
        has_user = target.user is not None or target.password is not None
    except ValueError:
        return url
    path = target.raw_path
    has_path = "/" in url.partition("://")[2]
    if not own or has_user or not has_path or not path.startswith("/") or path.startswith("//"):
        return url
    return target.raw_path_qs


def _variant(entry: _BoardVariant, base_url: str) -> Variant:
    url = relative_url(entry.url, base_url)
    return Variant(entry.type, url, entry.width, entry.height, entry.file_ext)


def _checked(model: type[_ModelT], fields: dict[str, Any], name: str) -> _ModelT:
    """Returns `fields` as a `model`; `name` is that of the object, for the message of an error."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _unexpected(error.errors()[0], name) from error


def _unexpected(problem: ErrorDetails, name: str) -> UnexpectedResponse:
    """Returns the error for one invalid field; the entry of a list is named with its index."""
    *parents, field = problem["loc"]
    if isinstance(field, int):  # an entry that is no object: the list is invalid
        *parents, field = parents
    for parent in parents:
        name += f"[{parent}]" if isinstance(parent, int) else f".{parent}"
    value = "absent" if problem["type"] == "missing" else _shown(problem["input"])
    return UnexpectedResponse(
        f"Field '{field}' of {name} is {value}. {problem['msg']}. The board's API differs from "
        "Danbooru's, or has changed. Check the site, or report this post."
    )


def _shown(value: Any) -> str:
    """Returns a value for an error message: short, whatever the board sent."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
