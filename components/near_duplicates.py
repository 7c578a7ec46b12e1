"""Finds examples of a later split whose pictures are nearly, though not pixel by pixel, those of an earlier one.

Such as the same photograph cut, scaled, brightened or compressed in another way: a model knows it from its training.
CIFAR-10 has them (Barz and Denzler, Do We Train on Test Data? Purging CIFAR of Near-Duplicates, 2020).

The ingest makes a thumbnail of each picture, and of thumbnails a perceptual hash: the signs of the lowest frequencies
(Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010; bit by bit that of Buchner's
imagehash, which takes one picture at a time). Examples whose hashes differ in few bits are found by multi-index
hashing (Norouzi, Punjani and Fleet, Fast Search in Hamming Space with Multi-Index Hashing, 2012), and those are
compared by their thumbnails. Pictures without structure, which all look alike, are near-duplicates of none.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.compute
import scipy.fft
import tensorflow as tf
from tfx.dsl.io import fileio

from core.near_duplicates import NearDuplicate
from core.repeated import SPLITS, Member, Repeated

SIDE = 16  # of a thumbnail, pixels
ROWS = 4096  # of a table
FREQUENCIES = 8  # in each direction that are hashed: 64 bits
CHUNK = 16  # bits of a hash that are looked up at once
FLIPS = 2  # of these that may differ
SURE = 64 // CHUNK * (FLIPS + 1) - 1  # bits of a hash that may: then FLIPS or less do in at least one chunk
RADIUS = 16  # bits of a hash that may differ where it is found by its chunks nevertheless
PAIRS = 128  # that are compared at once: they fit the processor's cache
CROWD = 2000  # hashes with a chunk in common that are looked at
NEAREST = 16  # by the hash, that are looked at
ALIKE = 3  # of these, at a glance, that are compared
SHIFT = 1  # pixels by which a thumbnail may be moved against the other, each way
# Chosen by looking at the pairs of CIFAR-10's test and training pictures; benchmarks.near_duplicates shows them.
LEAST_STRUCTURE = 4.0  # see `structure`
EDGES = 0.45  # see `likeness`
PIXELS = 0.88
GLANCE = 0.85
SPLIT, CLASS_NAME, ID, DIGEST, HASH, MIRRORED, THUMBNAIL = (
    "split", "class_name", "id", "digest", "hash", "mirrored", "thumbnail",
)  # fmt: skip
SCHEMA = pyarrow.schema(
    [
        (SPLIT, pyarrow.int8()),  # its place in SPLITS
        (CLASS_NAME, pyarrow.string()),
        (ID, pyarrow.string()),
        (DIGEST, pyarrow.binary(16)),  # of the pixels
        (HASH, pyarrow.uint64()),
        (MIRRORED, pyarrow.uint64()),  # the hash of the mirrored picture
        (THUMBNAIL, pyarrow.binary(SIDE * SIDE * 3)),
    ]
)


class Seen(NamedTuple):
    """What is kept of an example until all are there: `digest` is of its pixels, `thumbnail` from `thumbnail`."""

    split: str
    class_name: str
    id: str
    digest: bytes
    thumbnail: bytes


def thumbnail(pixels: np.ndarray) -> bytes:
    """Pixels uint8 [height, width, 3] reduced to the means of SIDE x SIDE areas: uint8 [SIDE, SIDE, 3] as bytes."""
    height, width, _ = pixels.shape
    image = PIL.Image.frombuffer("RGB", (width, height), np.ascontiguousarray(pixels), "raw", "RGB", 0, 1)
    gap = 2.0 if min(height, width) > 8 * SIDE else None  # large ones are first reduced by a whole factor: faster
    return image.resize((SIDE, SIDE), PIL.Image.Resampling.BOX, reducing_gap=gap).tobytes()


def pack(examples: Iterable[Seen]) -> Iterator[bytes]:
    """Tables of SCHEMA as Arrow streams, of ROWS examples at most.

    Examples whose pictures have too little structure to be told from others are left out.
    """
    remaining = iter(examples)
    while part := list(itertools.islice(remaining, ROWS)):
        lumas = luma(_pixels([example.thumbnail for example in part]))
        chosen = np.flatnonzero(structure(lumas) >= LEAST_STRUCTURE)
        kept = [part[row] for row in chosen]
        columns = {
            SPLIT: [SPLITS.index(example.split) for example in kept],
            CLASS_NAME: [example.class_name for example in kept],
            ID: [example.id for example in kept],
            DIGEST: [example.digest for example in kept],
            HASH: hashes(lumas[chosen]),
            MIRRORED: hashes(lumas[chosen][:, :, ::-1]),
            THUMBNAIL: [example.thumbnail for example in kept],
        }
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, SCHEMA) as writer:
            writer.write_table(pyarrow.table(columns, SCHEMA))
        yield sink.getvalue().to_pybytes()


def read(folder: str) -> Iterator[bytes]:
    """The tables in a folder of TFRecord files."""
    files = sorted(map(str, fileio.glob(os.path.join(folder, "*"))))
    return tf.data.TFRecordDataset(files).as_numpy_iterator()


def luma(pixels: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] to float64 [...], whole numbers: rounded as Pillow does it (ITU-R 601-2)."""
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.float64)


