"""The lines that nobody may miss: there where something is the matter, and nowhere else."""

import report_data

from review import notes
from review.report import card, page, schema


def bare():
    """A report of a model of which there is nothing to tell."""
    report, _ = report_data.make_report(4)
    part = report.evaluation.model_copy(update={"without_leaked": None, "without_near": None, "weak_slices": None})
    return report.model_copy(update={"evaluation": part, "suspects": None})


def with_part(report, **changes):
    return report.model_copy(update={"evaluation": report.evaluation.model_copy(update=changes)})


def weak(features=("class_name", "brightness"), values=("<cat>", "dark (<64)")):
    row = schema.WeakSlice(
        features=list(features),
        values=list(values),
        count=52,
        accuracy=0.61,
        accuracy_interval=(0.47, 0.73),
        rest_accuracy=0.93,
        p=1e-6,
    )
    return schema.WeakSlices(features=["brightness"], looked_at=40, rows=[row])


def suspects(count, judged=1000):
    return schema.Suspects(judged={"test": judged}, total=judged, count=count)


LEAKED = schema.WithoutLeaked(leaked=31, count=369, accuracy=0.8388, accuracy_interval=(0.8, 0.88))


def test_where_nothing_is_the_matter_nothing_is_said():
    report = bare()
    assert notes.of_report(report) == []
    assert '<ul class="notes">' not in page.render(report, {})
    assert "Not to be missed" not in card.markdown(report)


def test_each_is_a_line_in_report_and_card():
    report = with_part(bare(), without_leaked=LEAKED, weak_slices=weak()).model_copy(
        update={"suspects": suspects(12)}
    )
    count = report.evaluation.count
    assert notes.of_report(report) == [
        f"31 of {count:,} test pictures are in train or validation, too: accuracy without them 83.9%.",
        "12 of 1,000 labels look wrong (1.2%): see alexnet suspects.",
        "Weakest where class_name <cat>, brightness dark (<64): accuracy 61.0% (n=52), 93.0% elsewhere.",
    ]
    text = page.render(report, {})
    assert text.count("<li>Weakest where class_name &lt;cat&gt;, brightness dark (&lt;64)") == 1
    assert card.markdown(report).count("Not to be missed") == 3


def test_near_duplicates_count_with_the_others():
    near = LEAKED.model_copy(update={"leaked": 45, "accuracy": 0.82})
    (line,) = notes.of_report(with_part(bare(), without_leaked=LEAKED, without_near=near))
    assert "in train or validation, too, or nearly: accuracy without them 82.0%." in line
    assert line.startswith("45 of ")


def test_as_few_suspects_as_any_data_have_are_no_news():
    report = bare()
    assert notes.of_report(report.model_copy(update={"suspects": suspects(1)})) == []
    assert len(notes.of_report(report.model_copy(update={"suspects": suspects(2)}))) == 1
    assert notes.of_report(report.model_copy(update={"suspects": suspects(0, judged=0)})) == []


def test_a_test_split_that_leaked_as_a_whole_has_no_accuracy_without():
    all_leaked = schema.WithoutLeaked(leaked=400, count=0, accuracy=None, accuracy_interval=None)
    (line,) = notes.of_report(with_part(bare(), without_leaked=all_leaked))
    assert line.endswith("in train or validation, too: none is left.")
