"""Near-duplicates across splits: on cuttings of two real photographs, and on what must not be taken for any."""

import io
import itertools

import imagehash
import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_sample_image

from components import near_duplicates, shapes
from components.near_duplicates import SIDE, Seen, find, hashes, likeness, luma, pack, thumbnail, within
from core import images
from core.near_duplicates import NearDuplicate
from core.repeated import Member, Repeated

BLOCK = 64  # side of a cutting, pixels


@pytest.fixture(scope="module")
def photographs():
    return [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]


def cut(photograph, row, column, down=0, right=0, trim=0):
    """A block of a photograph, moved and trimmed by some pixels."""
    top, left = row * BLOCK + down + trim, column * BLOCK + right + trim
    return photograph[top : top + BLOCK - 2 * trim, left : left + BLOCK - 2 * trim]


@pytest.fixture(scope="module")
def cuttings(photographs):
    """108 pictures that do not overlap, many of them of sky, or of leaves out of focus."""
    return [cut(one, row, column) for one in photographs for row in range(6) for column in range(9)]


def scaled(pixels, side):
    return np.asarray(PIL.Image.fromarray(pixels).resize((side, side), PIL.Image.Resampling.BICUBIC))


def compressed(pixels, quality):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(buffer))


def lit(pixels, gain, offset):
    return np.clip(pixels * gain + offset, 0, 255).astype(np.uint8)


CHANGES = {
    "brighter": lambda pixels: np.rint(255 * (pixels / 255) ** 0.7).astype(np.uint8),
    "of less contrast": lambda pixels: lit(pixels, 0.7, 30),
    "compressed": lambda pixels: compressed(pixels, 50),
    "scaled": lambda pixels: scaled(pixels, 40),
    "trimmed": lambda pixels: scaled(pixels[2:-2, 2:-2], BLOCK),
    "mirrored": lambda pixels: pixels[:, ::-1],
}


def seen(split, pictures, class_name="cat"):
    return [
        Seen(split, class_name, f"{split}-{number:04d}", images.digest(pixels), thumbnail(pixels))
        for number, pixels in enumerate(pictures)
    ]


def search(*examples, pictures=()):
    """What is found among examples, in tables as the ingest makes them."""
    tables = list(pack(itertools.chain(*examples)))
    return find(lambda: iter(tables), pictures)


def thumbnails(pictures):
    made = [np.frombuffer(thumbnail(pixels), np.uint8).reshape(SIDE, SIDE, 3) for pixels in pictures]
    return np.stack(made)


