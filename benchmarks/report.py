"""Results of benchmarks as tables in the terminal, and as docs/performance.md with a picture.

    python -m benchmarks.report [FOLDER] [--output FOLDER]

Reads all *.json below the first folder, and writes performance.md and performance.svg into the second. A result holds
"benchmark" (which script), "machine" (see `machine.describe`) and "tables": a list of {"title", "columns", "rows"},
all of it text. So every number on the page was written by a script.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics

import rich.box
import rich.console
import rich.table
from rich.text import Text

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # told apart by the colour-blind (Okabe, Ito 2008)
PAGE, PICTURE = "performance.md", "performance.svg"

# Title and preface of each script's part of the page, in this order.
PARTS = {
    "training": (
        "Accuracy and time of the recipes",
        "By `python -m benchmarks.training`, from arrays in memory. *to 90 %* and *in all* are seconds of the "
        "training steps, with compilation and without validation; the percentages are of the validation split. *as "
        "served* is the mean over the views of each image that the preset is served with. Trainer feeds itself "
        "through tf.data, and is faster by the clock: *training / bare fit* below.",
    ),
    "gpu": (
        "On a GPU",
        "By `python -m benchmarks.gpu`, on JAX, with the images on the device and an epoch in one call. Seconds are "
        "of the training steps, without compilation and validation; *compiled* is what XLA took before. *of peak* is "
        "the network's arithmetic, without that of Muon and of teachers, as a share of the data sheet's 16-bit peak. "
        "*mean of weights* is that of the last tenth of the epochs, validated as served. There is one seed of all "
        "that names no other.\n\n"
        "**The data** is the copy told of below, stored as JPEG and harder than the original, and half of its test "
        "split: of 5,000 images an accuracy of 92 % has a standard error of 0.4 points. Recipes were chosen on the "
        "validation split, as served, where all are better than on the test split by 0.7 to 1.8 points.\n\n"
        "**The search** began with *width 1*: `cifar10-best` at full width, with batches of 512. What begins with "
        "*and* changes one thing of the best before it; it was validated after every tenth epoch, so that *to 90 %* "
        "is no less than it was. *and poolings after 2, 4 and 5*, without CutMix, is now the preset `cifar10-gpu`. "
        "*taught by the best two* is the same network; with CutMix it learns by four fifths what the mean of the two "
        "answers. *paper with Muon* is now `paper-best`: batches of 512, cutout, six views.\n\n"
        "**What did not pay**: CutMix without teachers; the mean of weights, which was better than the last ones in "
        "one of eight trainings. With batches of 1,024 a step does more, but at the same rates less is learned in as "
        "many epochs. A wider and deeper network of airbench's kind, ten convolutions and no AlexNet, does not reach "
        "93 % either. Compare *one at a time*, three epochs of each, with *pooling by slices* in accuracy, since it "
        "computes what Keras' pooling does, and with the first rows in speed; *float32* multiplies in TF32, as is "
        "JAX's default.\n\n"
        "**Not measured** on a GPU: TensorFlow, and so Trainer and the pipeline around it. The script trains "
        "Trainer's network with its recipe, but on JAX.",
    ),
    "runs": (
        "Whole runs of the pipeline",
        "By `python -m benchmarks.runs`, from what `alexnet run` wrote. Times up to an accuracy as above; *Trainer* "
        "is the whole node, with validation after every epoch and export, *command* all from start to end.",
    ),
    "reference": (
        "How hard this data is",
        "By `python -m benchmarks.reference`: what a recipe of published accuracy, which is no AlexNet, reaches on "
        "the data at hand. The copy of CIFAR-10 used for this page had been stored as JPEG (quality 75, colour at "
        "half the resolution), and half of its test split was used.",
    ),
    "ablation": (
        "What each idea of the recipe is worth",
        "By `python -m benchmarks.ablation`: the recipe with one thing changed, judged on the validation split. "
        "*difference* is the mean of the differences within each seed and its standard error, in points. Tried "
        "besides, by hand, with one seed each on a small network, and left out because nothing was gained beyond "
        "chance: a whitened first layer, larger kernels in the first and second convolution, global instead of local "
        "pooling before the dense layers, GELU (nearly twice the processor time), faster biases, convolutions that "
        "start as identities, alternating flips, a shorter warm-up, averaged weights (lookahead). And with "
        "15,000 images for 20 or 30 epochs, where a network sooner learns its images by heart: dropout, CutMix, "
        "squares of 14 instead of 8, and Muon at twice the rate; at half the rate it was 2 points worse.",
    ),
    "peers": (
        "Against other ways to do the same",
        "By `python -m benchmarks.peers`, all within one run and by turns, each with a warm-up; medians. *ratio* is "
        "by the clock, *CPU time* the ratio by processor time, which other work on the machine hardly changes. The "
        "hours of the 227-pixel script are extrapolated from a few steps, not measured.",
    ),
    "pipeline": (
        "The pipeline around the training",
        "By `python -m benchmarks.pipeline`, with a tiny network. Every figure is of a command in a fresh process, "
        "imports included: PreviousReport does next to nothing, so it shows what any node alone costs.",
    ),
    "engines": (
        "Beam on Flink and Spark",
        "By `python -m benchmarks.engines`: whole runs with a tiny network, by turns, all on one machine. *Python* "
        "is the command, the processes that it starts and the Python workers, *Java* the cluster and Beam's job "
        "server; starting the cluster is left out. Flink has two TaskManagers of one slot, Spark two workers of one "
        "core. The ratios are to Beam's DirectRunner in the process itself. An engine is for several machines: on "
        "one it shows what it costs.",
    ),
    "operation": (
        "A year of runs",
        "By `python -m benchmarks.operation`, on the smallest embedded data with a tiny network: every run has "
        "data that count as new, so all nodes work each time. Copies are entered into ML Metadata as TFX enters "
        "runs, with files of their own, and what a run does at its end is done after each. Artifacts and pushed "
        "versions stay within a bound; results and reports, which are kept of all runs, grow by the same amount with "
        "each, and so does ML Metadata.",
    ),
    "reviewed": (
        "What a reviewer asks",
        "By `python -m benchmarks.reviewed`: whole runs, before and after the temperature that Trainer fits on the "
        "validation split; accuracy and answers are the same before and after. *harmed*: the mean over noise, blur, "
        "brightness, contrast and JPEG, each in five strengths, after Hendrycks and Dietterich 2019, of some 1,000 "
        "test examples. On CIFAR-10 the validation split is a point easier than this copy's test split, so the "
        "temperature that is fitted there is a little too sure for it. The other presets were not measured.",
    ),
    "labels": (
        "Wrong labels",
        "By `python -m benchmarks.labels`, on the recipe, from arrays in memory: two trainings a seed, one with "
        "all labels as they are, one with some changed at random in every split. The validation and the test split "
        "are judged. *named for each changed* is how many suspects there are for each label that was changed; "
        "*found* is the share of those among the first suspects, one and a half times as many as were changed. *the "
        "estimate and its error* is how `alexnet suspects` counts, chosen on the seeds 1 to 3; the others are the "
        "filters of cleanlab.",
    ),
    "saliency": (
        "Maps of where the network looked",
        "By `python -m benchmarks.saliency`, on drawings of which it is known where the object is. The map is"
        " of the class that was answered. *pointing game* (Zhang et al. 2018): its hottest point lies on the "
        "object or at most two pixels away, mean of the classes. *not in the middle*: the share of hits among"
        " the pictures in whose middle no object is; since most stand there, a hill in the middle that is the"
        " same for all does well in the others. *heat on it*: the share of the map that lies on the object "
        "(Wang et al. 2020). *other class*, *random weights*: rank correlation with the map of the second "
        "most probable class, and of a network that was not trained (Adebayo et al. 2018); a map that is much"
        " like these shows the picture rather than the answer. *ms*: processor time of a picture.\n\n"
        "**The report uses** integrated gradients of the log-odds, in one step, at the last layer whose cells"
        " see at most two thirds of the image, here conv3_relu. Of what costs as little and is unlike the "
        "maps of another class and of random weights, its hottest point lies on the object most often, hardly"
        " more often than with the logit. This was chosen on seed 1 and these pictures, among more than two "
        "hundred variants, so seed 1 flatters it; seeds 2 and 3 alone have 69.4 % on the object, Grad-CAM at "
        "its best layer 45.2 %, occlusion at conv3_relu 71.3 %, at 15 times the cost. Occlusion at conv5_relu"
        " points to the middle, whatever is there. Grad-CAM++ and LayerCAM give other classes much the same "
        "map. Four steps at conv2_relu find the object more often where it is not in the middle, at four "
        "times the cost.\n\n"
        "**The costs** are of networks with random weights, in a fresh process, of 300 pictures with 180 "
        "mistakes, which have two maps; the machine was busy with other work, so the clock says little. "
        "Seeds and costs were measured in a run each, and put together afterwards.",
    ),
    "evaluation": (
        "Evaluation and report",
        "By `python -m benchmarks.evaluation`, against plain TFMA with one metric and no slices.",
    ),
    "weak_slices": (
        "Looking for weak slices",
        "By `python -m benchmarks.weak_slices --whole`. Predictions are simulated: classes with a recall of 80 to "
        "99 %, features that go along with the class and with each other. The hidden group is one class's examples "
        "with certain values of two features. In the whole run the drawings are files of 32 and 48 pixels; the small "
        "dark ones of one class are mixed with a dark picture of another, in the test split alone.",
    ),
}


def main(arguments: list[str] | None = None) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default=pathlib.Path("benchmarks/results"))
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("docs"))
    asked = parser.parse_args(arguments)
    results = [json.loads(file.read_text()) for file in sorted(asked.folder.glob("**/*.json"))]
    if not results:
        parser.error(f"{asked.folder} holds no *.json: run python -m benchmarks first")
    asked.output.mkdir(parents=True, exist_ok=True)
    trainings = [result for result in results if result["benchmark"] in ("training", "runs")]
    if trainings:
        draw(trainings, asked.output / PICTURE)
    (asked.output / PAGE).write_text(page(results))
    print(asked.output / PAGE)


def show(result: dict) -> None:
    """Prints the tables of a result."""
    console = rich.console.Console()
    for table in result["tables"]:
        made = rich.table.Table(
            title=Text(table["title"]), title_justify="left", box=rich.box.SIMPLE, padding=(0, 1, 0, 0)
        )
        for at, name in enumerate(table["columns"]):
            made.add_column(Text(name), justify="right" if at else "left")
        for row in table["rows"]:
            made.add_row(*map(Text, row))
        console.print(made)


def page(results: list[dict]) -> str:
    """The results as Markdown."""
    lines = [
        "# Performance",
        "",
        "Written by `python -m benchmarks.report` from the results of the scripts in `benchmarks/`; not to be edited "
        "by hand. `make bench` measures on your machine.",
        "",
    ]
    if not any(result["machine"]["accelerator"] for result in results):
        lines += ["**No GPU was at hand: nothing here was measured on one.**", ""]
    for name, (title, preface) in PARTS.items():
        found = [result for result in results if result["benchmark"] == name]
        if not found:
            continue
        lines += [f"## {title}", "", preface, ""]
        if name == "training":
            lines += [f"![Validation accuracy over the seconds of training]({PICTURE})", ""]
        for result in found:
            for table in result["tables"]:
                lines += [f"**{_escaped(table['title'])}**", "", *_markdown(table), ""]
            lines += [_origin(result["machine"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(table: dict) -> list[str]:
    rows = [table["columns"], ["---"] + ["---:"] * (len(table["columns"]) - 1), *table["rows"]]
    return ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _origin(machine: dict) -> str:
    device = f"{machine['accelerator']}, " if machine["accelerator"] else ""
    load = f", load before {machine['load']}" if "load" in machine else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"*{machine['date']}, {device}{machine['cores']} cores of {machine['processor']}, "
        f"{machine['memory_gib']} GiB, {machine['system']}{load}; {versions}.*"
    )


def draw(trainings: list[dict], file: pathlib.Path) -> None:
    """Validation accuracy over training time: a line for each recipe (median of its seeds), each seed paler."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, result in enumerate(trainings):
        colour = COLOURS[number % len(COLOURS)]
        runs = [run["epochs"] for run in result["runs"]]
        for epochs in runs:
            axes.plot(*_curve(epochs), color=colour, alpha=0.3, linewidth=0.8)
        middle = [
            {key: statistics.median(epoch[key] for epoch in same) for key in ("seconds", "val_accuracy")}
            for same in zip(*runs, strict=True)
        ]
        device = result["machine"]["accelerator"] or "CPU"
        axes.plot(*_curve(middle), color=colour, label=f"{result['preset']}, {device}")
    for target in trainings[0]["targets"]:
        axes.axhline(100 * target, color="0.6", linewidth=0.6, linestyle=":")
        axes.annotate(f"{100 * target:g}", (1.01, 100 * target), xycoords=("axes fraction", "data"), va="center")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("validation accuracy, %")
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    with matplotlib.rc_context({"svg.hashsalt": "the same picture from the same results"}):
        figure.savefig(file, metadata={"Date": None})


def _curve(epochs: list[dict]) -> tuple[list[float], list[float]]:
    return [epoch["seconds"] for epoch in epochs], [100 * epoch["val_accuracy"] for epoch in epochs]


if __name__ == "__main__":
    main()
