"""The stored posts of the small data folder: sound images, copies, and flawed images."""

import io
import random
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

COLOURS = {
    "amber": (222, 140, 30),
    "beryl": (40, 170, 120),
    "coral": (235, 90, 100),
    "coral_(winter)": (110, 130, 230),
}
COPYRIGHTS = {"amber": "mine", "beryl": "mine", "coral": "reef", "coral_(winter)": "reef"}
GOOD_PER_LABEL = 11


@dataclass(slots=True)
class Entry:
    """One stored post before it becomes rows."""

    post_id: int
    label: str
    truth: str
    data: bytes
    size: tuple[int, int]
    white: bool
    post: dict[str, Any]


def draw(label: str, *, seed: int, ground: str = "white", grey: bool = False) -> Image.Image:
    """Draws one image of `label`; equal arguments give equal pixels."""
    chance = random.Random(f"{label}:{seed}")
    width, height = chance.choice([(180, 150), (140, 180), (180, 180), (128, 176)])
    back = (255, 255, 255) if ground == "white" else tuple(chance.randint(60, 200) for _ in "rgb")
    image = Image.new("RGB", (width, height), back)
    pen = ImageDraw.Draw(image)
    for _ in range(14):
        x, y = chance.uniform(0.08, 0.7) * width, chance.uniform(0.08, 0.7) * height
        box = (
            x,
            y,
            x + chance.uniform(0.08, 0.22) * width,
            y + chance.uniform(0.08, 0.22) * height,
        )
        shade = chance.uniform(0.5, 1.15)
        fill = tuple(min(255, int(part * shade)) for part in COLOURS[label])
        getattr(pen, chance.choice(["ellipse", "rectangle"]))(box, fill=fill, outline=(20, 20, 30))
    for _ in range(5):
        ends = [chance.uniform(0.06, 0.94) * (width, height)[k % 2] for k in range(4)]
        pen.line(ends, fill=(20, 20, 30), width=chance.randint(1, 4))
    return image.convert("L").convert("RGB") if grey else image


def jpeg(image: Image.Image, quality: int = 88) -> bytes:
    """Encodes an image as JPEG, the format of a board's thumbnails."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(image: Image.Image, **options: Any) -> bytes:
    """Encodes an image as PNG, without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def good_entries() -> list[Entry]:
    """Returns posts with sound images; every second image of a persona has a white background."""
    entries = []
    for number in range(GOOD_PER_LABEL * len(COLOURS)):
        label = list(COLOURS)[number % len(COLOURS)]
        ground = "white" if number // len(COLOURS) % 2 == 0 else "plain"
        image = draw(label, seed=number, ground=ground)
        entries.append(
            Entry(1000 + 7 * number, label, "good", jpeg(image), image.size, ground == "white", {})
        )
    return entries


def copied_entries(good: list[Entry]) -> tuple[list[Entry], dict[int, int]]:
    """Returns copies of other posts, each with the id of its original."""
    entries: list[Entry] = []
    original = {}

    def add(truth: str, of: Entry, data: bytes, size: tuple[int, int], **post: Any) -> None:
        post_id = 2000 + 3 * len(entries)
        original[post_id] = of.post_id
        entries.append(Entry(post_id, of.label, truth, data, size, of.white, post))

    for of in good[:2]:
        add("exact_duplicate", of, of.data, of.size)
    of = good[2]
    other = draw(of.label, seed=901)
    add("pixel_duplicate", of, jpeg(other, 70), other.size, pixel_hash="f" * 32)
    of.post["pixel_hash"] = "f" * 32
    for of in good[4:7]:
        image = Image.open(io.BytesIO(of.data))
        smaller = image.resize((image.width * 4 // 5, image.height * 4 // 5))
        add("near_duplicate", of, jpeg(smaller, 75), smaller.size)
    for number, of in enumerate(good[8:10]):
        other = draw(of.label, seed=910 + number)
        add("family_duplicate", of, jpeg(other), other.size, parent_id=of.post_id)
        of.post["has_children"] = True
    for number, of in enumerate(good[12:14]):
        other = draw(of.label, seed=920 + number)
        source = f"https://example.com/works/{number}"
        add("same_source", of, jpeg(other), other.size, source=source)
        of.post["source"] = source
    return entries, original


def flawed_entries() -> list[Entry]:
    """Returns posts whose images a stage must refuse; `truth` is the reason."""
    grey = [draw("amber", seed=930 + number, grey=True) for number in range(2)]
    whole = draw("beryl", seed=940)
    moving = io.BytesIO()
    whole.save(moving, "WEBP", save_all=True, append_images=[grey[0].resize(whole.size)])
    tiny = whole.resize((20, 20))
    flat = Image.new("RGB", (160, 160), (200, 198, 180))
    flaws = [
        ("low_saturation", jpeg(grey[0]), grey[0].size),
        ("low_saturation", jpeg(grey[1]), grey[1].size),
        ("truncated", jpeg(whole)[:-400], whole.size),
        ("undecodable", b"<!DOCTYPE html><title>Not here</title>" * 20, (180, 180)),
        ("animated_file", moving.getvalue(), whole.size),
        ("small_image", png(tiny), tiny.size),
        ("low_contrast", png(flat), flat.size),
    ]
    return [
        Entry(3000 + 5 * number, "beryl", truth, data, size, False, {})
        for number, (truth, data, size) in enumerate(flaws)
    ]
