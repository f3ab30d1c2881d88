"""
Uploads of large files in parts, which a later run continues.

S3 keeps the parts of an unfinished upload, and lists them. The name of a stored file has the hash of
its content in it, so an unfinished upload under that name is one of the same bytes.

Source: Amazon S3 API, CreateMultipartUpload, ListMultipartUploads, ListParts, UploadPart,
CompleteMultipartUpload.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

from personae.errors import MissingInput
from personae.storage.store import RemoteStore

PART_BYTES: Final = 16 << 20
_MOST_PARTS: Final = 10_000  # of one upload, by S3


def upload(store: RemoteStore, name: str, path: Path, *, part_bytes: int = PART_BYTES) -> None:
    """
    Uploads the file at `path` as `name`: readers see the whole file or none.

    Memory holds one part. A part that an earlier run has stored is not sent again: it has the right
    size, and its MD5 is the ETag by which the server names it. Where an ETag is no MD5, as with keys
    of AWS KMS, parts are sent again. Raises as `RemoteStore` does.

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
    stored = _parts(store, name, upload_id) if upload_id else {}
    if not upload_id:
        upload_id = str(store.call("create_multipart_upload", name)["UploadId"])
    parts = []
    with path.open("rb") as file:
        for number in range(1, -(-size // part_bytes) + 1):
            content = file.read(part_bytes)
            etag = stored.get((number, len(content)))
            md5 = hashlib.md5(
                content, usedforsecurity=False
            ).hexdigest()  # by which S3 names a part
            if etag is None or etag.strip('"') != md5:
                arguments = {"PartNumber": number, "UploadId": upload_id, "Body": content}
                etag = str(store.call("upload_part", name, **arguments)["ETag"])
            parts.append({"PartNumber": number, "ETag": etag})
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


def _parts(store: RemoteStore, name: str, upload_id: str) -> dict[tuple[int, int], str]:
    """Returns the ETag of each stored part, by number and bytes."""
    stored: dict[tuple[int, int], str] = {}
    marker: dict[str, Any] = {}
    while True:
        answer = store.call("list_parts", name, UploadId=upload_id, **marker)
        for part in answer.get("Parts") or ():
            stored[int(part["PartNumber"]), int(part["Size"])] = str(part["ETag"])
        if not answer.get("IsTruncated"):
            return stored
        marker = {"PartNumberMarker": answer["NextPartNumberMarker"]}