def test_the_hash_is_the_librarys(cuttings):
    """Of the same thumbnail, but for coefficients that lie on the median as far as float64 can tell."""
    small = thumbnails(cuttings)
    for pixels, found in zip(small, hashes(luma(small)).tolist(), strict=True):
        library = imagehash.phash(PIL.Image.fromarray(pixels), hash_size=8, highfreq_factor=SIDE // 8)
        assert f"{found:016x}" == str(library)


def brute_force(queries, known, radius):
    distances = np.bitwise_count(queries[:, None] ^ known[None, :])
    return {(int(a), int(b)) for a, b in np.argwhere(distances <= radius)}


def test_all_hashes_that_are_near_are_found_most_beyond_and_no_others():
    random = np.random.default_rng(1)
    known = random.integers(0, 2**64, 3000, np.uint64)
    queries = random.integers(0, 2**64, 1000, np.uint64)
    for row in range(900):  # a neighbour at each distance, some too far
        bits = random.choice(64, row % (near_duplicates.RADIUS + 4), replace=False).astype(np.uint64)
        queries[row] = known[row] ^ np.bitwise_or.reduce(np.uint64(1) << bits, initial=np.uint64(0))
    sure, allowed = (brute_force(queries, known, most) for most in (near_duplicates.SURE, near_duplicates.RADIUS))
    found = set(zip(*(part.tolist() for part in within(queries, known)), strict=True))
    assert sure <= found <= allowed
    assert len(sure) < 0.5 * len(sure) + 0.5 * len(allowed) < len(found)


@pytest.mark.parametrize(("queries", "known"), [(0, 0), (3, 0), (0, 3)])
def test_nothing_is_near_nothing(queries, known):
    found = within(np.zeros(queries, np.uint64), np.zeros(known, np.uint64))
    assert [part.tolist() for part in found] == [[], []]


def test_where_all_hashes_are_the_same_only_some_are_compared():
    query, place = within(np.zeros(300, np.uint64), np.zeros(10_000, np.uint64))
    assert np.bincount(query).tolist() == [near_duplicates.NEAREST] * 300
    assert len(set(zip(query.tolist(), place.tolist(), strict=True))) == len(query)


def test_the_nearest_hashes_are_kept_of_many():
    known = np.array([(1 << bits) - 1 for bits in range(12)] * 3, np.uint64)
    _, place = within(np.zeros(1, np.uint64), known)
    distances = np.bitwise_count(known[place])
    assert sorted(distances) == sorted(np.bitwise_count(known))[: near_duplicates.NEAREST]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_pictures_are_found_again_and_each_is_named_with_its_original(change, cuttings):
    changed = [change(pixels) for pixels in cuttings]
    found = search(seen("train", cuttings), seen("test", changed))
    named = {one.example.id: one.known.id for one in found}
    assert all(known == id.replace("test", "train") for id, known in named.items())
    assert len(found) > 0.8 * len({*of_structure(cuttings)} & {*of_structure(changed)})
    assert all(one.mirrored == (change is CHANGES["mirrored"]) for one in found)


def of_structure(pictures):
    lumas = luma(thumbnails(pictures))
    return np.flatnonzero(near_duplicates.structure(lumas) >= near_duplicates.LEAST_STRUCTURE)


def test_cuttings_that_do_not_overlap_are_no_near_duplicates(cuttings):
    assert search(seen("train", cuttings[::2]), seen("test", cuttings[1::2])) == []


def test_pictures_without_structure_are_near_duplicates_of_none():
    random = np.random.default_rng(0)
    flat = [np.full((32, 32, 3), value, np.uint8) for value in (0, 90, 91, 255)]
    ramps = [
        np.broadcast_to(np.linspace(low, 255, 32)[:, None, None], (32, 32, 3)).astype(np.uint8) for low in (0, 5)
    ]
    noisy = [np.clip(random.normal(90, 2, (32, 32, 3)), 0, 255).astype(np.uint8) for _ in range(4)]
    pictures = [*flat, *ramps, *noisy]
    assert search(seen("train", pictures), seen("test", [lit(one, 1.0, 1) for one in pictures])) == []


def test_drawn_shapes_look_alike_and_are_no_near_duplicates():
    train, test = (shapes.draw(range(1500), split)[0] for split in ("train", "test"))
    assert search(seen("train", train), seen("test", test)) == []


def test_numbers_are_those_of_comparing_all_with_all(cuttings):
    """With the hashes deciding who is compared."""
    changed = [change(pixels) for pixels, change in zip(cuttings, itertools.cycle(CHANGES.values()), strict=False)]
    known, queries = thumbnails(cuttings), thumbnails(changed)
    both = itertools.product(of_structure(changed).tolist(), of_structure(cuttings).tolist())
    query, place = np.array(list(both)).T
    expected = {}
    for asked in (queries, queries[:, :, ::-1]):
        alike = likeness(asked[query], known[place])
        distance = np.bitwise_count(hashes(luma(asked))[query] ^ hashes(luma(known))[place])
        for pair in np.flatnonzero((alike >= near_duplicates.EDGES) & (distance <= near_duplicates.SURE)):
            expected.setdefault(int(query[pair]), []).append((float(alike[pair]), int(place[pair])))
    found = {int(one.example.id[-4:]): one for one in search(seen("train", cuttings), seen("test", changed))}
    assert len(expected) > 50
    for row, pairs in expected.items():
        alike, known_row = max(pairs)
        assert found[row].likeness >= alike
        if found[row].likeness == alike:
            assert found[row].known.id == f"train-{known_row:04d}"
    assert len(found) <= len(changed)


def test_found_ones_come_least_alike_first(cuttings):
    found = search(seen("train", cuttings), seen("test", [CHANGES["trimmed"](one) for one in cuttings]))
    assert [one.likeness for one in found] == sorted(one.likeness for one in found)
    assert all(near_duplicates.EDGES <= one.likeness <= 1 for one in found)


def test_each_split_is_compared_with_those_before_it(cuttings):
    one, two, three = (cuttings[row] for row in of_structure(cuttings)[:3])
    change = CHANGES["brighter"]
    found = search(
        seen("train", [one]),
        seen("validation", [change(one), two]),
        seen("test", [change(two), three, change(three)]),
    )
    assert [(each.example, each.known) for each in found] == [
        (Member("test", "cat", "test-0000"), Member("validation", "cat", "validation-0001")),
        (Member("validation", "cat", "validation-0000"), Member("train", "cat", "train-0000")),
    ]


def test_pictures_that_are_in_an_earlier_split_pixel_by_pixel_are_no_near_ones(cuttings):
    one = cuttings[of_structure(cuttings)[0]]
    train, test = seen("train", [one, CHANGES["brighter"](one)]), seen("test", [one])
    assert len(search(train, test)) == 1
    exact = Repeated(train[0].digest.hex(), tuple(Member(*each[:3]) for each in (train[0], test[0])))
    assert search(train, test, pictures=[exact]) == []
    within_train = Repeated(train[0].digest.hex(), (Member("train", "cat", "a"), Member("train", "cat", "b")))
    assert len(search(train, test, pictures=[within_train])) == 1


def test_the_order_of_the_examples_changes_nothing(cuttings):
    examples = [*seen("train", [*cuttings, *cuttings]), *seen("test", [CHANGES["trimmed"](one) for one in cuttings])]
    shuffled = [examples[row] for row in np.random.default_rng(3).permutation(len(examples))]
    assert search(examples) == search(shuffled) != []


def test_large_pictures_and_thin_ones_have_a_thumbnail():
    large = np.repeat(np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 200, 0), 150, 1)
    pixels = np.stack([large] * 3, -1)
    found = np.frombuffer(thumbnail(pixels), np.uint8).reshape(SIDE, SIDE, 3)
    assert found[..., 0].tolist() == np.arange(256).reshape(16, 16).tolist()
    for shape in ((1, 1, 3), (1, 4000, 3), (3, 2, 3)):
        assert len(thumbnail(np.zeros(shape, np.uint8))) == SIDE * SIDE * 3


def test_a_near_duplicate_is_read_as_it_was_written():
    import dataclasses
    import json

    one = NearDuplicate(Member("test", "cat", "1"), Member("train", "dog", "2"), "a", "b", 0.95, True)
    assert NearDuplicate.read(json.loads(json.dumps(dataclasses.asdict(one)))) == one
    assert one.contradicting