def structure(lumas: np.ndarray) -> np.ndarray:
    """How much there is to be seen in thumbnails, of which the luma [n, SIDE, SIDE] is given: float64 [n].

    It is the standard deviation of the differences between neighbours: 0 of one colour, and of any ramp.
    """
    down, right = np.diff(lumas, axis=1), np.diff(lumas, axis=2)
    return np.sqrt((down.var(axis=(1, 2)) + right.var(axis=(1, 2))) / 2)


def hashes(lumas: np.ndarray) -> np.ndarray:
    """The perceptual hashes of thumbnails, of which the luma [n, SIDE, SIDE] is given: uint64 [n].

    A bit is set where a coefficient of the discrete cosine transform is above the median of those that are hashed.
    The highest bit is the mean's, then come the frequencies along a row, the lowest first.
    """
    coefficients = (_COSINES @ lumas @ _COSINES.T).reshape(-1, FREQUENCIES**2)
    half = FREQUENCIES**2 // 2
    medians = np.sort(coefficients, axis=1)[:, half - 1 : half + 1].mean(axis=1, keepdims=True)  # faster than median
    return np.packbits(coefficients > medians, axis=1).view(">u8").astype(np.uint64).reshape(-1)


_COSINES = scipy.fft.dct(np.eye(SIDE), axis=0)[:FREQUENCIES]


