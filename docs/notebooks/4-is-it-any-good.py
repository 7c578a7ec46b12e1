# %% [markdown]
# # Is it any good?
#
# A network has 90 % of its test pictures right. Is that good? Is it *sure*? Is it better than the one before, and
# may it serve? Here a real run of the pipeline is taken apart to answer these four, in this order:
#
# 1. the confusion matrix, read by hand: recall, precision, F1
# 2. why accuracy alone misleads: thresholds, AUC, and how common a class is
# 3. how sure a number is, and why a class of 30 examples proves little
# 4. whether 90 % means 90 %: calibration
# 5. slices and crosses, and the trap in looking at many
# 6. comparing two models with McNemar's test
# 7. gates and the baseline: how a pipeline decides
#
# It takes about 25 minutes to read and about two to run on two idle cores. It needs no network: the pictures are
# drawn. Its kernel is the Python in `.venv`; [review.ipynb](../review.ipynb) says how to choose it. Every number
# below comes out of the run above it, so on your machine some will differ a little.

# %% tags=["parameters"]
WORKDIR = "workdir"  # beside this notebook
TRAIN, TEST = 4000, 2000  # pictures
EPOCHS = 4

# %%
import numpy as np
import pandas as pd
from IPython.display import Image, Markdown
from matplotlib.figure import Figure
from scipy import stats

from components import shapes
from core import settings
from core.workdir import Workdir
from pipeline import run
from review import figures, predictions, statistics
from review.notebook import Review


def show(figure):
    return Image(figures.save(figure, "png"), width=round(130 * figure.get_figwidth()))


# %% [markdown]
# ## A run
#
# This is `alexnet run` as a function call: the same settings, the same pipeline, the same results. The data set
# `shapes10` shows ten drawn shapes on 32 × 32 pixels. We let the network train on less than the preset does, so
# that there are mistakes to learn from, and set the gates low. If you run this cell again, everything comes from
# the cache.

# %%
ASKED = [f"data.train_split=train[:{TRAIN}]", f"data.test_split=test[:{TEST}]"]
ASKED += ["gates.min_accuracy=0.3", "gates.min_class_recall=0"]


def tell(state, line):
    if line and not line.endswith("running"):
        print(line)


def train(*changes):
    """The results of a run of the pipeline."""
    asked = run.Request(settings.load(overrides=[*ASKED, *changes]))
    _, results = run.run(asked, Workdir(WORKDIR), tell)
    return results


first = train(f"training.epochs={EPOCHS}")
review = Review.load(first["run"], WORKDIR)
evaluation = review.data.evaluation
Markdown(f"Of {evaluation.count:,} test pictures it has **{evaluation.accuracy:.1%}** right.")

# %% [markdown]
# ## 1. The confusion matrix, by hand
#
# One row for each class that a picture *is* of, one column for each that it was *taken for*. What is right lies on
# the diagonal. Read along a row: where did the circles go? Read down a column: what is in the pile that the network
# calls circles?

# %%
show(figures.draw_confusion_matrix(review.confusion_matrix.to_numpy(), evaluation.class_names))

# %% [markdown]
# Two different questions can be asked of a class:
#
# - **recall**, along its row: of the pictures that *are* of it, how many were found?
# - **precision**, down its column: of those that were *called* so, how many are?
#
# **F1** is the harmonic mean of the two: it is high only if both are. Let us count for the class with the worst
# recall, and compare with what the pipeline has from TFMA.

# %%
worst = review.classes.index[0]
matrix = review.confusion_matrix
found = matrix.loc[worst, worst]
missed = matrix.loc[worst].sum() - found  # the rest of its row
mistaken = matrix[worst].sum() - found  # the rest of its column

recall = found / (found + missed)
precision = found / (found + mistaken)
f1 = 2 * recall * precision / (recall + precision)

print(f"{worst}: {found} found, {missed} missed, {mistaken} of other classes taken for it")
names = ["recall", "precision", "f1"]
pd.DataFrame({"by hand": [recall, precision, f1], "TFMA": review.classes.loc[worst, names]}, index=names).round(4)

# %% [markdown]
# Numbers say where, pictures say why. These are pictures of that class which were taken for something else, those
# first of which the network was surest. Would you have known?

# %%
table = review.predictions
mistakes = table[(table.class_name == worst) & ~table.right].nlargest(8, "probability")
pixels, _ = shapes.draw([int(name.split("-")[1]) for name in mistakes.id], "test")
said = mistakes[["class_name", "predicted_class_name", "probability"]].itertuples(index=False)
show(figures.draw_pictures([(image, *words) for image, words in zip(pixels, said, strict=True)]))

