"""Gathers what the report shows from the artifacts, and writes it."""

from __future__ import annotations

import io
import os
import pathlib
import platform
import subprocess
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import PIL.Image

from core.near_duplicates import NearDuplicate
from review import duplicates, near_duplicates
from review.report import schema

if TYPE_CHECKING:
    import pandas

REPORT, PICTURES, PAGE, CARD = "report.json", "images.zip", "report.html", "model_card.md"
MOST_PICTURES = 2000
# Up to so many classes -> pictures of each class: its worst mistakes, borderline, right; and of each pair.
SHARES = ((25, (12, 4, 4), 6), (250, (6, 2, 2), 3), (1 << 30, (4, 1, 1), 2))
SIDE = 96  # pixels; larger pictures are reduced
AS_PNG = 48  # pixels; pictures up to this side are kept without loss
LIBRARIES = ("tfx", "tensorflow", "keras", "tensorflow-model-analysis", "tensorflow-transform", "apache-beam")
DIRECTORY = pathlib.Path(__file__).resolve().parents[2]


Key = tuple[str, str]  # id of an example, digest of its pixels (empty in evaluations that kept none)


def choose(table: pandas.DataFrame, worst_first: Sequence[str], weak: Iterable[int] = ()) -> list[tuple[int, str]]:
    """Which test examples to show.

    Of every class its most confident mistakes, those that were nearly wrong, and right ones from the most to the
    least certain; then the most confident mistakes of each pair of classes, the most frequent pairs first.

    Args:
        table: from `predictions.read`.
        worst_first: the names of the classes; with very many the last ones get no picture.

    Returns:
        (row of the table, kind), by class in the order given; mistakes first, the most confident ones before others.
    """
    (mistakes, borderline, right), of_pair = next(
        (of_class, of_pair) for most, of_class, of_pair in SHARES if len(worst_first) <= most
    )
    table = table.assign(row=range(len(table)), wrong=table["label"] != table["predicted"])
    by_class = dict(list(table.groupby("class_name", sort=False)))
    kinds: dict[int, str] = {}

    def take(rows: Iterable[int], kind: str) -> None:
        for row in rows:
            if len(kinds) < MOST_PICTURES:
                kinds.setdefault(row, kind)

    take(weak, "mistake")
    for name in worst_first:
        if name not in by_class:
            continue
        part = by_class[name]
        wrong = part[part["wrong"]].sort_values("probability", ascending=False, kind="stable")
        good = part[~part["wrong"]].sort_values("probability", kind="stable")
        take(wrong["row"].head(mistakes), "mistake")
        take(good["row"].head(borderline), "borderline")
        certain = good["row"].iloc[borderline:]
        steps = max(1, len(certain) // right)
        take(certain.iloc[::-1].iloc[::steps].head(right), "right")
    wrong = table[table["wrong"]].sort_values("probability", ascending=False, kind="stable")
    pairs = sorted(wrong.groupby(["label", "predicted"]), key=lambda pair: -len(pair[1]))
    for _, part in pairs:
        take(part["row"].head(of_pair), "mistake")
    place = {name: number for number, name in enumerate(worst_first)}
    order = {"mistake": 0, "borderline": 1, "right": 2}
    names, probabilities = table["class_name"].tolist(), table["probability"].tolist()
    ahead = {"mistake": -1, "borderline": 1, "right": -1}
    return sorted(
        kinds.items(),
        key=lambda item: (place[names[item[0]]], order[item[1]], ahead[item[1]] * probabilities[item[0]], item[0]),
    )


def pictures(
    table: pandas.DataFrame,
    chosen: Sequence[tuple[int, str]],
    images: Mapping[Key, bytes],
    class_names: Sequence[str],
) -> tuple[list[schema.Picture], dict[str, bytes]]:
    """The chosen examples for the report, and the files for images.zip.

    Args:
        table: from `predictions.read`.
        chosen: from `choose`.
        images: the encoded image of each, as `wanted` names them.
        class_names: by label.
    """
    found, files = [], {}
    for number, (row, kind) in enumerate(chosen):
        record = table.iloc[row]
        content, width, height, form = reduced(images[key(record)])
        file = f"{number:05d}.{form}"
        files[file] = content
        top = zip(record["top"], record["top_probabilities"], strict=True)
        found.append(
            schema.Picture(
                file=file,
                id=record["id"],
                width=width,
                height=height,
                true=class_names[record["label"]],
                top=[(class_names[label], round(float(probability), 5)) for label, probability in top],
                kind=kind,
            )
        )
    return found, files


def key(record: Mapping[str, Any]) -> Key:
    """What names the image of a row of the predictions."""
    return record["id"], record.get("digest") or ""


def wanted(
    table: pandas.DataFrame, chosen: Sequence[tuple[int, str]], twins: duplicates.Chosen
) -> dict[str, set[Key]]:
    """The images that are needed, by split: of the chosen test examples, and one of each picture that is repeated."""
    found: dict[str, set[Key]] = {"test": {key(table.iloc[row]) for row, _ in chosen}}
    for pictures, _ in twins.values():
        for picture in pictures:
            first = duplicates.places(picture)[0]
            found.setdefault(first.split, set()).add((first.id, picture.digest))
    return found


def duplicate_pictures(
    twins: duplicates.Chosen, images: Mapping[Key, bytes]
) -> tuple[list[schema.DuplicatePicture], dict[str, bytes]]:
    """The pictures that several examples have, for the report, and the files for images.zip."""
    found, files = [], {}
    for kind, (pictures, _) in twins.items():
        for number, picture in enumerate(pictures):
            places = duplicates.places(picture)
            encoded = images.get((places[0].id, picture.digest))
            if encoded is None:  # another decoder than the ingest's gives other pixels
                continue
            content, width, height, form = reduced(encoded)
            file = f"{kind}-{number:02d}.{form}"
            files[file] = content
            found.append(
                schema.DuplicatePicture(
                    file=file, width=width, height=height, kind=kind, places=places, count=len(picture.examples)
                )
            )
    return found, files


def near_pairs(
    pairs: Sequence[NearDuplicate], images: Mapping[Key, bytes]
) -> tuple[list[schema.NearPair], dict[str, bytes]]:
    """Pairs of pictures that are nearly the same, for the report, and the files for images.zip."""
    found, files = [], {}
    for number, pair in enumerate(pairs):
        made = []
        for which, (member, digest) in zip("ab", near_duplicates.sides(pair), strict=True):
            encoded = images.get((member.id, digest))
            if encoded is None:  # as for duplicates
                break
            content, width, height, form = reduced(encoded)
            file = f"near-{number:02d}{which}.{form}"
            files[file] = content
            made.append(schema.NearPicture(file=file, width=width, height=height, place=member))
        else:
            example, known = made
            found.append(
                schema.NearPair(
                    example=example, known=known, likeness=round(pair.likeness, 4), mirrored=pair.mirrored
                )
            )
    return found, files


def reduced(encoded: bytes) -> tuple[bytes, int, int, str]:
    """An image made small enough for a page: its bytes, width, height, and "png" or "jpg"."""
    with PIL.Image.open(io.BytesIO(encoded)) as opened:
        image = opened.convert("RGB")
    image.thumbnail((SIDE, SIDE), PIL.Image.Resampling.LANCZOS)
    form, options = ("PNG", {}) if max(image.size) <= AS_PNG else ("JPEG", {"quality": 88})
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue(), *image.size, {"PNG": "png", "JPEG": "jpg"}[form]


def versions() -> dict[str, str]:
    """Of Python, the libraries that matter, and this code."""
    found = {"python": platform.python_version()}
    found |= {name: metadata.version(name) for name in LIBRARIES}
    commit = os.environ.get("ALEXNET_COMMIT") or _git()  # an image has no .git
    return found | ({"commit": commit} if commit else {})


def _git() -> str | None:
    """The commit of this checkout, marked where files differ from it; None outside of one."""
    command = ["git", "-C", str(DIRECTORY), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def zipped(files: Mapping[str, bytes]) -> bytes:
    """The pictures as one file; the same pictures give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def unzipped(content: bytes) -> dict[str, bytes]:
    """The pictures in images.zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def to_json(report: schema.Report) -> str:
    """The content of report.json."""
    return report.model_dump_json()
