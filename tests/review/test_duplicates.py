"""What duplicates do to an evaluation: counted by pixels, told in words, and a few of them chosen to be shown."""

import dataclasses
import json

import pytest
from report_data import make_report
from run_data import examples, predict, write_run
from terminal_lines import AWKWARD, shown

from core.repeated import Member, Repeated
from core.workdir import Workdir
from review import compare, duplicates, results, terminal
from review.notebook import Review
from review.report import build, card, schema, web
from review.statistics import wilson

NOTHING = {
    "pictures": 0,
    "examples": 0,
    "leaked": {"validation": 0, "test": 0},
    "contradicting": {"pictures": 0, "examples": 0},
    "copies": {"train": 0, "validation": 0, "test": 0},
}
COUNTS = {"train": {"cat": 30, "dog": 30}, "validation": {"cat": 5, "dog": 5}, "test": {"cat": 10, "dog": 10}}


def picture(digest, *places):
    return Repeated(digest, tuple(Member(*place) for place in places))


def test_a_picture_leaks_into_later_splits_alone():
    both = picture("a", ("train", "cat", "1"), ("test", "cat", "2"))
    watched = picture("b", ("train", "cat", "1"), ("validation", "cat", "2"))
    held_out = picture("c", ("validation", "cat", "1"), ("test", "cat", "2"))
    copies = picture("d", ("test", "cat", "1"), ("test", "dog", "2"))
    four = (both, watched, held_out, copies)
    assert [bool(one.leaked("test")) for one in four] == [True, False, True, False]
    assert [bool(one.leaked("validation")) for one in four] == [False, True, False, False]
    assert not any(one.leaked("train") for one in four)
    assert [one.contradicting for one in four] == [False, False, False, True]
    assert [one.copies("test") for one in four] == [0, 0, 0, 1]
    assert [Repeated.read(json.loads(json.dumps(dataclasses.asdict(one)))) for one in four] == list(four)


@pytest.fixture
def table():
    """Predictions of 20 cats and 20 dogs."""
    return predict(examples(("cat", "dog"), 20), 0.7, 1)


def leaked(table, rows):
    """The pictures of duplicates.json if these rows of the test split were in train, too."""
    return [
        picture(table.digest[row], ("train", "cat", f"t{row}"), ("test", table.class_name[row], table.id[row]))
        for row in rows
    ]


def test_the_rest_is_counted_by_class(table):
    rows = [0, 1, 2, 25]
    found = duplicates.kept(table, [*leaked(table, rows), picture("x", ("train", "cat", "1"), ("train", "dog", "2"))])
    rest = table.drop(rows)
    right = rest.label == rest.predicted
    assert found == {
        name: {
            "leaked": gone,
            "count": int((rest.class_name == name).sum()),
            "right": int(right[rest.class_name == name].sum()),
        }
        for name, gone in (("cat", 3), ("dog", 1))
    }
    whole = duplicates.overall(found)
    assert (whole["leaked"], whole["count"]) == (4, 36)
    assert whole["accuracy"] == right.mean()
    assert whole["accuracy_interval"] == list(wilson(right.mean(), 36))


def test_an_id_that_several_examples_have_takes_none_of_the_others_along(table):
    found = duplicates.kept(table.assign(id="image"), leaked(table, [0]))
    assert sum(row["leaked"] for row in found.values()) == 1


def test_of_a_test_split_that_is_all_in_train_nothing_remains(table):
    found = duplicates.kept(table, leaked(table, range(len(table))))
    whole = duplicates.overall(found)
    assert whole == {"leaked": 40, "count": 0, "accuracy": None, "accuracy_interval": None}
    assert duplicates.of_class(found["cat"]) == {
        "leaked": 20,
        "recall_without_leaked": None,
        "recall_without_leaked_interval": None,
    }


def test_nothing_is_claimed_of_predictions_that_do_not_tell_which_leaked(table):
    pictures = leaked(table, [0, 1])
    assert duplicates.kept(table.drop(columns="digest"), pictures) is None
    assert duplicates.kept(table.assign(digest="another decoder"), pictures) is None
    assert duplicates.kept(table, []) is None
    assert duplicates.kept(table, [picture("x", ("train", "cat", "1"), ("train", "dog", "2"))]) is None


