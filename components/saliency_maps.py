"""Maps of where the network saw what spoke for its answers, for the pictures of the report."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from review.report import overlay, schema
from trainer import images, saliency

BATCH = 64  # pictures at once: 0.1 GB of activations of the first layer of AlexNet as published
log = logging.getLogger(__name__)


def add(
    network: keras.Model | None,
    pictures: Sequence[schema.Picture],
    encoded: Sequence[bytes],
    class_names: Sequence[str],
    fit: images.Fit = images.STRETCHED,
) -> tuple[list[schema.Picture], dict[str, bytes], schema.Maps | None]:
    """The pictures with the names of their maps, the files of these for images.zip, and how they were made.

    A picture has a map for the class that the network answered; a mistake has a second one, for the true class. A
    network that no map can be made of leaves all as it was.

    Args:
        network: from uint8 images to scores; None where there is none.
        pictures: of the report.
        encoded: their images as the examples have them.
        class_names: by label.
        fit: how they become the network's squares.
    """
    if network is None or not pictures:
        return list(pictures), {}, None
    try:
        maps = saliency.ClassMaps(network)
    except ValueError as problem:
        log.info("No maps: %s.", problem)
        return list(pictures), {}, None
    labels = {name: label for label, name in enumerate(class_names[: maps.classes])}
    made, files = [], {}
    for start in range(0, len(pictures), BATCH):
        part = pictures[start : start + BATCH]
        asked = [
            (place, key, labels[name])
            for place, picture in enumerate(part)
            for key, name in (("map", picture.predicted), ("true_map", picture.true))
            if name in labels and (key == "map" or picture.true != picture.predicted)
        ]
        pixels = images.decode_batch(tf.constant(encoded[start : start + BATCH]), maps.size, fit=fit).numpy()
        of, classes = (np.array([entry[at] for entry in asked], np.int64) for at in (0, 2))
        names: list[dict[str, str]] = [{} for _ in part]
        for (place, key, _), heat in zip(asked, maps(pixels, classes, of), strict=True):
            picture = part[place]
            file = f"{pathlib.PurePath(picture.file).stem}-{key.replace('_', '-')}.png"
            files[file] = overlay.png(heat, picture.width, picture.height, fit.seen(picture.width, picture.height))
            names[place][key] = file
        made += [picture.model_copy(update=update) for picture, update in zip(part, names, strict=True)]
    return made, files, schema.Maps(method=saliency.METHOD, layer=maps.layer, cells=maps.cells)
