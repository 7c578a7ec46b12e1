"""The statistics of a comparison, and what is compared with what."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
from run_data import examples, predict, write_run
from scipy import stats

from core.errors import UserError
from core.workdir import Workdir
from pipeline import cli
from review import compare, statistics

approx = pytest.approx


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (1, 5, 2 * (1 + 6) / 2**6),  # two tails of a fair coin's six throws
        (0, 3, 2 / 2**3),
        (4, 4, 1.0),
        (0, 0, 1.0),
        (59, 121, 2 * sum(math.comb(180, k) for k in range(60)) / 2**180),
    ],
)
def test_mcnemar_is_the_exact_one(lost, gained, p):
    assert statistics.mcnemar(lost, gained) == approx(p, rel=1e-9)
    assert statistics.mcnemar(gained, lost) == statistics.mcnemar(lost, gained)


def test_fisher_is_that_of_the_tea_taster():
    assert statistics.fisher(3, 4, 1, 4) == approx(34 / 70)  # Fisher 1935: 3 of 4 cups
    assert statistics.fisher(0, 0, 1, 4) == 1.0


def test_holm_by_hand():
    # 4 * 0.005, 3 * 0.01, 2 * 0.03, and no smaller than those before.
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.02, 0.02]) == approx([0.04, 0.04])
    assert statistics.holm([0.7, 1.0, 0.6]) == [1.0, 1.0, 1.0]
    assert statistics.holm([]) == []


def test_holm_never_exceeds_bonferroni_and_keeps_the_order():
    values = np.random.default_rng(0).random(50) ** 3
    corrected = statistics.holm(values.tolist())
    assert all(value <= c <= min(1, 50 * value) for value, c in zip(values, corrected, strict=True))
    assert np.all(np.diff(np.array(corrected)[np.argsort(values)]) >= 0)


def test_intervals_are_the_published_ones():
    # Newcombe 1998: p. 873, table II, 56 of 70 minus 48 of 80; p. 2635, table III, 36, 12, 2, 0.
    assert statistics.independent_interval(48, 80, 56, 70) == approx((0.0524, 0.3339), abs=1e-4)
    assert statistics.paired_interval(36, 2, 12, 0) == approx((0.0569, 0.3404), abs=1e-4)
    assert statistics.paired_interval(36, 12, 2, 0) == approx((-0.3404, -0.0569), abs=1e-4)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (5, 0, 0, 0), (0, 5, 0, 0), (0, 0, 5, 0), (0, 0, 0, 5)])
def test_an_interval_holds_the_difference_even_at_the_edges(counts):
    low, high = statistics.paired_interval(*counts)
    change = compare.paired((), *counts)
    assert -1 <= low <= change.change <= high <= 1


def test_paired_intervals_cover_the_truth():
    random = np.random.default_rng(1)
    chances = np.array([0.8, 0.05, 0.09, 0.06])
    tables = random.multinomial(200, chances, 1000)
    inside = [low <= 0.04 <= high for low, high in (statistics.paired_interval(*map(int, row)) for row in tables)]
    assert 0.93 <= np.mean(inside) <= 0.98


def test_under_the_null_false_alarms_are_rare_and_effects_are_found():
    random = np.random.default_rng(2)

    def alarms(lose, gain, classes=10, count=200, times=200):
        found = []
        for _ in range(times):
            tables = random.multinomial(count, [0.8, lose, gain, 0.2 - lose - gain], classes)
            (changes,) = compare.correct([[compare.paired((), *map(int, row)) for row in tables]])
            found.append([change.verdict for change in changes])
        return np.array(found)

    nothing = alarms(0.06, 0.06)
    assert np.mean((nothing != "chance").any(axis=1)) <= 0.05  # exact tests err on the safe side
    something = alarms(0.02, 0.12)
    assert np.mean(something == "better") > 0.8
    assert not (something == "worse").any()


def test_uncorrected_p_values_reject_at_most_their_share_under_the_null():
    random = np.random.default_rng(3)
    tables = random.multinomial(500, [0.8, 0.08, 0.08, 0.04], 2000)
    values = np.array([statistics.mcnemar(int(row[1]), int(row[2])) for row in tables])
    for level in (0.01, 0.05, 0.2):
        assert np.mean(values <= level) <= level + 3 * math.sqrt(level * (1 - level) / len(values))
    assert np.mean(values <= 0.2) > 0.1  # and is no test that never rejects


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "work")


SPLIT = examples(count=200)
BEFORE = {"cat": 0.6, "dog": 0.8, "owl": 0.9}
AFTER = {"cat": 0.8, "dog": 0.8, "owl": 0.7}


def test_the_same_examples_are_compared_one_by_one(workdir):
    tables = predict(SPLIT, BEFORE, 1), predict(SPLIT, AFTER, 2).sample(frac=1, random_state=0)
    (found,) = compare.compare([write_run(workdir, f"2026010{k}-000000", table) for k, table in enumerate(tables, 1)])
    assert (found.test, found.shared) == ("mcnemar", 600)
    assert found.how == ["Both were tested on the same 600 examples, with McNemar's exact test."]
    assert {c.values[0]: c.verdict for c in found.classes} == {"owl": "worse", "cat": "better", "dog": "chance"}
    assert [c.values[0] for c in found.classes] == ["owl", "cat", "dog"]
    right = [table.set_index("id").eval("label == predicted").sort_index() for table in tables]
    cats = right[0].index[SPLIT["class_name"] == "cat"]
    cat = found.classes[1]
    assert cat.lost == (right[0][cats] & ~right[1][cats]).sum()
    assert cat.gained == (right[1][cats] & ~right[0][cats]).sum()
    assert (cat.first, cat.share) == (right[0][cats].mean(), right[1][cats].mean())
    assert cat.p == stats.binomtest(int(cat.gained), int(cat.gained + cat.lost)).pvalue
    assert found.overall.lost == (right[0] & ~right[1]).sum()
    assert found.overall.corrected == found.overall.p  # one run, one test
    json.dumps(found.record(), allow_nan=False)


def test_several_runs_are_compared_with_the_first_and_all_count_for_the_correction(workdir):
    runs = [
        write_run(workdir, f"2026010{k}-000000", predict(SPLIT, skill, k))
        for k, skill in enumerate((BEFORE, AFTER, BEFORE), 1)
    ]
    both = compare.compare(runs)
    assert [(c.first, c.run) for c in both] == [
        ("20260101-000000", "20260102-000000"),
        ("20260101-000000", "20260103-000000"),
    ]
    (alone,) = compare.compare(runs[:2])
    assert both[0].overall.corrected == statistics.holm([c.overall.p for c in both])[0]
    p = {c.values: c.p for c in both[0].classes}
    assert p == {c.values: c.p for c in alone.classes}
    assert min(c.corrected for c in both[0].classes) == approx(6 * min(p.values()))
    assert min(c.corrected for c in alone.classes) == approx(3 * min(p.values()))


def test_only_shared_examples_are_compared(workdir):
    other = predict(SPLIT.iloc[100:], AFTER, 2)
    (found,) = compare.compare(
        [
            write_run(workdir, "20260101-000000", predict(SPLIT, BEFORE, 1)),
            write_run(workdir, "20260102-000000", other),
        ]
    )
    assert (found.test, found.shared) == ("mcnemar", 500)
    assert "500 test examples that both have (of 600 and 500)" in found.how[0]
    assert {c.values[0]: c.count for c in found.classes} == {"cat": 100, "dog": 200, "owl": 200}


def test_an_id_that_holds_another_image_is_left_out_and_said(workdir):
    other = SPLIT.copy()
    other.loc[:9, "width"] = 64
    other.loc[10:14, "brightness"] = "bright (128-191)"
    other.loc[15:17, ["label", "class_name"]] = [1, "dog"]
    other.loc[18:19, "digest"] = "of other pixels"
    (found,) = compare.compare(
        [
            write_run(workdir, "20260101-000000", predict(SPLIT, BEFORE, 1)),
            write_run(workdir, "20260102-000000", predict(other, BEFORE, 2)),
        ]
    )
    assert found.shared == 580
    assert "20 examples have the id of another image or class and were left out." in found.how


def test_ids_that_are_not_unique_are_left_out_and_said(workdir):
    twice = SPLIT.copy()
    twice.loc[1, "id"] = twice.loc[0, "id"]
    tables = predict(twice, BEFORE, 1), predict(SPLIT, BEFORE, 2)
    (found,) = compare.compare([write_run(workdir, f"2026010{k}-000000", t) for k, t in enumerate(tables, 1)])
    assert found.shared == 598
    assert "2 examples have no id of their own and were left out." in found.how


@pytest.mark.parametrize("why", ["no predictions", "other examples"])
def test_without_shared_examples_two_independent_shares_are_tested(workdir, why):
    split = SPLIT if why == "no predictions" else examples(count=100, prefix="new")
    runs = [
        write_run(workdir, "20260101-000000", predict(SPLIT, BEFORE, 1), kept=why != "no predictions"),
        write_run(workdir, "20260102-000000", predict(split, AFTER, 2)),
    ]
    (found,) = compare.compare(runs)
    assert (found.test, found.shared) == ("fisher", None)
    assert "Fisher's exact test" in found.how[0]
    said = {
        "no predictions": "Run 20260101-000000 kept no predictions",
        "other examples": "The runs share no test example (600 and 300 in all)",
    }
    assert said[why] in found.how[0]
    cat = next(c for c in found.classes if c.values == ("cat",))
    rows = [next(row for row in run["evaluation"]["classes"] if row["class_name"] == "cat") for run in runs]
    right = [round(row["recall"] * row["count"]) for row in rows]
    table = [[n, row["count"] - n] for n, row in zip(right, rows, strict=True)]
    assert cat.p == stats.fisher_exact(table).pvalue
    assert (cat.lost, cat.gained, cat.verdict) == (None, None, "better")


def test_the_same_evaluation_twice_differs_by_nothing(workdir):
    first = write_run(workdir, "20260101-000000", predict(SPLIT, BEFORE, 1))
    second = write_run(workdir, "20260102-000000", None, source=first)
    (found,) = compare.compare([first, second])
    assert {c.verdict for c in found.classes} == {"chance"}
    assert (found.overall.lost, found.overall.gained, found.overall.p) == (0, 0, 1.0)
    assert "Both runs show the same evaluation: the later one took it from the cache." in found.how


def test_runs_of_other_classes_cannot_be_compared(workdir):
    first = write_run(workdir, "20260101-000000", predict(SPLIT, BEFORE, 1))
    split = examples(("cat", "dog", "emu"), 20)
    second = write_run(workdir, "20260102-000000", predict(split, 0.8, 1), name="zoo")
    with pytest.raises(UserError, match=r"20260101-000000 \(pets\) and 20260102-000000 \(zoo\).*classes emu, owl"):
        compare.compare([first, second])
    with pytest.raises(UserError, match="20260101-000000 is named twice"):
        compare.compare([first, first])


def test_labels_in_another_order_are_the_same_classes(workdir):
    first = write_run(workdir, "20260101-000000", predict(SPLIT, BEFORE, 1))
    turned = SPLIT.assign(label=2 - SPLIT["label"])
    second = write_run(workdir, "20260102-000000", predict(turned, BEFORE, 1))
    (found,) = compare.compare([first, second])
    assert found.shared == 600
    assert {c.verdict for c in found.classes} == {"chance"}


def test_slices_are_compared_in_any_order_of_their_features(workdir):
    runs = [
        write_run(workdir, f"2026010{k}-000000", predict(SPLIT, skill, k))
        for k, skill in enumerate((BEFORE, AFTER), 1)
    ]
    pairs, _ = compare.meet(*runs)
    found = compare.changes(*runs, pairs, ["brightness", "class_name"])
    turned = compare.changes(*runs, pairs, ["class_name", "brightness"])
    assert {c.values for c in found} == {c.values[::-1] for c in turned}
    assert sum(c.count for c in found) == 600
    assert sum(c.gained for c in found) == compare.changes(*runs, pairs, ())[0].gained
    without = compare.changes(*runs, None, ["brightness", "class_name"])
    for one, other in zip(
        sorted(without, key=lambda c: c.values), sorted(found, key=lambda c: c.values), strict=True
    ):
        assert (one.values, one.first, one.share) == (other.values, approx(other.first), approx(other.share))


def test_unknown_slices_are_answered_with_the_known_and_the_setting(workdir):
    run = write_run(workdir, "20260101-000000", predict(SPLIT, BEFORE, 1))
    with pytest.raises(UserError) as raised:
        compare.find_slices(run["evaluation"], ["size"])
    assert "class_name, brightness, class_name,brightness" in str(raised.value)
    assert """--set 'evaluation.slices=["brightness", "class_name,brightness", "size"]'""" in str(raised.value)


def test_the_page_has_all_of_it_and_escapes_names(workdir):
    split = examples(("<script>alert(1)</script>", *(f"c{k}" for k in range(20))), 40)
    runs = [
        write_run(workdir, f"2026010{k}-000000", predict(split, 0.5, k), name="<b>", kept=k != 3) for k in (1, 2, 3)
    ]
    page = compare.page(runs, compare.compare(runs))
    assert "<script>alert(1)" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    assert page.count('<svg class="change') == 2 * 22
    assert "Fisher&#39;s exact test" in page
    assert "comparing 21 classes in 2 runs at once" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_command(workdir, tmp_path, capsys):
    for k, skill in enumerate((BEFORE, AFTER, BEFORE), 1):
        write_run(workdir, f"2026010{k}-000000", predict(SPLIT, skill, k))

    def run(*arguments):
        cli.main(["compare", "--workdir", str(workdir.path), *map(str, arguments)], standalone_mode=False)
        return capsys.readouterr().out

    table = run("20260101", "20260102", "--html", tmp_path / "page.html")
    assert "▼ worse" in table
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    told = json.loads(run("20260101", "20260102", "20260103", "--format", "json"))["comparisons"]
    assert [part["run"] for part in told] == ["20260102-000000", "20260103-000000"]
    assert {row["class_name"]: row["verdict"] for row in told[0]["classes"]}["cat"] == "better"
    rows = list(csv.DictReader(run("20260101", "20260102", "--format", "csv").splitlines()))
    assert [row["class_name"] for row in rows] == ["", "owl", "cat", "dog"]
    assert set(rows[0]) == {"first", "run", "test", "class_name"} | set(told[0]["overall"])
    for arguments in ((), ("20260101",), ("20260101", "2025")):
        with pytest.raises(SystemExit) as ended:
            run(*arguments)
        assert ended.value.code == 2
        assert capsys.readouterr().err.startswith("alexnet: ")


def test_damaged_predictions_are_named(workdir):
    runs = [write_run(workdir, f"2026010{k}-000000", predict(SPLIT, BEFORE, k)) for k in (1, 2)]
    (file,) = workdir.path.glob("artifacts/*/*/20260102-000000/predictions/*.parquet")
    file.write_bytes(b"PAR1 nonsense")
    with pytest.raises(
        UserError, match=r"^The predictions in \S*20260102-000000/predictions cannot be read, .* again\.$"
    ):
        compare.compare(runs)
    file.unlink()
    assert compare.predictions(runs[1]["evaluation"]) is None
    shutil.rmtree(file.parent)
    (found,) = compare.compare(runs)
    assert found.test == "fisher"