@pytest.mark.parametrize(
    ("changes", "without", "said"),
    [
        ({}, None, []),
        (
            {"leaked": {"test": 5, "validation": 0}},
            {"leaked": 5, "count": 15, "accuracy": 0.8, "accuracy_interval": [0.5, 0.9]},
            [
                "5 of 20 test examples (25.0%) are duplicates: their pictures are in the training or validation "
                "split, too. Without them the accuracy is 80.0% (95 % interval 50.0% to 90.0%, n=15); the gates "
                "judge all test examples."
            ],
        ),
        (
            {"leaked": {"test": 1, "validation": 1}},
            None,
            [
                "1 of 20 test examples (5.0%) is a duplicate: its picture is in the training or validation split, "
                "too.",
                "1 of 10 validation examples is a duplicate of a training picture.",
            ],
        ),
        (
            {"leaked": {"test": 20, "validation": 0}},
            {"leaked": 20, "count": 0, "accuracy": None, "accuracy_interval": None},
            [
                "20 of 20 test examples (100.0%) are duplicates: their pictures are in the training or validation "
                "split, too. No test example is left to tell how the model does on new pictures."
            ],
        ),
        (
            {"contradicting": {"pictures": 1, "examples": 3}, "copies": {"train": 2, "validation": 0, "test": 1}},
            None,
            [
                "1 picture stands under two or more classes (3 examples): no answer can be right for all of them.",
                "Further copies of a picture within a split: train 2, test 1.",
            ],
        ),
    ],
)
def test_what_is_said(changes, without, said):
    assert duplicates.sentences({**NOTHING, **(changes and {"pictures": 1}), **changes}, COUNTS, without) == said


@pytest.mark.parametrize("found", [None, {}, NOTHING])
def test_nothing_is_said_where_there_are_none_or_nobody_looked(found):
    assert duplicates.sentences(found, COUNTS) == []
    assert duplicates.of_results({"data": {"duplicates": found, "counts": COUNTS}}) == []
    assert duplicates.of_results({}) == []


def test_of_thousands_some_are_shown_and_all_are_counted():
    pictures = [picture(f"v{n}", ("train", "cat", f"t{n}"), ("validation", "cat", f"v{n}")) for n in range(3000)]
    pictures += [picture(f"e{n}", ("train", "cat", f"t{n}"), ("test", "dog", f"e{n}")) for n in range(5)]
    found = duplicates.choose(pictures)
    (shown, count), (odd, odd_count) = found["leaked"], found["contradicting"]
    assert (len(shown), count, len(odd), odd_count) == (duplicates.SHOWN, 3005, 5, 5)
    assert [one.digest for one in shown[:6]] == ["e0", "e1", "e2", "e3", "e4", "v0"]  # test examples come first
    assert duplicates.choose([picture("a", ("train", "cat", "1"), ("train", "cat", "2"))]) == {}


def test_the_places_of_a_picture_show_its_splits_and_classes():
    many = [("train", "cat", f"{n}") for n in range(500)]
    places = duplicates.places(
        picture("a", *many, ("train", "dog", "d"), ("validation", "cat", "v"), ("test", "cat", "e"))
    )
    assert places == [("test", "cat", "e"), ("validation", "cat", "v"), ("train", "cat", "0"), ("train", "dog", "d")]
    assert duplicates.places(picture("a", *many)) == many[: duplicates.PLACES]


def run(tmp_path, table, pictures, number=1):
    """A finished run with these duplicates: its results."""
    found = write_run(Workdir(tmp_path), f"2026010{number}-000000", table, name="pets")
    counts = {"train": {"cat": 30}, "validation": {}, "test": table.class_name.value_counts().to_dict()}
    leaking = sum(len(one.leaked("test")) for one in pictures)
    repeated = {**NOTHING, "pictures": len(pictures), "leaked": {"validation": 0, "test": leaking}}
    remaining = duplicates.kept(table, pictures)
    part = found["evaluation"]
    part["classes"] = [{**row, **duplicates.of_class(remaining[row["class_name"]])} for row in part["classes"]]
    part["without_leaked"] = duplicates.overall(remaining)
    found["data"] = {
        "source": "pets", "class_names": part["class_names"], "counts": counts, "bad": 0, "bad_records": [],
        "ignored": {}, "duplicates": repeated,
    }  # fmt: skip
    (Workdir(tmp_path).run(found["run"]) / "results.json").write_text(json.dumps(found))
    return found


def test_the_terminal_tells_them_below_the_accuracy(tmp_path, table):
    found = run(tmp_path, table, leaked(table, [0, 1]))
    text = " ".join(shown(terminal.slices, found, width=300))
    assert "2 of 40 test examples (5.0%) are duplicates" in text
    assert f"accuracy is {found['evaluation']['without_leaked']['accuracy']:.1%}" in text
    assert text.index("duplicates") < text.index("recall")