def likeness(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How much alike thumbnails uint8 [n, SIDE, SIDE, 3] are, pair by pair: float64 [n], at most 1.

    It is the correlation of their edges, at the best of all shifts by SHIFT pixels at most; 0 where the values
    themselves, at this shift, correlate less than PIXELS. Of an edge the sign alone counts: were its height to count,
    all dark things of one outline before a bright sky would be the same, whatever else there is to be seen.
    """
    values, other_values = first.astype(np.float64), second.astype(np.float64)
    edges, others = _edges(values), _edges(other_values)
    best, at_best = np.full(len(first), -1.0), np.zeros(len(first))
    for shift in itertools.product(range(-SHIFT, SHIFT + 1), repeat=2):
        found = _correlation(*_shifted(edges, others, *shift))
        better = np.flatnonzero(found > best)
        best[better] = found[better]
        at_best[better] = _correlation(*_shifted(values[better], other_values[better], *shift))
    return np.where(at_best >= PIXELS, best, 0.0)


def _edges(values: np.ndarray) -> np.ndarray:
    """Whether the neighbours below and to the right are darker (-1), the same (0) or brighter (1), in each channel.

    float32 [n, SIDE - 1, SIDE - 1, 6]. It is a census transform (Zabih and Woodfill, Non-parametric Local Transforms
    for Computing Visual Correspondence, 1994).
    """
    corner = values[:, :-1, :-1]
    steps = np.concatenate([values[:, 1:, :-1] - corner, values[:, :-1, 1:] - corner], axis=-1)
    return np.sign(steps).astype(np.float32)


def _shifted(first: np.ndarray, second: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """What [n, height, width, ...] have in common where the second is moved."""
    _, height, width, *_ = first.shape
    here = first[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    there = second[:, max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)]
    return here, there


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of floats [n, height, width, channels], less the means of channels: float64 [n], 0 where one is constant.

    The values are whole numbers, and so are all sums: these are the same on every processor.
    """
    number, height, width, channels = first.shape
    one, other = (part.reshape(number, height * width * channels) for part in (first, second))
    sums = [part.reshape(number, height * width, channels).sum(axis=1) for part in (one, other)]

    def product(a: np.ndarray, b: np.ndarray, sum_a: np.ndarray, sum_b: np.ndarray) -> np.ndarray:
        found = height * width * np.einsum("nk,nk->n", a, b) - np.einsum("nc,nc->n", sum_a, sum_b)
        return found.astype(np.float64)

    norm = np.sqrt(product(one, one, sums[0], sums[0])) * np.sqrt(product(other, other, sums[1], sums[1]))
    return np.divide(product(one, other, *sums), norm, out=np.zeros(number), where=norm > 0)


def within(queries: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which hashes differ in RADIUS bits at most: places in `queries` and in `known`, two int64 [pairs].

    Of each query no more than the NEAREST. All that differ in SURE bits or less are found, and most of the others;
    unless more than CROWD of the known have CHUNK bits in common: so it is in data that are all alike, and this keeps
    their time in bounds.

    Args:
        queries: uint64 [q].
        known: uint64 [k].
    """
    found = [np.empty([2, 0], np.int64)]
    index = [_Chunks(known, number) for number in range(64 // CHUNK)]
    for start in range(0, len(queries) if len(known) else 0, 256):
        part = queries[start : start + 256]
        query, place = np.divmod(np.unique(np.concatenate([chunks.pairs(part) for chunks in index])), len(known))
        distance = np.bitwise_count(part[query] ^ known[place])
        order = np.lexsort((place, distance, query))
        firsts = np.searchsorted(query, query)  # where the pairs of the same query begin
        order = order[np.arange(len(order)) - firsts < NEAREST]
        found.append(np.stack([start + query[order], place[order]]))
    query, place = np.concatenate(found, axis=1)
    return query, place


_FLIPPED = np.array([bits for bits in range(1 << CHUNK) if bits.bit_count() <= FLIPS], np.int64)


class _Chunks:
    """The known hashes by one of their chunks."""

    def __init__(self, known: np.ndarray, number: int) -> None:
        self._shift = np.uint64(number * CHUNK)
        self._known = known
        chunk = self._of(known)
        self._order = np.lexsort((known, chunk))
        self._starts = np.concatenate([[0], np.bincount(chunk, minlength=1 << CHUNK).cumsum()])

    def _of(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> self._shift).astype(np.uint16).astype(np.int64)

    def pairs(self, queries: np.ndarray) -> np.ndarray:
        """Those within RADIUS bits: place in `queries` times the number of the known, plus place in these."""
        wanted = (self._of(queries)[:, None] ^ _FLIPPED).reshape(-1)
        starts = self._starts[wanted]
        counts = np.minimum(self._starts[wanted + 1] - starts, CROWD)
        ends = counts.cumsum()
        query = np.repeat(np.arange(len(wanted)) // len(_FLIPPED), counts)
        place = self._order[np.repeat(starts - ends + counts, counts) + np.arange(len(query))]
        near = np.bitwise_count(queries[query] ^ self._known[place]) <= RADIUS
        return query[near] * len(self._known) + place[near]


def find(read: Callable[[], Iterable[bytes]], pictures: Iterable[Repeated] = ()) -> list[NearDuplicate]:
    """Of each example of a later split the one of the splits before it that is most alike, if it is alike enough.

    Args:
        read: gives the tables. It is called twice: of all examples, 82 bytes each are held in memory, and the rest of
            those alone that are alike at a glance.
        pictures: that several examples have. Those that are in an earlier split pixel by pixel are not looked for.

    Returns:
        Those of the test split first, and the least alike first.
    """
    query, known, mirrored = _near_at_a_glance(read, pictures)
    rows, places = np.unique([query, known], return_inverse=True)
    taken = _take(read, rows)
    pixels = _pixels(taken[THUMBNAIL].to_pylist())
    first, second = places.reshape(2, -1)
    names = [taken[column].to_pylist() for column in (SPLIT, CLASS_NAME, ID)]
    members = [Member(SPLITS[split], *rest) for split, *rest in zip(*names, strict=True)]
    digests = [digest.hex() for digest in taken[DIGEST].to_pylist()]
    best: dict[int, tuple[tuple, NearDuplicate]] = {}
    for start in range(0, len(first), PAIRS):
        batch = slice(start, start + PAIRS)
        asked = pixels[first[batch]]
        asked = np.where(mirrored[batch, None, None, None], asked[:, :, ::-1], asked)
        values = likeness(asked, pixels[second[batch]])
        for pair in np.flatnonzero(values >= EDGES):
            one, other, turned = (int(part[batch][pair]) for part in (first, second, mirrored))
            made = NearDuplicate(
                example=members[one],
                known=members[other],
                digest=digests[one],
                known_digest=digests[other],
                likeness=float(values[pair]),
                mirrored=bool(turned),
            )
            # The order in which workers were done must not decide between two that are equally alike.
            rank = (-made.likeness, made.mirrored, SPLITS.index(made.known.split), made.known, made.known_digest)
            if one not in best or rank < best[one][0]:
                best[one] = rank, made
    found = [made for _, made in best.values()]
    return sorted(found, key=lambda one: (-SPLITS.index(one.example.split), one.likeness, one.example, one.digest))


def _near_at_a_glance(
    read: Callable[[], Iterable[bytes]], pictures: Iterable[Repeated]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs whose hashes are near and that are alike at a glance.

    Returns:
        Rows of the examples, rows of the known ones, both int64 [pairs], and whether the first is mirrored.
    """
    pictures = list(pictures)
    leaked = [
        pyarrow.array([bytes.fromhex(each.digest) for each in pictures if each.leaked(split)], pyarrow.binary(16))
        for split in SPLITS[1:]
    ]
    parts = []
    for packed in read():
        table = _unpack(packed)
        split = table[SPLIT].to_numpy()
        exact = [pyarrow.compute.is_in(table[DIGEST], value_set=digests).to_numpy() for digests in leaked]
        asked = (split > 0) & ~np.choose(np.maximum(split, 1) - 1, exact)
        small = _halves(_pixels(table[THUMBNAIL].to_pylist()))
        parts.append((split, asked, table[HASH].to_numpy(), table[MIRRORED].to_numpy(), small))
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool))]
    if parts:
        split, asked, hashed, mirrored, halves = map(np.concatenate, zip(*parts, strict=True))
        for later in range(1, len(SPLITS)):
            queries, known = np.flatnonzero(asked & (split == later)), np.flatnonzero(split < later)
            for turned, wanted in ((False, hashed), (True, mirrored)):
                query, place = within(wanted[queries], hashed[known])
                query, place = queries[query], known[place]
                alike = _alike_at_a_glance(halves, query, place, turned)
                found.append((query[alike], place[alike], np.full(len(alike), turned)))
    queries, known, turned_ones = map(np.concatenate, zip(*found, strict=True))
    return queries, known, turned_ones