# %% [markdown]
# ## 2. Why accuracy alone misleads
#
# Let the network be a detector of that one class: does the picture show it, yes or no? One picture in ten does.
# Whoever always says *no* is right nine times out of ten, and useless.
#
# The network gives each class a probability, so we may choose from which probability on we say *yes*. That is the
# **threshold**, and it trades recall for precision:

# %%
frame, probabilities = predictions.read_probabilities(evaluation.path)
label = evaluation.class_names.index(worst)
is_it = (frame.label == label).to_numpy()
probability = probabilities[:, label].astype(float)


def detector(yes):
    return {
        "accuracy": (yes == is_it).mean(),
        "recall": yes[is_it].mean(),
        "precision": is_it[yes].mean() if yes.any() else np.nan,
    }


rows = {"always no": detector(np.zeros_like(is_it))}
rows |= {f"yes from {limit:.0%} on": detector(probability >= limit) for limit in (0.02, 0.1, 0.5, 0.9)}
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# All thresholds at once are the **ROC curve**: how much is found (recall) for how many false alarms (the share of
# the *other* pictures that get a yes). The area under it, **AUC**, needs no threshold. It is the probability that a
# picture of the class, drawn at random, gets a higher probability than one of another class (Hanley and McNeil
# 1982). That can be counted, pair by pair:

# %%
own, others = probability[is_it], probability[~is_it]
higher = (own[:, None] > others).mean() + (own[:, None] == others).mean() / 2

limits = np.unique(probability)[::-1]
alarms = [(others >= limit).mean() for limit in limits]
recalls = [(own >= limit).mean() for limit in limits]
with figures.style():
    figure = Figure(figsize=(figures.COLUMN, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, *alarms], [0, *recalls], color=figures.BLUE)
    axes.plot([0, 1], [0, 1], "--", color=figures.GREY, linewidth=0.8)
    axes.set(xlabel="false alarms", ylabel="recall", title=f"{worst} against the rest")
print(f"AUC of {worst}: {higher:.4f} pair by pair, {review.classes.auc[worst]:.4f} by the pipeline")
show(figure)

# %% [markdown]
# The pipeline counts in classes of probability that are a hair wide, so that its memory does not grow with the
# pictures; hence perhaps another last digit.
#
# **How common a class is** decides what precision is worth. Recall and false alarms belong to the detector.
# Precision belongs to the detector *and the world*: where one picture in a thousand shows the class, the same
# detector raises its false alarms on the other 999.

# %%
yes = probability >= 0.5
hit, alarm = yes[is_it].mean(), yes[~is_it].mean()
shares = np.array([0.5, 0.1, 0.01, 0.001])
pd.DataFrame(
    {
        "recall": hit,
        "false alarms": alarm,
        "precision": hit * shares / (hit * shares + alarm * (1 - shares)),
    },
    index=pd.Index([f"{share:.1%}" for share in shares], name=f"share of {worst}"),
).round(4)

# %% [markdown]
# So a precision from a test split holds where the classes are as common as in the test split, and nowhere else.
#
# ## 3. How sure is that number?
#
# The test pictures are a sample. Other pictures of the same kind would have given another recall. A **95 %
# interval** is made so that in 95 of 100 such samples it contains the true value. The pipeline uses Wilson's
# (1927). It is drawn on each bar:

# %%
show(figures.class_recall(evaluation))

# %% [markdown]
# The textbook's interval, share ± 1.96 √(share (1 - share) / n) (*Wald*), is too narrow for shares near 1, and
# those are what we are after. How often does each contain the true value? For a given true share that can be
# computed exactly, by adding up the binomial probabilities of all counts whose interval contains it (as Brown, Cai
# and DasGupta 2001 do):

# %%


def wald(share, count):
    margin = 1.96 * np.sqrt(share * (1 - share) / count)
    return share - margin, share + margin


def coverage(interval, true, count):
    """How often the interval of a sample contains the true share."""
    rights = np.arange(count + 1)
    contains = [low <= true <= high for low, high in (interval(right / count, count) for right in rights)]
    return stats.binom.pmf(rights, count, true) @ contains


pd.DataFrame(
    [
        {
            "true share": true,
            "n": count,
            "Wald": coverage(wald, true, count),
            "Wilson": coverage(statistics.wilson, true, count),
        }
        for true in (0.9, 0.97)
        for count in (30, 200)
    ]
).round(3)

