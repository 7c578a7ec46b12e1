"""Weak slices: the hidden group is found and named first, and where there is none nothing is named."""

import functools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from core import settings
from review import predictions, statistics, weak_slices

CLASSES = tuple(f"class {k}" for k in range(10))
BRIGHTNESS = ("dark (<64)", "dim (64-127)", "bright (128-191)", "light (>=192)")
CONTRAST = ("low (<32)", "medium (32-63)", "high (>=64)")
SIZE = ("to 32 px", "33-64 px")
HIDDEN = {"class_name": CLASSES[3], "brightness": BRIGHTNESS[0], "size": SIZE[0]}


def examples(seed, count=2000):
    """Test examples of a model whose recall depends on the class alone, from 60 to 98 %.

    The features go along with the class, and with each other: some classes are darker, the dark ones have less
    contrast, the large ones are wider; `lens`, the data's own, goes along with contrast; `score` is a number.
    """
    random = np.random.default_rng(seed)
    label = random.integers(0, len(CLASSES), count).astype(np.int32)
    bright = np.clip(random.integers(0, 4, count) - (random.random(count) < label / 12), 0, 3)
    contrast = np.clip(random.integers(0, 3, count) - ((bright == 0) & (random.random(count) < 0.5)), 0, 2)
    size = (random.random(count) < 0.3 + 0.4 * (label % 2)).astype(int)
    recall = np.linspace(0.6, 0.98, len(CLASSES))[random.permutation(len(CLASSES))]
    table = pd.DataFrame(
        {
            "id": [f"test-{number:06d}" for number in range(count)],
            "label": label,
            "class_name": np.array(CLASSES, object)[label],
            "width": 24 + 20 * size + random.integers(0, 9, count),
            "brightness": np.array(BRIGHTNESS, object)[bright],
            "contrast": np.array(CONTRAST, object)[contrast],
            "size": np.array(SIZE, object)[size],
            "lens": np.where(random.random(count) < 0.8, contrast, random.integers(0, 3, count)).astype(str),
            "score": random.normal(size=count).astype(str),
        }
    )
    return answer(table, recall[label], random)


def answer(table, chance, random):
    """The table with what a model said that is right with these chances."""
    wrong = random.random(len(table)) >= chance
    other = (table["label"] + random.integers(1, len(CLASSES), len(table))) % len(CLASSES)
    probability = random.uniform(0.3, 1, len(table)).astype(np.float32)
    return table.assign(predicted=np.where(wrong, other, table["label"]), probability=probability)


def members(table, conditions):
    return functools.reduce(np.logical_and, (table[name] == value for name, value in conditions.items()))


def harmed(table, conditions, seed, right=0.3):
    """The table with a group of which only so many are right."""
    random = np.random.default_rng(seed + 1000)
    inside = members(table, conditions)
    return pd.concat([table[~inside], answer(table[inside], right, random)]).sort_values("id", ignore_index=True)


def harder(table, conditions, seed, odds=5):
    """The table with a group that is harder by the same odds in every class."""
    inside = members(table, conditions)
    wrong = table["label"] != table["predicted"]
    share = table["class_name"].map(wrong.groupby(table["class_name"]).mean())[inside]
    return harmed(table, conditions, seed, 1 - odds * share / (1 - share + odds * share))


def named(found):
    return [dict(zip(weak.features, weak.values, strict=True)) for weak in found.slices]


def test_without_a_hidden_group_nothing_is_named_in_at_least_95_of_100_seeds():
    found = [weak_slices.search(examples(seed), 30) for seed in range(100)]
    assert min(each.looked_at for each in found) > 400
    assert sum(bool(each.slices) for each in found) <= 5


@pytest.mark.parametrize("seed", range(10))
def test_the_hidden_group_is_the_first_that_is_named(seed):
    table = harmed(examples(seed, 6000), HIDDEN, seed, right=0.2)
    found = weak_slices.search(table, 30)
    assert named(found)[0] == HIDDEN
    (first, *others) = found.slices
    assert first.p < 0.001
    assert not others  # neither what it is a part of, nor parts of it


def test_it_says_what_can_be_counted_in_the_table():
    table = harmed(examples(0, 4000), HIDDEN, 0)
    first = weak_slices.search(table, 30).slices[0]
    inside = members(table, HIDDEN)
    right = table["label"] == table["predicted"]
    assert first.count == inside.sum()
    assert first.right == (inside & right).sum()
    assert first.rest_accuracy == pytest.approx(right[~inside & (table["class_name"] == CLASSES[3])].mean())
    mistakes = table[inside & ~right].sort_values("probability", ascending=False).head(weak_slices.SHOWN)
    assert first.ids == tuple(mistakes["id"])
    assert first.rows == tuple(mistakes.index)
    assert list(first.rows) == weak_slices.search(table, 30).rows


