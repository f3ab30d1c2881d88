"""
Uploads of large files in parts, which a later run continues.

S3 keeps the parts of an unfinished upload, and lists them. The name of a stored file has the hash of
its content in it, so an unfinished upload under that name is one of the same bytes.

Source: Amazon S3 API, CreateMultipartUpload, ListMultipartUploads, ListParts, UploadPart,
CompleteMultipartUpload.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from personae.errors import MissingInput
from personae.storage.store import RemoteStore

PART_BYTES: Final = 16 << 20
_MOST_PARTS: Final = 10_000  # of one upload, by S3


def upload(store: RemoteStore, name: str, path: Path, *, part_bytes: int = PART_BYTES) -> None:
    """
    Uploads the file at `path` as `name`: readers see the whole file or none.

    Memory holds one part. Parts that an earlier run has stored are not sent again: their MD5 is the
    ETag by which the server names them. Otherwise, also where an ETag is no MD5 as with keys of AWS KMS,
    that upload is given up and a new one begun. Raises as `RemoteStore` does.

    Args:
        store: An S3 storage.
        name: Name below the address; it must name the content.
        path: Local file.
        part_bytes: Bytes of a part, raised for files of more than 10,000 parts. S3 takes no part under
            5 MiB but the last.
    """
    size = path.stat().st_size
    part_bytes = max(part_bytes, -(-size // _MOST_PARTS))
    if size <= part_bytes:
        store.write(name, path.read_bytes())
        return
    upload_id = _unfinished(store, name)
    etags = _parts(store, name, upload_id) if upload_id else {}
    if upload_id and not _are_of(path, etags, part_bytes):
        store.call("abort_multipart_upload", name, UploadId=upload_id)
        upload_id, etags = None, {}
    if not upload_id:
        upload_id = str(store.call("create_multipart_upload", name)["UploadId"])
    numbers = range(1, -(-size // part_bytes) + 1)
    with path.open("rb") as file:
        for number in numbers:
            if number not in etags:
                file.seek((number - 1) * part_bytes)
                arguments = {"PartNumber": number, "Body": file.read(part_bytes)}
                answer = store.call("upload_part", name, UploadId=upload_id, **arguments)
                etags[number] = str(answer["ETag"])
    parts = [{"PartNumber": number, "ETag": etags[number]} for number in numbers]
    store.call(
        "complete_multipart_upload", name, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )


def _unfinished(store: RemoteStore, name: str) -> str | None:
    """Returns the id of the newest unfinished upload of a file, None if there is none."""
    key = store.path(name).partition("/")[2]
    try:
        answer = store.call_bucket("list_multipart_uploads", name)
    except MissingInput:  # so some servers say that there is none
        return None
    uploads = [entry for entry in answer.get("Uploads") or () if entry["Key"] == key]
    newest = max(uploads, key=lambda entry: entry["Initiated"], default=None)
    return str(newest["UploadId"]) if newest else None


def _parts(store: RemoteStore, name: str, upload_id: str) -> dict[int, str]:
    """Returns the ETag of each stored part by its number, from 1."""
    etags: dict[int, str] = {}
    marker: dict[str, Any] = {}
    while True:
        answer = store.call("list_parts", name, UploadId=upload_id, **marker)
        etags |= {int(part["PartNumber"]): str(part["ETag"]) for part in answer.get("Parts") or ()}
        if not answer.get("IsTruncated"):
            return etags
        marker = {"PartNumberMarker": answer["NextPartNumberMarker"]}


def _are_of(path: Path, etags: Mapping[int, str], part_bytes: int) -> bool:
    """Returns whether stored parts are those of a file: S3 names a part by its MD5."""
    with path.open("rb") as file:
        for number, etag in etags.items():
            file.seek((number - 1) * part_bytes)
            content = file.read(part_bytes)
            if etag.strip('"') != hashlib.md5(content, usedforsecurity=False).hexdigest():
                return False
    return True
