"""What near-duplicates do to an evaluation: counted by pixels, told in words, shown side by side."""

import pytest
from report_data import make_report
from run_data import examples, predict

from core.near_duplicates import NearDuplicate
from core.repeated import Member, Repeated
from core.settings import Settings
from review import duplicates, near_duplicates, results
from review.report import build, card, page, schema, web


@pytest.fixture
def table():
    """Predictions of 20 cats and 20 dogs."""
    return predict(examples(("cat", "dog"), 20), 0.7, 1)


def near(table, rows, known="cat"):
    """near_duplicates.json if these rows of the test split were nearly in train."""
    return [
        NearDuplicate(
            Member("test", table.class_name[row], table.id[row]), Member("train", known, f"t{row}"),
            table.digest[row], f"k{row}", 0.9 + row / 1000,
        )
        for row in rows
    ]  # fmt: skip


def leaked(table, rows):
    return [
        Repeated(
            table.digest[row], (Member("train", "cat", "x"), Member("test", table.class_name[row], table.id[row]))
        )
        for row in rows
    ]


def test_the_rest_is_counted_without_near_and_exact_ones(table):
    found = near_duplicates.kept(table, near(table, [0, 1, 25]), leaked(table, [2, 30]))
    rest = table.drop([0, 1, 25, 2, 30])
    right = (rest.label == rest.predicted).groupby(rest.class_name).sum()
    assert found == {
        "cat": {"near": 2, "leaked": 3, "count": 17, "right": right["cat"]},
        "dog": {"near": 1, "leaked": 2, "count": 18, "right": right["dog"]},
    }
    whole = duplicates.overall(found)
    assert (whole["leaked"], whole["count"]) == (5, 35)
    assert whole["accuracy"] == (rest.label == rest.predicted).mean()


def test_nothing_is_claimed_of_predictions_that_do_not_tell_which(table):
    found = near(table, [0, 1])
    assert near_duplicates.kept(table.drop(columns="digest"), found) is None
    assert near_duplicates.kept(table.assign(digest="another decoder"), found) is None
    assert near_duplicates.kept(table, found, [*leaked(table.assign(digest="other"), [5])]) is None
    assert near_duplicates.kept(table, []) is None
    validation = NearDuplicate(Member("validation", "cat", "1"), Member("train", "cat", "2"), "a", "b", 0.95)
    assert near_duplicates.kept(table, [validation]) is None


def test_the_results_have_it_beside_the_other_accuracy(table):
    candidate = {
        "count": 4, "accuracy": 0.5, "loss": 1.0, "top_3_accuracy": 1.0, "recalls": {"cat": 0.5, "dog": 0.5},
        "counts": {"cat": 2, "dog": 2}, "matrix": [[1, 1], [1, 1]], "auc": [], "calibration": [], "slices": [],
        "calibration_error": None, "uncalibrated": None,
    }  # fmt: skip
    summary = {"data": {"class_names": ["cat", "dog"]}, "candidate": candidate, "blessed": True, "evaluation": "x"}
    plain = results.evaluate(summary, Settings())
    assert plain["without_near"] is None
    assert "near" not in plain["classes"][0]
    remaining = {
        "cat": {"near": 1, "leaked": 1, "count": 1, "right": 1},
        "dog": {"near": 1, "leaked": 2, "count": 0, "right": 0},
    }
    found = results.evaluate({**summary, "without_near": remaining}, Settings())
    assert (found["without_near"]["accuracy"], found["without_near"]["count"]) == (1, 1)
    rows = {row["class_name"]: row for row in found["classes"]}
    assert (rows["cat"]["near"], rows["cat"]["recall_without_near"]) == (1, 1)
    assert (rows["dog"]["near"], rows["dog"]["recall_without_near"]) == (1, None)
    for part in (plain, found):
        assert schema.Evaluation(**part).model_dump(mode="json")["without_near"] == part["without_near"]


COUNTS = {"train": {"cat": 30, "dog": 30}, "validation": {"cat": 5, "dog": 5}, "test": {"cat": 10, "dog": 10}}
WITHOUT = {"leaked": 5, "count": 15, "accuracy": 0.8, "accuracy_interval": [0.5, 0.9]}