# %% [markdown]
# ### Why a class of 30 examples proves little
#
# How wide is the interval of a recall of 90 %, by the number of examples?

# %%
counts = pd.Index([10, 30, 100, 200, 1000, 10_000], name="examples")
widths = pd.DataFrame([statistics.wilson(0.9, count) for count in counts], counts, ["from", "to"])
widths.assign(width=widths.to - widths["from"]).round(3)

# %% [markdown]
# With 30 examples, 90 % may be 75 % or 96 %. Or ask it this way: one model really finds 80 % of a class, another
# one 90 %. Both are tried on examples of their own. How often does the *worse* one look at least as good?

# %%


def fooled(worse, better, count):
    rights = np.arange(count + 1)
    at_least = stats.binom.sf(rights - 1, count, worse)  # that the worse one has so many right, or more
    return stats.binom.pmf(rights, count, better) @ at_least


counts = pd.Index([10, 30, 100, 200, 1000], name="examples")
pd.DataFrame({"the worse one looks as good or better": [fooled(0.8, 0.9, n) for n in counts]}, counts).round(4)

# %% [markdown]
# That is why the pipeline marks slices with fewer than 30 examples as too small to judge by
# (`evaluation.smallest_slice`), and why even 30 is a floor and not a comfort.
#
# ## 4. Does 90 % mean 90 %?
#
# A model is **calibrated** if of all the answers that it gives with a probability of 90 %, nine in ten are right.
# To look at that, the answers are sorted into bins by their probability:

# %%
bins = pd.DataFrame([one.model_dump() for one in evaluation.calibration if one.count])
bins["gap"] = bins.accuracy - bins.confidence
by_hand = (bins["count"] * bins.gap.abs()).sum() / bins["count"].sum()
print(f"expected calibration error: {by_hand:.4f} by hand, {evaluation.calibration_error:.4f} by the pipeline")
bins.round(3)

# %%
show(figures.reliability(evaluation))

# %% [markdown]
# `confidence` is the mean probability in a bin, `accuracy` the share that is right. Above the diagonal the model is
# too modest, below it too sure. The **expected calibration error** is the mean gap, each bin weighted by its
# answers (Guo et al. 2017). Mind how few answers some bins have: their points mean little, see above.
#
# The hollow points are the same model before the pipeline fitted a **temperature**: one number by which all logits
# are divided before the softmax, chosen on the validation split (Guo et al. 2017, section 4.2). It cannot change
# which class comes first, so accuracy stays as it is; it only makes the probabilities honest.

# %%
before = evaluation.uncalibrated
pd.DataFrame(
    {
        "temperature": [1, before.temperature],
        "calibration error": [before.calibration_error, evaluation.calibration_error],
        "loss": [before.loss, evaluation.loss],
    },
    index=["as trained", "as served"],
).round(4)

# %% [markdown]
# This training uses label smoothing, which asks for 91 % where a label says 100 %, so the network as trained tends
# to be too modest, and the temperature tends to be below 1.
#
# ## 5. Slices and crosses
#
# A mean hides what it averages over. A **slice** is a part of the test split that is judged by itself: dark
# pictures, say. A **cross** is a slice by two features at once. TFMA measures those that the settings name:

# %%
review.slices("brightness").drop(columns=["loss", "baseline_accuracy"]).round(3)

# %%
crossed = review.slices("class_name", "brightness")
crossed.drop(columns=["loss", "baseline_accuracy"]).head(8).round(3)

# %% [markdown]
# The worst of these is bad. But is it bad because of what its pictures have in common, or is it just the unluckiest
# of many? Who looks at forty slices will find a bad one in any model. So let us see how bad the worst slice is *if
# the features do not matter*: we deal the mistakes out anew, at random, within each class, and look at the worst
# slice again; a thousand times. (Westfall and Young 1993 make a test of that.)

# %%
known = review.predictions
slices = known.groupby(["class_name", "brightness"]).ngroup().to_numpy()
sizes = np.bincount(slices)
large = sizes >= 30


def worst_slice(right):
    return (np.bincount(slices, right) / sizes)[large].min()


chance = np.random.default_rng(1)
right = known.right.to_numpy()
members = [np.flatnonzero(known.class_name == name) for name in evaluation.class_names]
dealt = []
for _ in range(1000):
    shuffled = right.copy()
    for rows in members:
        shuffled[rows] = chance.permutation(right[rows])
    dealt.append(worst_slice(shuffled))