def test_the_rest_of_a_slice_of_all_classes_has_its_classes():
    table = harder(examples(1, 4000), {"contrast": CONTRAST[2]}, 1)
    (first,) = weak_slices.search(table, 30).slices
    inside = members(table, {"contrast": CONTRAST[2]})
    right = table["label"] == table["predicted"]
    by_class = right[~inside].groupby(table["class_name"]).mean()
    shares = table["class_name"][inside].value_counts(normalize=True)
    assert first.features == ("contrast",)
    assert first.rest_accuracy == pytest.approx((by_class * shares).sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("group", [{"brightness": BRIGHTNESS[0]}, {"brightness": BRIGHTNESS[2], "size": SIZE[1]}])
def test_a_part_of_a_weak_slice_is_not_named_again(seed, group):
    found = weak_slices.search(harder(examples(seed, 4000), group, seed), 30)
    assert named(found) == [group]


def test_a_part_that_is_worse_still_is_named_beside_it():
    dark = {"brightness": BRIGHTNESS[0]}
    table = harder(examples(2, 6000), dark, 2, odds=3)
    worse = dark | {"class_name": CLASSES[5]}
    table = harmed(table, worse, 3, right=0.05)
    found = named(weak_slices.search(table, 30))
    assert dark in found
    assert worse in found
    assert len(found) == 2


def test_two_hidden_groups_are_two():
    other = {"class_name": CLASSES[8], "contrast": CONTRAST[2]}
    found = named(weak_slices.search(harmed(harmed(examples(4, 6000), HIDDEN, 4), other, 5), 30))
    assert sorted(map(sorted, found)) == sorted(map(sorted, (HIDDEN, other)))
    assert HIDDEN in found
    assert other in found


def test_a_slice_of_hard_classes_is_not_weak():
    table = examples(6, 4000)
    hard = table["label"] < 3
    table["only"] = np.where(hard, "hard", "easy")  # all of a class in one slice
    table["mostly"] = np.where(hard ^ (np.arange(len(table)) % 9 == 0), "hard", "easy")
    random = np.random.default_rng(6)
    table = answer(table, np.where(hard, 0.4, 0.97), random)
    right = table["label"] == table["predicted"]
    assert right[table["mostly"] == "hard"].mean() < right[table["mostly"] == "easy"].mean() - 0.3
    assert weak_slices.search(table, 30).slices == ()


def test_features_that_divide_alike_are_one():
    table = examples(7, 6000)
    table["again"] = table["size"].map({SIZE[0]: "a", SIZE[1]: "b"})
    found = weak_slices.search(table, 30)
    assert "size" in found.features
    assert "again" not in found.features
    assert found.looked_at == weak_slices.search(table.drop(columns="again"), 30).looked_at
    assert named(weak_slices.search(harmed(table, HIDDEN, 7), 30)) == [HIDDEN]


def test_numbers_are_divided_into_quantiles_and_few_values_are_kept():
    table = examples(8)
    group = (table["score"].astype(float) > table["score"].astype(float).quantile(0.75)) & (table["lens"] == "0")
    table = table.assign(predicted=np.where(group, (table["label"] + 1) % 10, table["label"]))
    (first,) = weak_slices.search(table, 30).slices
    assert first.features == ("lens", "score")
    lens, score = first.values
    assert lens == "0"
    low, high = map(float, score.split(" to "))
    assert high == pytest.approx(table["score"].astype(float).max())
    inside = table["score"].astype(float).between(low * (1 - 1e-6), high * (1 + 1e-6)) & (table["lens"] == "0")
    assert first.count == inside.sum()
    assert first.right <= 0.02 * first.count


def test_what_is_missing_or_no_single_value_is_no_slice():
    table = examples(9)
    table["lens"] = np.where(np.arange(len(table)) % 2, table["lens"], "")
    table["gone"] = None
    table["same"] = "same"
    table["top"] = table["further"] = [[1, 2, 3]] * len(table)
    table["rare"] = [f"{number // 20}" for number in range(len(table))]
    table["rare"] += "x"
    found = weak_slices.search(table, 30)
    assert set(found.features) == {"width", "brightness", "contrast", "size", "lens", "score"}


@pytest.mark.parametrize("columns", [[], ["brightness"], ["brightness", "width"]])
def test_older_predictions_lack_features(columns):
    table = harder(examples(10, 4000), {"brightness": BRIGHTNESS[1]}, 10)
    older = table[["id", "label", "class_name", "predicted", "probability", *columns]]
    found = weak_slices.search(older, 30)
    assert found.features == tuple(columns)
    assert named(found) == [{"brightness": BRIGHTNESS[1]}][: len(columns)]


def test_copies_of_a_picture_count_once():
    table = examples(11, 1000).assign(digest=lambda table: table["id"])
    row = table[table["label"] != table["predicted"]].index[0]
    copies = table.loc[[row] * 60].assign(id=[f"copy-{number}" for number in range(60)], lens="new", digest="one")
    repeated = pd.concat([table, copies], ignore_index=True)
    assert weak_slices.search(repeated, 30).slices == ()
    assert named(weak_slices.search(repeated.drop(columns="digest"), 30))[0]["lens"] == "new"


@pytest.mark.parametrize("count", [0, 1, 25])
def test_of_few_examples_nothing_is_said(count):
    found = weak_slices.search(examples(12, 100)[:count], 30)
    assert (found.looked_at, found.slices) == (0, ())


def test_a_model_without_mistakes_and_one_without_success():
    table = examples(13)
    for predicted in (table["label"], (table["label"] + 1) % 10):
        found = weak_slices.search(table.assign(predicted=predicted), 30)
        assert found.looked_at > 400
        assert found.slices == ()


def test_the_setting_switches_it_off():
    table = examples(14)
    assert weak_slices.find(table, settings.Evaluation(find_weak_slices=False)) is None
    strict = weak_slices.find(table, settings.Evaluation(smallest_slice=200))
    assert strict.looked_at < weak_slices.find(table, settings.Evaluation()).looked_at


def test_the_order_of_the_examples_does_not_matter():
    table = harmed(examples(15, 4000), HIDDEN, 15)
    first, second = (weak_slices.search(each, 30) for each in (table, table.sample(frac=1, random_state=1)))
    assert first.looked_at == second.looked_at
    assert named(first) == named(second)
    assert [weak.ids for weak in first.slices] == [weak.ids for weak in second.slices]


def test_the_p_value_is_no_smaller_than_the_exact_one_and_not_much_larger():
    random = np.random.default_rng(0)
    ratios = []
    for _ in range(200):
        strata = random.integers(1, 5)
        of_n = random.integers(10, 150, strata)
        of_w, n = random.integers(0, of_n // 5), random.integers(1, of_n // 2)
        parts = [stats.hypergeom(*each).pmf(np.arange(40)) for each in zip(of_n, of_w, n, strict=True)]
        exact = functools.reduce(np.convolve, parts)[::-1].cumsum()[::-1]
        # What counts is the sum over the strata: from none of its mistakes to all that there may be.
        mistakes = np.arange(int(np.minimum(n, of_w).sum()) + 1)
        w = np.concatenate([mistakes[:, None], np.zeros((len(mistakes), strata - 1), int)], axis=1)
        found = weak_slices.excess(np.broadcast_to(n, w.shape), w, of_n, of_w)
        exact = exact[: len(mistakes)]
        assert (found >= exact * (1 - 1e-9)).all()
        if strata == 1:
            np.testing.assert_allclose(found, exact, rtol=1e-9)
        ratios += (found / exact)[(found <= 0.05) & (found > 1e-5)].tolist()
    assert len(ratios) > 100
    assert np.median(ratios) < 3


def test_a_stratum_that_lies_wholly_in_the_slice_says_nothing():
    n, w, of_n, of_w = (np.array(each) for each in ([20, 50], [10, 49], [100, 50], [15, 49]))
    alone = weak_slices.excess(n[:1], w[:1], of_n[:1], of_w[:1])
    assert weak_slices.excess(n, w, of_n, of_w) == alone < 0.001


def test_holms_correction_counts_those_that_are_not_given():
    values = [0.001, 0.0004, 0.03]
    assert statistics.holm(values, 5) == statistics.holm([*values, 1, 1])[:3]
    assert statistics.holm(values) == statistics.holm(values, 3)


def test_the_record_has_the_form_of_the_report():
    from review.report import schema

    found = weak_slices.search(harmed(examples(16, 4000), HIDDEN, 16), 30)
    files = {row: f"{row}.png" for row in found.rows[1:]}
    record = schema.WeakSlices(**found.record(files))
    (row,) = record.rows
    assert dict(zip(row.features, row.values, strict=True)) == HIDDEN
    assert row.pictures == [f"{number}.png" for number in found.rows[1:]]
    assert row.accuracy_interval == statistics.wilson(row.accuracy, row.count)
    assert predictions.schema(["lens"]).names[-1] == "lens"
