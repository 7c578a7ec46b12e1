"""Weak slices of real drawings, with the features that Evaluator derives: the hard group comes first."""

import numpy as np
import pandas as pd
import pytest
from image_data import encoded
from PIL import Image

from components import derived_features, shapes
from review import weak_slices

COUNT = 4000
HIDDEN = {"class_name": "star", "brightness": "dark (<64)", "size": "to 32 px"}


@pytest.fixture(scope="module")
def drawings():
    """Test examples without answers: every third ten of the drawings are enlarged to 48 pixels."""
    pictures, labels = shapes.draw(range(COUNT), "test")
    rows = []
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        if number // 10 % 3 == 0:
            pixels = np.asarray(Image.fromarray(pixels).resize((48, 48)))
        known = {"id": f"{number:05d}", "label": label, "class_name": shapes.CLASSES[label]}
        rows.append(known | derived_features.derive(encoded(pixels)))
    return pd.DataFrame(rows)


def answer(table, right, seed):
    """The table with what a model said that is right with these chances."""
    random = np.random.default_rng(seed)
    wrong = random.random(len(table)) >= right
    return table.assign(predicted=(table["label"] + wrong) % 10, probability=random.random(len(table)))


def named(table):
    return [dict(zip(s.features, s.values, strict=True)) for s in weak_slices.search(table, 30).slices]


@pytest.mark.parametrize("seed", range(5))
def test_small_dark_ones_of_one_class_are_named_first_and_alone(drawings, seed):
    hidden = np.logical_and.reduce([drawings[name] == value for name, value in HIDDEN.items()])
    assert hidden.sum() >= 30
    assert named(answer(drawings, np.where(hidden, 0.4, 0.97), seed)) == [HIDDEN]


def test_without_them_nothing_is_named(drawings):
    recalls = np.linspace(0.8, 0.99, 10)  # circle and ellipse are mistaken more often than stars
    found = [bool(named(answer(drawings, recalls[drawings["label"]], seed))) for seed in range(20)]
    assert sum(found) <= 1