@pytest.mark.parametrize(
    ("examples", "contradicting", "without", "said"),
    [
        ({"test": 0, "validation": 0}, 0, None, []),
        (
            {"test": 5, "validation": 0}, 2, WITHOUT,
            [
                "5 of 20 test examples (25.0%) are near-duplicates: their pictures are nearly the same as one of the "
                "training or validation split. Without them the accuracy is 80.0% (95 % interval 50.0% to 90.0%, "
                "n=15); the gates judge all test examples.",
                "2 of the near-duplicates stand under other classes than their counterparts.",
            ],
        ),
        (
            {"test": 1, "validation": 1}, 1, WITHOUT,
            [
                "1 of 20 test examples (5.0%) is a near-duplicate: its picture is nearly the same as one of the "
                "training or validation split. Without it and the duplicates the accuracy is 80.0% (95 % interval "
                "50.0% to 90.0%, n=15); the gates judge all test examples.",
                "1 of 10 validation examples is a near-duplicate of a training picture.",
                "1 of the near-duplicates stands under another class than its counterpart.",
            ],
        ),
        (
            {"test": 3, "validation": 2}, 0, {"leaked": 20, "count": 0, "accuracy": None, "accuracy_interval": None},
            [
                "3 of 20 test examples (15.0%) are near-duplicates: their pictures are nearly the same as one of the "
                "training or validation split. Without these and the duplicates no test example is left.",
                "2 of 10 validation examples are near-duplicates of training pictures.",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_said(examples, contradicting, without, said):
    found = {"examples": examples, "contradicting": contradicting}
    assert near_duplicates.sentences(found, COUNTS, without) == said


@pytest.mark.parametrize("found", [None, {}])
def test_nothing_is_said_where_nobody_looked(found):
    assert near_duplicates.sentences(found, COUNTS) == []
    assert near_duplicates.of_results({"data": {"near_duplicates": found, "counts": COUNTS}}) == []
    assert near_duplicates.of_results({}) == []


def test_of_hundreds_those_are_shown_that_stand_for_all(table):
    few = near(table, range(10))
    validation = NearDuplicate(Member("validation", "cat", "1"), Member("train", "cat", "2"), "a", "b", 0.9)
    assert near_duplicates.choose([validation, *reversed(few)]) == [*few, validation]
    many = [NearDuplicate(Member("test", "cat", f"{n}"), few[0].known, "a", "b", n / 500) for n in range(500)]
    shown = near_duplicates.choose([*many, validation])
    assert len(shown) == near_duplicates.SHOWN
    assert [one.likeness for one in shown] == sorted(one.likeness for one in shown)
    assert (shown[0], shown[-1]) == (many[0], many[-1])


NAME = "<b>cat</b>"


def with_near(report, images):
    """The report with near-duplicates, as EvaluationReport makes it, and its further pictures."""
    part = report.evaluation
    first, second = [row.class_name for row in part.classes[:2]]
    found = [
        NearDuplicate(
            Member("test", first, f"{NAME}/{n}"), Member("train", second, f"t{n}"), f"a{n}", f"b{n}", 0.9, n == 1
        )
        for n in range(3)
    ]
    given = {(member.id, digest): images[0] for pair in found for member, digest in near_duplicates.sides(pair)}
    shown, files = build.near_pairs(found, given)
    remaining = {row.class_name: {"near": 0, "leaked": 0, "count": row.count, "right": 1} for row in part.classes}
    remaining[first] |= {"near": 3, "leaked": 3, "count": part.classes[0].count - 3}
    rows = near_duplicates.into([row.model_dump() for row in part.classes], remaining)
    part = schema.Evaluation(**{**part.model_dump(), "classes": rows, "without_near": duplicates.overall(remaining)})
    counted = schema.NearDuplicates(examples={"validation": 0, "test": 30}, contradicting=30, shown=shown)
    data = report.data.model_copy(update={"near_duplicates": counted})
    return report.model_copy(update={"evaluation": part, "data": data}), files


def test_the_page_and_the_card_show_them():
    report, files = make_report(3)
    made, more = with_near(report, list(files.values()))
    text = page.render(made, files | more)
    section = text[text.index('<section id="near-duplicates">') :].partition("</section>")[0]
    assert section.count("<figure") == 3
    assert section.count("<img") == 6
    assert "3 of </span>" not in section
    assert "3 of 30 pairs" in section
    assert section.count(", mirrored") == 1
    assert NAME not in text
    assert "&lt;b&gt;cat&lt;/b&gt;/0" in section
    without = made.evaluation.without_near
    assert web.percent(without.accuracy) in section
    assert 'href="#near-duplicates"' in text
    written = card.markdown(made)
    assert f"accuracy without duplicates and near-duplicates of training pictures, n = {without.count:,}" in written
    assert "are near-duplicates: their pictures are nearly the same" in written[written.index("## Caveats") :]


def test_a_report_without_them_does_not_speak_of_them():
    report, files = make_report(3)
    assert "near-duplicate" not in page.render(report, files).lower()
    assert "near-duplicate" not in card.markdown(report).lower()
    old = report.data.model_dump()
    del old["near_duplicates"]
    assert schema.Data(**old).near_duplicates is None
    assert schema.Data(**{**old, "near_duplicates": {}}).near_duplicates is None


def test_a_pair_is_shown_only_with_both_pictures():
    pair = NearDuplicate(Member("test", "cat", "1"), Member("train", "cat", "2"), "a", "b", 0.95)
    _, files = make_report(3)
    image = next(iter(files.values()))
    assert near_duplicates.keys([pair]) == {"test": {("1", "a")}, "train": {("2", "b")}}
    found, made = build.near_pairs([pair], {("1", "a"): image, ("2", "b"): image})
    assert [one.example.place for one in found] == [tuple(pair.example)]
    assert {found[0].example.file, found[0].known.file} == set(made)
    assert build.near_pairs([pair], {("1", "a"): image})[0] == []