real = worst_slice(right)
with figures.style():
    figure = Figure(figsize=(figures.COLUMN, 2.2), layout="constrained")
    axes = figure.subplots()
    axes.hist(dealt, bins=25, color=figures.BLUE, alpha=0.75)
    axes.axvline(real, color=figures.VERMILLION)
    axes.set(xlabel="accuracy of the worst slice of 30 or more", ylabel="of 1,000 deals")
as_bad = np.mean(np.array(dealt) <= real)
print(f"{large.sum()} slices of 30 or more; the worst has {real:.1%}; as bad or worse by chance: {as_bad:.1%}")
show(figure)

# %% [markdown]
# The red line is the real one. Where it lies within the blue, the slice is no finding. Where it lies to the left of
# it, look at its pictures.
#
# The pipeline looks for such slices by itself, among all features and their crosses, against the other pictures *of
# the same classes*, and corrects for how many it looked at. What it found here:

# %%
weak = evaluation.weak_slices
rows = [
    {"slice": ", ".join(row.values), **row.model_dump(include={"count", "accuracy", "rest_accuracy", "p"})}
    for row in weak.rows
]
print(f"{weak.looked_at} slices looked at, {len(rows)} worse than the rest beyond chance")
pd.DataFrame(rows, columns=["slice", "count", "accuracy", "rest_accuracy", "p"]).round(4)

# %% [markdown]
# ## 6. Is it better than the other one?
#
# Somebody wants to halve the training, to save time. What does it cost? We train again. All nodes before Trainer
# come from the cache, and the test pictures are the same.

# %%
second = train(f"training.epochs={EPOCHS // 2}")
other = Review.load(second["run"], WORKDIR)
pd.DataFrame(
    {"accuracy": [one.data.evaluation.accuracy for one in (review, other)]}, ["first", "half the training"]
).round(4)

# %% [markdown]
# Both models saw the *same* pictures, so they can be compared picture by picture. Pictures that both have right, or
# both wrong, say nothing about which is better. Only those count of which one has it right and the other not:

# %%
pairs = review.predictions.merge(other.predictions, on="id", suffixes=("_first", "_second"))
pd.crosstab(
    pairs.right_first.map({True: "first right", False: "first wrong"}),
    pairs.right_second.map({True: "second right", False: "second wrong"}),
).rename_axis(index=None, columns=None)

# %% [markdown]
# If the two were equally good, each of these pictures would go either way like a coin. **McNemar's test** (1947)
# asks how likely so uneven a split of coins is, or a more uneven one. Small is significant. Let us toss the coins
# by hand, in a formula, and ask the pipeline:

# %%
lost = int((pairs.right_first & ~pairs.right_second).sum())
gained = int((~pairs.right_first & pairs.right_second).sum())
tosses = lost + gained
p = min(1, 2 * stats.binom.cdf(min(lost, gained), tosses, 0.5))

compared = other.compare(review)
n = len(pairs)
unpaired = statistics.fisher(int(pairs.right_first.sum()), n, int(pairs.right_second.sum()), n)
change = compared.overall
print(f"{lost} lost, {gained} gained")
print(f"McNemar: p = {p:.3g} by hand, {change.p:.3g} by the pipeline")
print(f"as if the pictures had not been the same (Fisher's exact test): p = {unpaired:.3g}")
print(f"the difference: {change.change:+.1%}, from {change.change_low:+.1%} to {change.change_high:+.1%}")

# %% [markdown]
# Fisher's test, which does not know that the pictures were the same, usually finds less: it has to allow for one
# model having got harder pictures.
#
# Class by class there are ten tests, and of twenty tests without anything to find one is "significant" at 5 % on
# average. `p_corrected` is Holm's correction (1979): if nothing had changed, the chance that *any* class is called
# better or worse is at most 5 %.

# %%
columns = ["count", "first_share", "share", "lost", "gained", "p", "p_corrected", "verdict"]
compared.classes[columns].round(4)

# %% [markdown]
# A class that says "chance" is not *proven equal*. It may be worse by less than so few pictures can show.
#
# ## 7. Gates and the baseline
#
# In the end somebody has to decide. **Gates** are limits that are set before anyone has seen the model, and judged
# by the pipeline: floors (`gates.min_accuracy`, `gates.min_class_recall`), and how much may be lost against the
# **baseline**, the latest model that passed (`gates.max_accuracy_drop`, `gates.max_class_recall_drop`). The first
# run had no baseline. The second one has the first, if that passed:

# %%
gates = pd.DataFrame(second["evaluation"]["gates"])
print(f"first run: {first['state']}; second run: {second['state']}")
gates[["what", "value", "limit", "reason", "count", "passed"]].head(8).round(3)

# %%
Markdown(
    "\n".join(
        f"- {'passed' if gate['passed'] else '**failed**'}: {gate['words']}"
        for gate in second["evaluation"]["gates"][:4]
    )
)

# %% [markdown]
# A model that fails is not pushed; the server keeps the one it has, and `alexnet run` ends with code 3.
#
# A gate is no test of significance: it compares two numbers. If it allows a loss of 1 point, a model that is
# exactly as good as its baseline can still fail by bad luck. How often? The difference of two accuracies on the
# same n pictures has a standard error of about √(lost + gained) / n:

# %%
allowed = settings.Gates().max_accuracy_drop
error = np.sqrt(tosses) / n
Markdown(
    f"With {tosses} pictures on which the two differ, of {n:,}, that is {error:.2%}. An equal model would fail a "
    f"gate of {allowed:.0%} about {stats.norm.cdf(-allowed / error):.1%} of the time."
)

# %% [markdown]
# So a gate has to leave room for chance, and the way to a stricter one is more test pictures. Ten classes have ten
# gates, each on a tenth of the pictures: the pipeline allows them a larger loss.
#
# ## Exercises
#
# **1. Which accuracy?** Macro recall is the mean of the classes' recalls, each counting the same. Compute it from
# `matrix`. When does it equal the accuracy, and what if half of the circles were missing from the test split?
#
# <details>
# <summary>Solution</summary>
#
# Where all classes have the same number of pictures, the mean of the recalls is the accuracy. Otherwise accuracy is
# the mean weighted by how many pictures a class has. With half of the circles gone, macro recall stays about as it
# is (the recall of circles has a wider interval), while accuracy moves towards the recall of the other classes.
#
# ```python
# recalls = np.diag(matrix) / matrix.sum(axis=1)
# weights = matrix.sum(axis=1)
# print("macro recall", recalls.mean(), "accuracy", np.average(recalls, weights=weights))
# halved = weights.where(weights.index != "circle", weights / 2)
# print("with half of the circles: accuracy", np.average(recalls, weights=halved))
# ```
#
# </details>
#
# **2. A mistake that costs nothing.** A customer needs no difference between circles and ellipses, nor between
# squares and rectangles. What is the accuracy for them? No new run is needed.
#
# <details>
# <summary>Solution</summary>
#
# Rename both the true and the predicted class, then compare. It can only rise, since what was right stays right.
#
# ```python
# same = {"ellipse": "circle", "rectangle": "square"}
# is_right = table.class_name.replace(same) == table.predicted_class_name.replace(same)
# print(f"{table.right.mean():.1%} becomes {is_right.mean():.1%}")
# assert is_right.mean() >= table.right.mean()
# ```
#
# </details>
#
# **3. How many pictures?** A recall of about 95 % shall be known to ± 1 point. How many test pictures of the class
# does that take? And to ± 0.5 points?
#
# <details>
# <summary>Solution</summary>
#
# About 1,840; and, since the width falls with the root of n, four times as many for half of it.
#
# ```python
# def needed(share, margin):
#     count = 1
#     while np.ptp(statistics.wilson(share, count)) > 2 * margin:
#         count += 1
#     return count
#
#
# print(needed(0.95, 0.01), needed(0.95, 0.005))
# assert 1800 < needed(0.95, 0.01) < 1900
# assert 3.9 < needed(0.95, 0.005) / needed(0.95, 0.01) < 4.1
# ```
#
# </details>
#
# ## Sources
#
# - L. Brown, T. Cai, A. DasGupta: *Interval Estimation for a Binomial Proportion*. Statistical Science 16, 2001
# - C. Guo, G. Pleiss, Y. Sun, K. Weinberger: *On Calibration of Modern Neural Networks*. ICML 2017
# - J. Hanley, B. McNeil: *The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve*.
#   Radiology 143, 1982
# - S. Holm: *A Simple Sequentially Rejective Multiple Test Procedure*. Scandinavian Journal of Statistics 6, 1979
# - Q. McNemar: *Note on the Sampling Error of the Difference between Correlated Proportions or Percentages*.
#   Psychometrika 12, 1947
# - P. Westfall, S. Young: *Resampling-Based Multiple Testing*. Wiley 1993
# - E. Wilson: *Probable Inference, the Law of Succession, and Statistical Inference*. Journal of the American
#   Statistical Association 22, 1927
