"""
The answers of the page: from a target, and the bytes of an image, to status, media type and body.

The image is untrusted: it is decoded by the function that stage `measure` uses, with limits on bytes
and pixels, and is kept nowhere. No part of an address is used as a path.
"""

import base64
import io
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from personae import squares
from personae.errors import UnreadableImage
from personae.local_page import Reply, as_json, error, page_file
from train import predict
from train.saved import Saved
from train.serve.neighbours import Neighbours

_PAGES = Path(__file__).parent / "pages"
_FILES = {"/": "serve.html", "/serve.css": "serve.css", "/serve.js": "serve.js"}
_SAMPLE = re.compile(r"/samples/([0-9]{1,9})")
_TOP, _NEAREST = 10, 8


class PredictionPage:
    """What the page shows: one trained run, and its training samples if they are here."""

    def __init__(self, model: Saved, neighbours: Neighbours | None, *, without: str = "") -> None:
        """Keeps the run; `without` says why there are no training samples."""
        self._model, self._neighbours, self._without = model, neighbours, without
        self._lock = threading.Lock()  # one prediction at a time: torch uses every core

    def get(self, target: str) -> Reply:
        """Answers a GET request: a file of the page, what the run is, or a training sample."""
        path = urlsplit(target).path
        if path in _FILES:
            return page_file(_PAGES / _FILES[path])
        if path == "/api/run":
            return as_json(self._run())
        match = _SAMPLE.fullmatch(path)
        if match and self._neighbours is not None and int(match[1]) < len(self._neighbours):
            pixels = self._neighbours.images.batch(np.array([int(match[1])])).numpy()[0]
            return Reply(200, "image/png", _png(pixels), "private, max-age=3600")
        return error(404, "There is no such address.")

    def post(self, target: str, body: bytes) -> Reply:
        """Predicts the image whose bytes were sent."""
        if urlsplit(target).path != "/api/predict":
            return error(404, "There is no such address.")
        try:
            pixels = squares.square(
                body,
                side=self._model.model.side,
                background=self._model.model.background,
                max_pixels=predict.MAX_PIXELS,
            )
        except UnreadableImage as failure:
            text = f"The image cannot be read: {failure.reason} ({failure.detail})."
            return error(422, f"{text} Drop a JPEG, PNG or WebP that opens in a viewer.")
        with self._lock:
            shares = predict.probabilities(self._model, [pixels])[0]
        top = min(_TOP, len(shares))
        prediction = predict.described(self._model, "", shares, top=top).to_json()
        near = self._neighbours.nearest(shares, count=_NEAREST) if self._neighbours else []
        return as_json(
            {
                "label": prediction["label"],
                "probabilities": prediction["probabilities"],
                "path": prediction["path"],
                "square": f"data:image/png;base64,{base64.b64encode(_png(pixels)).decode()}",
                "neighbours": [
                    {
                        "row": each.row,
                        "post_id": str(each.post_id),
                        "label": self._model.model.labels[each.leaf],
                        "distance": each.distance,
                    }
                    for each in near
                ],
            }
        )

    def _run(self) -> dict[str, Any]:
        model = self._model.model
        return {
            "run": model.run,
            "seed": model.seed,
            "method": model.method,
            "labels": len(model.labels),
            "side": model.side,
            "samples": 0 if self._neighbours is None else len(self._neighbours),
            "without": self._without,
        }


def _png(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
