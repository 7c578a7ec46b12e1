"""Which pictures the report shows, and how they are kept."""

import io

import numpy as np
import pandas
import PIL.Image
import pytest
from image_data import encoded, picture

from review import predictions
from review.report import build


def table_of(classes, each, seed=0, right=0.7):
    """Predictions of a model that is right with a chance, as `predictions.read` gives them."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(classes * each):
        label = number % classes
        scores = random.random(classes)
        if random.random() < right:
            scores[label] += 1
        derived = {
            "width": 9,
            "height": 9,
            "brightness": "dim",
            "contrast": "low",
            "size": "small",
            "digest": f"{number:x}",
        }
        rows.append(predictions.row(f"{number:06d}", label, f"class {label}", scores / scores.sum(), derived))
    return pandas.DataFrame(rows)


def chosen_of(table, names):
    chosen = build.choose(table, names)
    rows = table.iloc[[row for row, _ in chosen]].assign(kind=[kind for _, kind in chosen])
    return rows.assign(wrong=rows["label"] != rows["predicted"])


def test_of_every_class_the_worst_mistakes_and_right_ones_are_chosen():
    table = table_of(5, 100)
    names = [f"class {n}" for n in (3, 1, 4, 0, 2)]
    chosen = chosen_of(table, names)
    assert list(dict.fromkeys(chosen["class_name"])) == names
    for name, part in chosen.groupby("class_name"):
        mistakes = part[part["kind"] == "mistake"]
        assert mistakes["wrong"].all()
        assert mistakes["probability"].is_monotonic_decreasing
        everything = table[(table["class_name"] == name) & (table["label"] != table["predicted"])]
        assert mistakes["probability"].iloc[0] == everything["probability"].max()
        good = part[part["kind"] != "mistake"]
        assert not good["wrong"].any()
        assert part["kind"].value_counts()[["borderline", "right"]].tolist() == [4, 4]
        borderline, right = (good[good["kind"] == kind]["probability"] for kind in ("borderline", "right"))
        assert borderline.max() <= right.min()


def test_every_pair_of_classes_that_is_confused_has_a_picture():
    table = table_of(4, 60)
    chosen = chosen_of(table, [f"class {n}" for n in range(4)])
    wrong = table[table["label"] != table["predicted"]]
    pairs = {*zip(wrong["label"], wrong["predicted"], strict=True)}
    assert {*zip(chosen[chosen["wrong"]]["label"], chosen[chosen["wrong"]]["predicted"], strict=True)} == pairs


def test_mistakes_of_weak_slices_are_chosen_in_any_case():
    table = table_of(1000, 6, right=0.5)
    wrong = table.index[table["label"] != table["predicted"]]
    weak = [int(row) for row in wrong[-40:]][::-1]
    chosen = build.choose(table, [f"class {n}" for n in range(1000)], weak)
    assert len(chosen) <= build.MOST_PICTURES
    assert {(row, "mistake") for row in weak} <= set(chosen)
    before = build.choose(table, [f"class {n}" for n in range(1000)])
    assert not {(row, "mistake") for row in weak} <= set(before)


@pytest.mark.parametrize("classes", [2, 100, 1000])
def test_there_are_never_too_many(classes):
    chosen = build.choose(table_of(classes, 6000 // classes), [f"class {n}" for n in range(classes)])
    assert 0 < len(chosen) <= build.MOST_PICTURES
    assert len({row for row, _ in chosen}) == len(chosen)


def test_a_model_without_mistakes_and_a_class_without_right_ones():
    perfect = chosen_of(table_of(2, 10, right=1), ["class 0", "class 1"])
    assert set(perfect["kind"]) == {"borderline", "right"}
    hopeless = table_of(2, 10, right=0)
    hopeless["predicted"] = 1 - hopeless["label"]
    assert {kind for _, kind in build.choose(hopeless, ["class 0", "class 1"])} == {"mistake"}


def test_pictures_keep_what_the_model_said():
    table = table_of(3, 20)
    names = ["class 0", "class 1", "class 2"]
    images = {(f"{number:06d}", f"{number:x}"): encoded(picture(number, (20, 30))) for number in range(60)}
    chosen = build.choose(table, names)
    pictures, files = build.pictures(table, chosen, images, names)
    assert [shown.id for shown in pictures] == [table["id"][row] for row, _ in chosen]
    assert len(files) == len(pictures) == len({shown.file for shown in pictures})
    for shown in pictures:
        record = table[table["id"] == shown.id].iloc[0]
        assert shown.true == record["class_name"]
        assert shown.predicted == f"class {record['predicted']}"
        assert (shown.kind == "mistake") == (shown.true != shown.predicted)
        with PIL.Image.open(io.BytesIO(files[shown.file])) as image:
            assert image.size == (shown.width, shown.height) == (30, 20)
            np.testing.assert_array_equal(np.asarray(image), picture(int(shown.id), (20, 30)))
    assert build.unzipped(build.zipped(files)) == files
    assert build.zipped(files) == build.zipped(dict(files))


def test_large_pictures_are_reduced_and_others_converted():
    content, width, height, form = build.reduced(encoded(picture(1, (300, 600)), "JPEG"))
    assert (width, height, form) == (96, 48, "jpg")
    assert len(content) < 8000
    grey = io.BytesIO()
    PIL.Image.new("LA", (10, 12)).save(grey, "PNG")
    content, width, height, form = build.reduced(grey.getvalue())
    assert (width, height, form) == (10, 12, "png")
    assert PIL.Image.open(io.BytesIO(content)).mode == "RGB"


def test_the_versions_say_what_made_the_report(monkeypatch):
    monkeypatch.delenv("ALEXNET_COMMIT", raising=False)
    assert {"python", "tfx", "tensorflow", "keras"} <= build.versions().keys()
    monkeypatch.setenv("ALEXNET_COMMIT", "abc123")
    assert build.versions()["commit"] == "abc123"
