"""What the search for near-duplicates costs and finds.

    python -m benchmarks.near_duplicates [--data SOURCE] [--data-dir DIR] [--sheet FILE.png] [--json FILE]

Reads a data set as ImageExampleGen does, and measures, in seconds of processor time on one core, what that node does
for near-duplicates: the thumbnail of every picture, their tables, the search; beside it Buchner's imagehash, one
picture at a time. Then pictures of train are changed in several ways and put into test: the share that is found again
is what the search is able to find. --sheet shows the near-duplicates of the data side by side, to look at them.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import io
import json
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

import imagehash
import numpy as np
import PIL.Image
import PIL.ImageDraw

from benchmarks import machine, report
from components import ingest, near_duplicates
from components.sources import BadRecord, open_source
from core import images, settings
from core.near_duplicates import NearDuplicate
from core.repeated import SPLITS, Member, Repeated

LIBRARY = 1000  # pictures that imagehash is asked for
CHANGED = 1000  # pictures of train that are changed
SHEET = 160  # pairs
ENLARGED = 96  # pixels, of a picture of the sheet


@dataclasses.dataclass(frozen=True)
class Picture:
    """An example: where it is, and its pixels uint8 [height, width, 3]."""

    member: Member
    pixels: np.ndarray


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints tables; `--json` also writes the numbers."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="shapes10", help="as `alexnet run` takes it")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--images", type=int, default=None, help="of each split of the source; default: all")
    parser.add_argument("--sheet", type=pathlib.Path, default=None, help="a PNG file")
    parser.add_argument("--json", type=pathlib.Path, default=None)
    asked = parser.parse_args(arguments)
    about = machine.describe()
    pictures = read(settings.Data(source=asked.data, data_dir=asked.data_dir), asked.images)
    seconds, tables = cost(pictures)
    found, searching = search(tables, pictures)
    if asked.sheet:
        sheet(pictures, found).save(asked.sheet)
    again = find_again(pictures)
    result = summary(asked.data, about, pictures, seconds | searching, library(pictures), found, again)
    report.show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1))


def read(data: settings.Data, most: int | None) -> list[Picture]:
    """The pictures of a source in the splits where the ingest puts them."""
    background = images.colour(data.background)
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(data, pathlib.Path(scratch))
        counts = dict.fromkeys(SPLITS, 0)
        for shard in source.shards():
            for record in source.read(shard):
                if isinstance(record, BadRecord) or (most and counts[shard.split] >= most):
                    continue
                counts[shard.split] += 1
                pixels = ingest.look(record.image, background)[1]
                held_out = shard.split == "train" and images.share_of(images.digest(pixels)) < data.validation_share
                split = "validation" if held_out else shard.split
                found.append(Picture(Member(split, source.class_names[record.label], record.id), pixels))
    return found


def cost(pictures: Sequence[Picture]) -> tuple[dict[str, float], list[bytes]]:
    """What the ingest adds for each picture, in seconds of processor time, and the tables that it makes."""
    start = time.process_time()
    thumbnails = [near_duplicates.thumbnail(picture.pixels) for picture in pictures]
    made = time.process_time()
    seen = _seen(pictures, thumbnails)
    began = time.process_time()
    tables = list(near_duplicates.pack(seen))
    return {"thumbnails": made - start, "hashes and tables": time.process_time() - began}, tables


def _seen(pictures: Sequence[Picture], thumbnails: Sequence[bytes]) -> list[near_duplicates.Seen]:
    return [
        near_duplicates.Seen(*picture.member, images.digest(picture.pixels), thumbnail)
        for picture, thumbnail in zip(pictures, thumbnails, strict=True)
    ]


def search(tables: Sequence[bytes], pictures: Sequence[Picture]) -> tuple[list[NearDuplicate], dict[str, float]]:
    """The near-duplicates, and the processor time of finding them."""
    members = collections.defaultdict(list)
    for picture in pictures:
        members[images.digest(picture.pixels).hex()].append(picture.member)
    repeated = [Repeated(digest, tuple(found)) for digest, found in members.items() if len(found) > 1]
    start = time.process_time()
    found = near_duplicates.find(lambda: iter(tables), repeated)
    return found, {"search": time.process_time() - start}


def library(pictures: Sequence[Picture]) -> float:
    """Seconds of processor time in which imagehash hashes one picture."""
    made = [PIL.Image.fromarray(picture.pixels) for picture in pictures[:LIBRARY]]
    start = time.process_time()
    for image in made:
        imagehash.phash(image)
    return (time.process_time() - start) / len(made)


def find_again(pictures: Sequence[Picture]) -> dict[str, float]:
    """Of each change, the share of changed training pictures that is found again and as the right one."""
    train = [picture for picture in pictures if picture.member.split == "train"]
    tables = list(near_duplicates.pack(_seen(train, [near_duplicates.thumbnail(one.pixels) for one in train])))
    shares = {}
    for name, change in CHANGES.items():
        changed = [
            Picture(one.member._replace(split="test"), change(one.pixels))
            for one in train[:: max(1, len(train) // CHANGED)][:CHANGED]
        ]
        asked = near_duplicates.pack(_seen(changed, [near_duplicates.thumbnail(one.pixels) for one in changed]))
        both = [*tables, *asked]
        found = near_duplicates.find(functools.partial(iter, both))
        shares[name] = sum(one.example.id == one.known.id for one in found) / len(changed)
    return shares


def _trimmed(share: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        height, width, _ = pixels.shape
        box = (share * width, share * height, (1 - share) * width, (1 - share) * height)
        image = PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.BICUBIC, box)
        return np.asarray(image)

    return change


def _moved(share: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        width = pixels.shape[1]
        pad = max(1, round(share * width))
        return np.concatenate([pixels[:, pad:], np.repeat(pixels[:, -1:], pad, axis=1)], axis=1)

    return change


def _lit(gain: float, offset: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: np.clip(pixels * gain + offset, 0, 255).astype(np.uint8)


def _tinted(pixels: np.ndarray) -> np.ndarray:
    return np.clip(pixels * [1.15, 1.0, 0.85], 0, 255).astype(np.uint8)


def _compressed(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
    return np.asarray(PIL.Image.open(buffer))


def _turned(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(pixels).rotate(3, PIL.Image.Resampling.BICUBIC))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as JPEG of quality 50": _compressed,
    "brighter by 30 of 255": _lit(1.0, 30),
    "three quarters of the contrast": _lit(0.75, 32),
    "tinted, red up and blue down by 15 %": _tinted,
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
    "moved by 3 % of the width": _moved(1 / 32),
    "moved by 6 %": _moved(2 / 32),
    "trimmed by 3 % at each side": _trimmed(1 / 32),
    "trimmed by 6 %": _trimmed(2 / 32),
    "turned by 3 degrees": _turned,
}


def sheet(pictures: Sequence[Picture], found: Sequence[NearDuplicate]) -> PIL.Image.Image:
    """Up to SHEET of the near-duplicates of test, evenly from the least to the most alike: pairs side by side."""
    by_place = {picture.member: picture.pixels for picture in pictures}
    test = [one for one in found if one.example.split == "test"]
    shown = [
        test[place] for place in np.unique(np.linspace(0, len(test) - 1, min(SHEET, len(test))).round().astype(int))
    ]
    wide, high = 2 * ENLARGED + 12, ENLARGED + 16
    made = PIL.Image.new("RGB", (8 * wide, max(1, math.ceil(len(shown) / 8)) * high), "white")
    draw = PIL.ImageDraw.Draw(made)
    for number, one in enumerate(shown):
        left, top = number % 8 * wide, number // 8 * high
        for side, member in enumerate((one.example, one.known)):
            image = PIL.Image.fromarray(by_place[member]).resize((ENLARGED, ENLARGED), PIL.Image.Resampling.NEAREST)
            made.paste(image, (left + side * (ENLARGED + 2), top))
        draw.text(
            (left, top + ENLARGED + 1), f"{number} {one.likeness:.3f}{' mirrored' * one.mirrored}", fill="black"
        )
    return made


def summary(
    data: str,
    about: dict,
    pictures: Sequence[Picture],
    seconds: Mapping[str, float],
    one: float,
    found: Sequence[NearDuplicate],
    again: Mapping[str, float],
) -> dict[str, object]:
    """The result, see `benchmarks.report`."""
    totals = collections.Counter(picture.member.split for picture in pictures)
    counts = collections.Counter(each.example.split for each in found)
    micro = 1e6 / len(pictures)
    costs = [[what, f"{value:.2f}", f"{value * micro:.1f}"] for what, value in seconds.items()]
    costs.append(["all", f"{sum(seconds.values()):.2f}", f"{sum(seconds.values()) * micro:.1f}"])
    costs.append(
        ["imagehash.phash instead of thumbnails and hashes", f"{one * len(pictures):.2f}", f"{1e6 * one:.1f}"]
    )
    return {
        "benchmark": "near_duplicates",
        "machine": about,
        "data": data,
        "images": totals,
        "seconds": dict(seconds),
        "imagehash_seconds_each": one,
        "found": counts,
        "mirrored": sum(each.mirrored for each in found),
        "contradicting": sum(each.contradicting for each in found),
        "found_again": dict(again),
        "tables": [
            {
                "title": f"{len(pictures):,} images of {data}, processor time on one core",
                "columns": ["what", "seconds", "microseconds an image"],
                "rows": costs,
            },
            {
                "title": f"near-duplicates of the splits before, in {data}",
                "columns": ["split", "examples", "near-duplicates", "share"],
                "rows": [
                    [
                        split,
                        f"{totals[split]:,}",
                        f"{counts[split]:,}",
                        f"{counts[split] / max(1, totals[split]):.2%}",
                    ]
                    for split in SPLITS[1:]
                ],
            },
            {
                "title": f"pictures of train, changed, that are found again: {CHANGED:,} of each at most",
                "columns": ["change", "found again"],
                "rows": [[name, f"{share:.1%}"] for name, share in again.items()],
            },
        ],
    }


if __name__ == "__main__":
    main()