def _halves(pixels: np.ndarray) -> np.ndarray:
    """Thumbnails at half their side, the mean of the colours: uint8 [n, SIDE / 2, SIDE / 2]."""
    sums = pixels.reshape(-1, SIDE // 2, 2, SIDE // 2, 6).sum(axis=(2, 4), dtype=np.int32)
    return (sums // 12).astype(np.uint8)


def _alike_at_a_glance(halves: np.ndarray, first: np.ndarray, second: np.ndarray, turned: bool) -> np.ndarray:
    """Which pairs, rows of `halves`, correlate by GLANCE: int64 [found], of each first one ALIKE at most, the best.

    At half the side a shift counts less.
    """
    parts = [np.empty(0)]
    for start in range(0, len(first), PAIRS):
        here, there = (halves[rows[start : start + PAIRS]].astype(np.float64) for rows in (first, second))
        parts.append(_correlation((here[:, :, ::-1] if turned else here)[..., None], there[..., None]))
    found = np.concatenate(parts)
    order = np.lexsort((-found, first))
    places = np.arange(len(order)) - np.searchsorted(first[order], first[order])
    chosen = order[places < ALIKE]
    return chosen[found[chosen] >= GLANCE]


def _take(read: Callable[[], Iterable[bytes]], rows: np.ndarray) -> pyarrow.Table:
    """Some rows of the tables, in their order."""
    taken, before = [SCHEMA.empty_table()], 0
    for packed in read():
        table = _unpack(packed)
        low, high = np.searchsorted(rows, [before, before + len(table)])
        taken.append(table.take(pyarrow.array(rows[low:high] - before)))
        before += len(table)
    return pyarrow.concat_tables(taken)


def _unpack(packed: bytes) -> pyarrow.Table:
    return pyarrow.ipc.open_stream(packed).read_all()


def _pixels(thumbnails: list[bytes]) -> np.ndarray:
    """uint8 [n, SIDE, SIDE, 3]."""
    return np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, SIDE, SIDE, 3)