def test_a_notebook_tells_them_and_has_them_in_its_table(tmp_path, table):
    found = run(tmp_path, table, leaked(table, [0, 1, 2]))
    review = Review.load(workdir=tmp_path)
    accuracy = found["evaluation"]["without_leaked"]["accuracy"]
    assert f"Without them the accuracy is {web.percent(accuracy)}" in review._repr_html_()
    rest = table.drop([0, 1, 2])
    right = (rest.label == rest.predicted).groupby(rest.class_name).mean()
    assert dict(review.classes.leaked) == {"cat": 3, "dog": 0}
    assert dict(review.classes.recall_without_leaked) == pytest.approx(right.to_dict())
    assert (review.classes.recall_without_leaked_low < review.classes.recall_without_leaked).all()


def test_a_comparison_says_what_each_run_had_seen(tmp_path, table):
    better = predict(examples(("cat", "dog"), 20), 0.9, 2)
    runs = [run(tmp_path, table, leaked(table, [0])), run(tmp_path, better, leaked(better, range(40)), 2)]
    (found,) = compare.compare(runs)
    told = " ".join(found.how)
    accuracy = runs[0]["evaluation"]["without_leaked"]["accuracy"]
    assert (
        "Run 20260101-000000: 1 test example has a picture of its training or validation split; without them its "
        f"accuracy is {accuracy:.2%}, n=39." in told
    )
    assert (
        "Run 20260102-000000: 40 test examples have pictures of its training or validation split; none remains"
        in told
    )


def test_the_results_have_the_accuracy_without_them_only_where_something_leaked():
    from core import settings

    candidate = {
        "count": 4, "accuracy": 0.5, "loss": 1.0, "top_3_accuracy": 1.0, "recalls": {"cat": 0.5, "dog": 0.5},
        "counts": {"cat": 2, "dog": 2}, "matrix": [[1, 1], [1, 1]], "auc": [], "calibration": [], "slices": [],
        "calibration_error": None, "uncalibrated": None,
    }  # fmt: skip
    summary = {"data": {"class_names": ["cat", "dog"]}, "candidate": candidate, "blessed": True, "evaluation": "x"}
    plain = results.evaluate(summary, settings.Settings())
    assert plain["without_leaked"] is None
    assert "leaked" not in plain["classes"][0]
    remaining = {"cat": {"leaked": 1, "count": 1, "right": 1}, "dog": {"leaked": 2, "count": 0, "right": 0}}
    found = results.evaluate({**summary, "without_leaked": remaining}, settings.Settings())
    assert found["without_leaked"]["accuracy"] == 1
    assert found["without_leaked"]["count"] == 1
    rows = {row["class_name"]: row for row in found["classes"]}
    assert rows["cat"]["recall_without_leaked"] == 1
    assert rows["dog"]["recall_without_leaked"] is None
    for part in (plain, found):
        assert schema.Evaluation(**part).model_dump(mode="json")["without_leaked"] == part["without_leaked"]


def test_the_model_card_says_it_among_the_limits_and_the_numbers():
    report, _ = make_report(3, duplicates=5)
    text = card.markdown(report)
    without = report.evaluation.without_leaked
    assert f"| accuracy without duplicates of training pictures, n = {without.count:,} |" in text
    assert web.percent(without.accuracy, 2) in text
    limits = text[text.index("## Caveats") :]
    assert "are duplicates: their pictures are in the training or validation split, too" in limits
    assert "5 pictures stand under two or more classes" in limits
    assert "uplicate" not in card.markdown(make_report(3)[0])


def test_a_report_of_before_they_were_looked_for_is_read():
    report, _ = make_report(3)
    assert schema.Data(**{**report.data.model_dump(), "duplicates": {}}).duplicates is None


@pytest.mark.parametrize("width", [30, 80])
def test_no_name_is_obeyed(tmp_path, width):
    table = predict(examples(AWKWARD, 10), 0.7, 1)
    lines = shown(terminal.duplicate_lines, run(tmp_path, table, leaked(table, [0])), width=width)
    assert "\x1b" not in "".join(lines)


def test_pictures_for_the_report_are_found_by_id_and_pixels(table):
    from image_data import encoded
    from image_data import picture as pixels

    pictures = leaked(table, [0, 30])
    twins = duplicates.choose(pictures)
    wanted = build.wanted(table, [(0, "right"), (5, "mistake")], twins)
    assert wanted == {"test": {(table.id[row], table.digest[row]) for row in (0, 5, 30)}}
    images = {key: encoded(pixels(number)) for number, key in enumerate(sorted(wanted["test"]))}
    found, files = build.duplicate_pictures(twins, images)
    assert [one.file for one in found] == list(files)
    assert [(one.kind, one.places[0][2], one.count) for one in found] == [
        ("leaked", table.id[0], 2), ("leaked", table.id[30], 2), ("contradicting", table.id[30], 2),
    ]  # fmt: skip
    assert build.duplicate_pictures(twins, {}) == ([], {})  # none that other pixels were decoded of
