"""Draws small labelled pictures of ten geometric shapes with numpy alone; `components.shapes10` makes a data set.

    images, labels = draw(range(1000), split="train")
    inside = masks(range(1000), split="train")  # where the shapes are

A picture is one filled shape on a background: flat, gradient, cloudy, striped or chequered. Place, size, turn,
colours, sharpness and sensor noise vary; the shape may be lighter or darker than what is behind it, and a bar or
a blob may cover part of it. Most shapes stand nearly upright. It is a synthetic stand-in for a photo data set,
made so that a linear model fails and a small convolutional network does well without being perfect: circle and
ellipse, square and rectangle differ only in their aspect ratio.

Picture `index` of a split depends on nothing but `(split, index)` and is the same, byte for byte, on every machine
and for every batch it is drawn in. That is why the random numbers are raw Philox words (numpy promises that stream,
but not those of `Generator`), why the arithmetic is +, -, *, / and sqrt in float32 (IEEE rounds these exactly;
sin, exp and matrix products differ between processors), and why nothing is summed over an axis.

Lengths are in pixels, x to the right and y down, from the centre of the picture. Luma and colour run from 0 to 1.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable

import numpy as np

CLASSES = (
    "circle",
    "crescent",
    "cross",
    "ellipse",
    "pentagon",
    "rectangle",
    "ring",
    "square",
    "star",
    "triangle",
)
SIDE = 32  # height and width of a picture, pixels
SPLITS = {"train": 0, "test": 1}  # the number is part of the random key: never renumber

Array = np.ndarray
Shape = Callable[[Array, Array, Array, Array, Array], Array]

_KEY = 0x5A4E5  # with the split's number the key of Philox; another key is another data set
_BATCH = 200  # pictures drawn at once: the working arrays then stay in the processor's cache

# Random 64-bit words of one picture, in this order.
_COARSE, _FINE = 4, 9  # cells along a side of the two layers of the cloudy background
_PARAMETER_WORDS = 48
_CLOUD_WORDS = (_COARSE + 1) ** 2 + (_FINE + 1) ** 2
_NOISE_WORDS = 3 * SIDE * SIDE * 2 // 8  # two bytes for each value
_WORDS = _PARAMETER_WORDS + _CLOUD_WORDS + _NOISE_WORDS

_GRID = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
_X, _Y = _GRID[None, None, :], _GRID[None, :, None]

# Directions all round, [512, 2]. Rounded to 1/4096, so the last digit of the C library's cosine cannot matter.
_ANGLES = 2 * np.pi * np.arange(512) / 512
_TURNS = (np.round(np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1) * 4096) / 4096).astype(np.float32)
_COS36, _SIN36 = 0.809017, 0.587785
_COS72, _SIN72 = 0.309017, 0.951057


def labels_of(indices: Iterable[int], split: str = "train") -> Array:
    """The classes of the pictures `indices` of `split`: positions in `CLASSES`, int64 [n].

    Every ten pictures from a multiple of ten hold each class once, in random order; so the first n pictures are
    balanced for any n, to within one.
    """
    indices = _checked(indices, split)
    blocks, where = np.unique(indices // len(CLASSES), return_inverse=True)
    orders = np.empty((len(blocks), len(CLASSES)), np.int64)
    for row, block in enumerate(blocks):
        words = _words(split, int(block), len(CLASSES), purpose=1)
        orders[row] = np.argsort(words, kind="stable")
    return orders[where, indices % len(CLASSES)]


def draw(indices: Iterable[int], split: str = "train") -> tuple[Array, Array]:
    """The pictures `indices` of `split`: images uint8 [n, 32, 32, 3] (RGB) and labels int64 [n].

    Any index from 0 is allowed, in any order; how many of them a data set uses is the data set's choice.
    """
    images, _, labels = _drawn(indices, split)
    return images, labels


def masks(indices: Iterable[int], split: str = "train") -> Array:
    """Where the shapes of the pictures `indices` of `split` are: bool [n, 32, 32].

    True inside of the shape, also where a bar or a blob covers it; false in the hole of a ring.
    """
    return _drawn(indices, split)[1]


def _drawn(indices: Iterable[int], split: str) -> tuple[Array, Array, Array]:
    """Images, masks and labels."""
    indices = _checked(indices, split)
    labels = labels_of(indices, split)
    images = np.empty((len(indices), SIDE, SIDE, 3), np.uint8)
    inside = np.empty((len(indices), SIDE, SIDE), bool)
    for start in range(0, len(indices), _BATCH):
        part = slice(start, start + _BATCH)
        words = np.stack([_words(split, int(index), _WORDS, purpose=0) for index in indices[part]])
        images[part], inside[part] = _render(words, labels[part])
    return images, inside, labels


def _checked(indices: Iterable[int], split: str) -> Array:
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}: there are {', '.join(SPLITS)}")
    numbers = np.fromiter((operator.index(index) for index in indices), np.int64)
    if numbers.size and numbers.min() < 0:
        raise ValueError(f"a picture's index is 0 or more, not {numbers.min()}")
    return numbers


def _words(split: str, index: int, count: int, purpose: int) -> Array:
    """`count` random words, uint64: Philox counts up in word 0 of its counter, so no two pictures overlap."""
    return np.random.Philox(key=[_KEY, SPLITS[split]], counter=[0, index, purpose, 0]).random_raw(count)


def _uniform(words: Array) -> Array:
    """float32 in [0, 1) from the upper 24 bits of each random word; exact."""
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


class _Deal:
    """Hands out the parameters of n pictures one after the other; the order of the calls is part of the data."""

    def __init__(self, words: Array) -> None:
        self._uniform = _uniform(words)
        self._next = 0

    def __call__(self, low: float | Array = 0.0, high: float | Array = 1.0) -> Array:
        """Uniform in [low, high), float32 [n, 1, 1], to go with pictures [n, 32, 32]."""
        column = self._uniform[:, self._next, None, None]
        self._next += 1
        return low + (high - low) * column

    def turn(self, most: float | Array = 0.5) -> tuple[Array, Array]:
        """Cosine and sine of a random angle of at most `most` turns to either side, each float32 [n, 1, 1]."""
        pair = _TURNS[np.floor(self(-most, most) * len(_TURNS)).astype(np.int64)]
        return pair[..., 0], pair[..., 1]

    def one_of(self, *weights: float) -> Array:
        """Which of the weighted choices, int64 [n]."""
        edges = np.cumsum(weights)[:-1] / sum(weights)
        return np.searchsorted(edges.astype(np.float32), self().ravel(), side="right")


# The shapes. Each takes x, y [n, 32, 32] in the frame of the shape, its size [n, 1, 1] in pixels and two free
# numbers u, v [n, 1, 1] in [0, 1), and gives the distance to its edge in pixels, negative inside. It has to be
# right near the edge only. The sizes are chosen so that all shapes of one size cover about the same area.


def _length(x: Array, y: Array) -> Array:
    return np.sqrt(x * x + y * y)


def _box(x: Array, y: Array, half_width: Array, half_height: Array) -> Array:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _circle(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    return _length(x, y) - size


def _crescent(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    outer = 1.25 * size
    bite = outer * (0.8 + 0.2 * u)
    thickness = outer * (0.5 + 0.3 * v)
    return np.maximum(_length(x, y) - outer, bite - _length(x - (bite + thickness - outer), y))


def _cross(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    reach = 1.3 * size
    arm = reach * (0.26 + 0.14 * u)
    return np.minimum(_box(x, y, reach, arm), _box(x, y, arm, reach))


def _aspect(u: Array) -> Array:
    """Square root of how many times longer than wide an ellipse or a rectangle is: 1.3 to 1.8 times."""
    return np.sqrt(1.3 + 0.5 * u)


def _ellipse(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    a, b = size * _aspect(u), size / _aspect(u)
    x, y = x / a, y / b
    level = _length(x, y)
    return level * (level - 1) / (_length(x / a, y / b) + 1e-6)  # to first order; exact on the edge


def _pentagon(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    x = np.abs(x)
    sides = np.maximum(y, _SIN72 * x + _COS72 * y)
    return np.maximum(sides, _SIN36 * x - _COS36 * y) - 0.93 * size


def _rectangle(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    return _box(x, y, 0.886 * size * _aspect(u), 0.886 * size / _aspect(u))


def _ring(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    outer = 1.12 * size
    hole = outer * (0.34 + 0.32 * u)
    radius = _length(x, y)
    return np.maximum(radius - outer, hole - radius)


def _square(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    return _box(x, y, 0.886 * size, 0.886 * size)


def _star(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    tip = 1.5 * size
    notch = tip * (0.4 + 0.14 * u)
    x = np.abs(x)
    for side in (1.0, -1.0):  # fold all five points onto the one that points along +y
        over = 2 * np.maximum(side * _COS36 * x - _SIN36 * y, 0)
        x, y = x - over * side * _COS36, y + over * _SIN36
    x = np.abs(x)
    across, along = _SIN36 * notch, _COS36 * notch - tip  # from the tip to the notch
    return (across * (y - tip) - along * x) / _length(across, along)


def _triangle(x: Array, y: Array, size: Array, u: Array, v: Array) -> Array:
    y = y * (0.87 + 0.26 * u)  # a little lower or taller than equilateral
    return np.maximum(y, 0.866025 * np.abs(x) - 0.5 * y) - 0.73 * size


# For each class the drawing and how far it reaches from its centre at most, in sizes.
_SHAPES: dict[str, tuple[Shape, float]] = {
    "circle": (_circle, 1.0),
    "crescent": (_crescent, 1.25),
    "cross": (_cross, 1.35),
    "ellipse": (_ellipse, 1.4),
    "pentagon": (_pentagon, 1.15),
    "rectangle": (_rectangle, 1.4),
    "ring": (_ring, 1.12),
    "square": (_square, 1.2),
    "star": (_star, 1.45),
    "triangle": (_triangle, 1.45),
}


def _cloud(values: Array, cells: int) -> Array:
    """Smooth random field [n, 32, 32] in [0, 1) through the random values [n, (cells + 1)²] of a lattice."""
    lattice = values.reshape(-1, cells + 1, cells + 1)
    at = (np.arange(SIDE, dtype=np.float32) + 0.5) * cells / SIDE
    cell = at.astype(np.int64)
    part = (at - cell).astype(np.float32)
    part = part * part * (3 - 2 * part)
    rows = lattice[:, cell] + (lattice[:, cell + 1] - lattice[:, cell]) * part[:, None]
    return rows[:, :, cell] + (rows[:, :, cell + 1] - rows[:, :, cell]) * part


def _wave(position: Array) -> Array:
    """Triangle wave of period 1 between 0 and 1."""
    return np.abs(2 * (position - np.floor(position)) - 1)


def _background(kind: Array, deal: _Deal, cloud: Array) -> Array:
    """How much of the second colour is in each pixel of the background, 0 to 1, float32 [n, 32, 32].

    `kind` int64 [n] is 0 flat, 1 gradient, 2 clouds, 3 stripes or 4 chequers, and `cloud` float32
    [n, _CLOUD_WORDS] holds random values in [0, 1).
    """
    cos, sin = deal.turn()
    period, phase, edge = deal(5, 13), deal(), deal(1, 4)
    share = np.zeros((len(kind), SIDE, SIDE), np.float32)

    def axes(rows: Array) -> tuple[Array, Array]:
        return cos[rows] * _X + sin[rows] * _Y, cos[rows] * _Y - sin[rows] * _X

    rows = np.flatnonzero(kind == 1)
    share[rows] = axes(rows)[0] / (1.25 * SIDE) + 0.5
    rows = np.flatnonzero(kind == 2)
    coarse, fine = np.split(cloud[rows], [(_COARSE + 1) ** 2], axis=1)
    share[rows] = 1.5 * (0.65 * _cloud(coarse, _COARSE) + 0.35 * _cloud(fine, _FINE)) - 0.25
    rows = np.flatnonzero(kind == 3)
    share[rows] = 0.5 + edge[rows] * (_wave(axes(rows)[0] / period[rows] + phase[rows]) - 0.5)
    rows = np.flatnonzero(kind == 4)
    u, v = axes(rows)
    u, v = _wave(u / period[rows] + phase[rows]) - 0.5, _wave(v / period[rows] + 0.7 * phase[rows]) - 0.5
    share[rows] = 0.5 + 4 * edge[rows] * u * v
    return np.clip(share, 0, 1)


def _colour(hue: Array, vividness: Array, luma: Array) -> Array:
    """RGB [n, 3, 1, 1] of exactly the given luma (0 to 1); a hue is 0 to 1 round the circle from red."""
    offsets = np.array([0, 4, 2], np.float32)[:, None, None]  # of red, green and blue on the hexagon of hues
    place = 6 * hue[:, None] + offsets
    place = place - 6 * np.floor(place / 6)
    pure = np.clip(np.abs(place - 3) - 1, 0, 1)
    tint = pure - (0.299 * pure[:, 0:1] + 0.587 * pure[:, 1:2] + 0.114 * pure[:, 2:3])
    luma = luma[:, None]
    room = np.where(tint > 0, (1 - luma) / (tint + 1e-6), luma / (1e-6 - tint))  # until a channel is full or empty
    room = np.minimum(np.minimum(room[:, 0:1], room[:, 1:2]), room[:, 2:3])
    return luma + tint * vividness[:, None] * np.minimum(room, 1)


def _cover(picture: Array, colour: Array, share: Array) -> Array:
    """The picture [n, 3, 32, 32] under `share` [n, 32, 32] of the colour [n, 3, 1 or 32, 1 or 32]."""
    return picture + (colour - picture) * share[:, None]


def _distance(labels: Array, x: Array, y: Array, size: Array, deal: _Deal) -> Array:
    """Distance to the edge of the shapes of these classes, pixels, negative inside, float32 [n, 32, 32].

    `x` [n, 1, 32] and `y` [n, 32, 1] are measured from the centre of the shape, which is turned and stretched
    a little here.
    """
    cos, sin = deal.turn()
    along, across = cos * x + sin * y, cos * y - sin * x
    along = along * deal(0.95, 1)  # seen a little from one side: longer in this direction
    x, y = cos * along - sin * across, sin * along + cos * across
    cos, sin = deal.turn(0.26 * deal())
    x, y = cos * x + sin * y, cos * y - sin * x
    u, v = deal(), deal()
    distance = np.empty((len(labels), SIDE, SIDE), np.float32)
    for label, name in enumerate(CLASSES):
        rows = np.flatnonzero(labels == label)
        distance[rows] = _SHAPES[name][0](x[rows], y[rows], size[rows], u[rows], v[rows])
    return distance


def _render(words: Array, labels: Array) -> tuple[Array, Array]:
    """Images uint8 [n, 32, 32, 3] and masks bool [n, 32, 32] of random words uint64 [n, _WORDS], labels int64 [n].

    Where a product of two random numbers stands, most pictures are easy and a few are hard: a network then gets
    going at once and still has something left to learn.
    """
    parameters, cloud, noise = np.split(words, [_PARAMETER_WORDS, _PARAMETER_WORDS + _CLOUD_WORDS], axis=1)
    deal = _Deal(parameters)

    # Lightness: shape and background are a gap apart, and the second colours keep most of the gap open.
    gap = 0.6 - 0.52 * deal() * deal()
    dark = deal(0.06, 0.94 - gap)
    lighter = deal() < 0.85  # more often the shape is the lighter one: a linear model beats chance by that
    shape_luma = np.where(lighter, dark + gap, dark)
    ground_luma = np.where(lighter, dark, dark + gap)
    away = np.where(lighter, np.float32(-1), np.float32(1))  # from the shape's lightness
    ground_luma2 = np.clip(ground_luma + away * deal(-0.3 * gap, 0.25), 0.03, 0.97)
    shape_luma2 = np.clip(shape_luma - away * deal(-0.3 * gap, 0.15), 0.03, 0.97)

    # Background.
    kind = deal.one_of(1, 1.3, 1.3, 1, 0.7)
    hue = deal()
    first = _colour(hue, deal(0.1, 0.8), ground_luma)
    second = _colour(hue + deal(-0.2, 0.2), deal(0.1, 0.8), ground_luma2)
    picture = _cover(first, second, _background(kind, deal, _uniform(cloud)))

    # The shape.
    size = 9.5 - 5 * deal() * deal()
    reach = np.array([_SHAPES[name][1] for name in CLASSES], np.float32)[labels, None, None] * size
    slack = np.clip(SIDE / 2 + 0.5 - reach, 0, 7) * deal()
    x, y = _X - slack * deal(-1, 1), _Y - slack * deal(-1, 1)
    distance = _distance(labels, x, y, size, deal)
    blur = 1 + 2.5 * deal() * deal()  # width of the soft edge, pixels
    shape_hue = deal()
    light_cos, light_sin = deal.turn()
    light = np.clip(0.5 + (light_cos * x + light_sin * y) / (2.4 * size), 0, 1)
    near = _colour(shape_hue, deal(0.1, 1), shape_luma)
    far = _colour(shape_hue + deal(-0.12, 0.12), deal(0.1, 1), shape_luma2)
    picture = _cover(picture, _cover(near, far, light), np.clip(0.5 - distance / blur, 0, 1))

    # What is in front: nothing, a bar or a blob, of another hue, so that it passes for neither part of the shape
    # nor a gap in it, and small beside the shape, so that the shape stays recognisable.
    front = deal.one_of(0.2, 0.35, 0.45)[:, None, None]
    cos, sin = deal.turn()
    bar = np.abs(cos * x + sin * y - size * deal(0.1, 1)) - size * deal(0.12, 0.25)
    far_off = size * deal(0.6, 1.1)
    blob = _length((x - cos * far_off) * deal(0.75, 1.3), y - sin * far_off) - size * deal(0.3, 0.6)
    share = np.clip(0.5 - np.where(front == 1, bar, blob) / blur, 0, 1) * (front > 0)
    front_luma = shape_luma + (ground_luma - shape_luma) * deal(0.25, 0.75)
    picture = _cover(picture, _colour(shape_hue + deal(0.33, 0.67), deal(0.7, 1), front_luma), share)

    # Sensor noise: the sum of two random bytes is spread like a triangle, with a standard deviation of 104.5.
    grain = 0.01 + 0.3 * gap * deal() * deal()
    pairs = noise.astype("<u8").view(np.uint8).reshape(-1, 2, 3, SIDE, SIDE)
    picture = picture + (pairs[:, 0].astype(np.float32) + pairs[:, 1] - 255) * (grain[:, None] / 104.5)
    return np.floor(np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1), distance < 0
