"""Maps of where the network looked, as transparent pictures to be laid over those of the report."""

from __future__ import annotations

import functools
import io

import numpy as np
import PIL.Image

COLOURS = "inferno"  # grows lighter evenly, and so can be read by the colour-blind, and in grey
LEVELS = 32  # of the map; fewer make smaller files, and more cannot be told apart
OPACITY = 0.6


def png(heat: np.ndarray, width: int, height: int, seen: tuple[float, float, float, float] | None = None) -> bytes:
    """A map as a PNG with a palette, everywhere as transparent: dark where it is 0, bright yellow where it is 1.

    Args:
        heat: float [rows, columns], 0 to 1.
        width: of the picture, pixels.
        height: of the picture, pixels.
        seen: what of the picture the map is of, as left, upper, right and lower bound in its pixels, or beyond them;
            by default all of it. Nothing is seen of the rest.
    """
    left, top, right, bottom = seen or (0, 0, width, height)
    across, down = max(1, round(right - left)), max(1, round(bottom - top))
    resized = PIL.Image.fromarray(heat.astype(np.float32)).resize((across, down), PIL.Image.Resampling.BILINEAR)
    placed = PIL.Image.new("F", (width, height))
    placed.paste(resized, (round(left), round(top)))
    levels = np.round(np.clip(np.asarray(placed), 0, 1) * (LEVELS - 1)).astype(np.uint8)
    image = PIL.Image.fromarray(levels).convert("L")
    image.putpalette(_palette())  # a grey picture with a palette is one of its entries
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=bytes([round(255 * OPACITY)] * LEVELS))
    return buffer.getvalue()


@functools.cache
def _palette() -> bytes:
    """Red, green and blue of each level."""
    import matplotlib  # not at the top: pages are rendered without

    colours = matplotlib.colormaps[COLOURS](np.linspace(0, 1, LEVELS), bytes=True)
    return colours[:, :3].tobytes()
