"""Reports made of a simulated evaluation, so that all of their numbers agree with each other."""

import datetime
import io

import numpy as np
import PIL.Image

from core import settings
from review import duplicates as twins
from review import gates, results, statistics
from review.report import overlay, schema

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BINS = 10  # of the calibration
SMALLEST_SLICE = 30


def make_report(
    classes=10,
    seed=0,
    names=None,
    count=100,
    baseline=True,
    history=6,
    pictures=9,
    size=32,
    slices=True,
    training=True,
    data=True,
    serving=True,
    run=True,
    passing=None,
    harm=True,
    duplicates=0,
    suspects=0,
    maps=False,
):
    """A report and its pictures: (schema.Report, file name in images.zip -> PNG).

    Args:
        classes: how many; each has a share of the test split and one class that it is mostly taken for.
        seed: of everything that is drawn.
        names: of the classes; CIFAR-10's, then "class 10", ... where not given.
        count: test examples of a class, on the average.
        baseline: whether there is a blessed model before this one.
        history: earlier runs.
        pictures: at most so many a class; 0 for none.
        size: of the pictures, pixels.
        slices, training, data, serving, run: whether the report has that part.
        passing: True or False makes all gates pass or some fail; None leaves it to the numbers (some fail).
        harm: whether the model was judged on harmed pictures, and has a temperature.
        duplicates: so many test examples are in train, too, and as many pictures stand under two classes; of each
            kind no more than three are shown.
        suspects: so many labels may be wrong, three of them with a picture, and some were corrected.
        maps: whether the pictures have maps.
    """
    random = np.random.default_rng(seed)
    names = list(names) if names else [*CIFAR[:classes], *(f"class {n}" for n in range(len(CIFAR), classes))]
    classes = len(names)
    true, probabilities, brightness = simulate(random, classes, count)
    order = np.argsort(-probabilities, axis=1)[:, :3]
    predicted = order[:, 0]
    right = predicted == true
    total = len(true)
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (true, predicted), 1)
    counts = dict(zip(names, matrix.sum(1).tolist(), strict=True))
    recalls = {name: float(matrix[k, k] / matrix[k].sum()) for k, name in enumerate(names)}
    accuracy = float(right.mean())

    before = None
    if baseline:
        # Half of the classes as they are within chance, some better, some worse by more than that.
        moves = random.choice([-0.2, -0.03, 0.0, 0.02, 0.12], classes)
        shares = [min(1.0, max(0.0, share + move)) for share, move in zip(recalls.values(), moves, strict=True)]
        before = {name: round(share * counts[name]) / counts[name] for name, share in zip(names, shares, strict=True)}
    before_accuracy = sum(before[name] * counts[name] for name in names) / total if before else None

    floors = {True: 0.0, False: 0.8, None: 0.65}
    limits = settings.Gates(
        min_accuracy=0.0 if passing else 0.7,
        min_class_recall=floors[passing],
        confidence=0,
        max_accuracy_drop=1.0 if passing else 0.05,
        max_class_recall_drop=1.0 if passing else 0.15,
    )
    judged = gates.judge(limits, accuracy, total, recalls, counts, before_accuracy, before)
    areas = roc_areas(true, probabilities)
    candidate = {"matrix": matrix.tolist(), "recalls": recalls, "counts": counts, "auc": areas}
    rows = results.classes(candidate, {"recalls": before} if before else None, names, judged)
    remaining = leave_out(names, true, right, duplicates) if duplicates else None
    if remaining:
        rows = [{**row, **twins.of_class(remaining[row["class_name"]])} for row in rows]
    bins = [schema.CalibrationBin(**bin) for bin in results.calibration(bin_sums(probabilities.max(1), right))]
    blessed = all(gate.passed for gate in judged)
    failed = [gate.words() for gate in judged if not gate.passed]
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""

    evaluation = schema.Evaluation(
        count=total,
        accuracy=accuracy,
        accuracy_interval=statistics.wilson(accuracy, total),
        without_leaked=twins.overall(remaining) if remaining else None,
        loss=float(-np.log(probabilities[np.arange(total), true]).mean()),
        top_3_accuracy=float((order == true[:, None]).any(1).mean()),
        macro_f1=float(np.mean([row["f1"] or 0.0 for row in rows])),
        calibration_error=sum(b.count * abs(b.confidence - b.accuracy) for b in bins if b.count) / total,
        calibration_error_by_chance=results.calibration_error_by_chance([vars(b) for b in bins]),
        baseline_accuracy=before_accuracy,
        baseline_loss=1.1 if before else None,
        classes=rows,
        class_names=names,
        confusion_matrix=matrix.tolist(),
        calibration=bins,
        uncalibrated=make_uncalibrated(true, probabilities) if harm else None,
        corruptions=make_corruptions(names, accuracy, recalls) if harm else None,
        slices=make_slices(names, true, right, brightness) if slices else [],
        smallest_slice=SMALLEST_SLICE,
        gates=[{**vars(gate), "words": gate.words()} for gate in judged],
        blessed=blessed,
        path="artifacts/shapes10/Evaluator/evaluation/7",
    )
    shown, files = make_pictures(random, names, true, probabilities, order, pictures, size)
    if harm:
        files[evaluation.corruptions.picture] = sheet()
    about = None
    if maps:
        shown, more = make_maps(random, shown)
        files |= more
        about = schema.Maps(method="integrated gradients", layer="conv3_relu", cells=(8, 8))
    found = make_data(names, counts) if data else None
    if data and duplicates:
        repeated, further = make_duplicates(random, names, duplicates, size)
        found = found.model_copy(update={"duplicates": repeated})
        files |= further
    doubted = None
    if suspects:
        doubted, further = make_suspects(random, names, suspects, total, size)
        files |= further
        found = found.model_copy(update={"corrections": make_corrections(names)}) if found else None
    started = datetime.datetime(2026, 11, 22, 10, 0)
    report = schema.Report(
        name="cifar10",
        made="2026-11-22T10:05:42",
        verdict=schema.Verdict(
            state="pushed" if blessed else "not pushed",
            sentence=f"pushed: all {len(judged)} gates passed" if blessed else f"not pushed: {failed[0]}{more}",
        ),
        run=make_run(started, blessed) if run else None,
        model=f"AlexNet for 32 pixels, width 0.25, batch normalization, {classes:,} classes, 1,204,554 weights",
        evaluation=evaluation,
        pictures=shown,
        maps=about,
        data=found,
        suspects=doubted,
        training=make_epochs(accuracy) if training else [],
        serving=schema.Serving(load_seconds=1.4, latency_ms=6.3, requests=16, problems=[]) if serving else None,
        history=make_history(random, started, names, recalls, counts, history, blessed) if history else [],
        settings=settings.load("cifar10", ["training.epochs=12"]).model_dump(mode="json"),
        versions={"python": "3.11.9", "tensorflow": "2.21.0", "tfx": "1.21.0", "git": "ab88c67f2c19 (clean)"},
        lineage=make_lineage(),
    )
    return report, files


def simulate(random, classes, count):
    """Of a test split: true labels [n], probabilities [n, classes], brightness "dark", "medium" or "bright" [n]."""
    sizes = np.maximum(4, random.normal(count, count / 10, classes).astype(int))
    true = np.repeat(np.arange(classes), sizes)
    rows = np.arange(len(true))
    brightness = random.choice(["dark", "medium", "bright"], len(true), p=[0.15, 0.7, 0.15])
    strength = random.uniform(0.0, 3.5, classes) + np.sqrt(2 * np.log(classes))
    rival = (np.arange(classes) + random.integers(1, max(2, min(classes, 4)), classes)) % classes
    logits = random.standard_normal((len(true), classes), np.float32)
    logits[rows, rival[true]] += 2
    logits[rows, true] += strength[true] - 1.0 * (brightness == "dark") + random.standard_normal(len(true))
    logits *= 1.5
    logits -= logits.max(1, keepdims=True)
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(1, keepdims=True)
    return true, probabilities, brightness


def roc_areas(true, probabilities):
    """Of every class against the rest, from the ranks (Mann and Whitney 1947)."""
    areas = []
    places = np.arange(1, len(true) + 1)
    for label, column in enumerate(probabilities.T):
        own = true[np.argsort(column)] == label
        many = int(own.sum())
        areas.append(float((places[own].sum() - many * (many + 1) / 2) / (many * (len(true) - many))))
    return areas


def bin_sums(confidence, right):
    """Of each bin of the calibration: examples, sum of their probabilities, right ones."""
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return np.stack([np.bincount(place, what, BINS) for what in (np.ones(len(place)), confidence, right)], 1).tolist()


def make_uncalibrated(true, probabilities):
    """What a temperature of 1/2 made of more modest probabilities."""
    before = np.sqrt(probabilities)
    before /= before.sum(1, keepdims=True)
    bins = results.calibration(bin_sums(before.max(1), before.argmax(1) == true))
    loss = float(-np.log(before[np.arange(len(true)), true]).mean())
    error = results.calibration_error(bins)
    return schema.Uncalibrated(temperature=0.5, loss=loss, calibration_error=error, calibration=bins)


def make_corruptions(names, accuracy, recalls):
    """Less and less is right, and the blur does most."""
    losses = {"noise": 0.04, "blur": 0.12, "jpeg": 0.02}
    kinds = []
    for kind, loss in losses.items():
        accuracies = [max(0.0, accuracy - loss * strength) for strength in range(1, 6)]
        kinds.append(schema.HarmedKind(kind=kind, accuracy=sum(accuracies) / 5, accuracies=accuracies))
    classes = [
        schema.HarmedClass(
            class_name=name,
            unharmed_recall=recalls[name],
            recall=max(0.0, recalls[name] - 0.1),
            recalls=[max(0.0, recalls[name] - 3 * loss) for loss in losses.values()],
        )
        for name in sorted(names)
    ]
    return schema.Corruptions(
        examples=100,
        copies=100 * 5 * len(losses),
        accuracy=sum(kind.accuracy for kind in kinds) / len(kinds),
        unharmed_accuracy=accuracy,
        kinds=kinds,
        classes=classes,
        picture="harmed.png",
    )


def sheet():
    """A PNG as large as that of harmed pictures."""
    buffer = io.BytesIO()
    PIL.Image.linear_gradient("L").resize((576, 288)).save(buffer, "PNG")
    return buffer.getvalue()


def make_slices(names, true, right, brightness):
    """Slices by brightness, and by class and brightness."""
    values = ("dark", "medium", "bright")
    alone = [([value], brightness == value) for value in values]
    both = [([name, value], (true == k) & (brightness == value)) for k, name in enumerate(names) for value in values]
    made = []
    for features, parts in ((["brightness"], alone), (["class_name", "brightness"], both)):
        rows = []
        for labels, inside in parts:
            count = int(inside.sum())
            if not count:
                continue
            share = float(right[inside].mean())
            rows.append(
                schema.SliceRow(
                    values=labels,
                    count=count,
                    accuracy=share,
                    accuracy_interval=statistics.wilson(share, count),
                    loss=0.2 + 1.5 * (1 - share),
                    baseline_accuracy=None,
                    too_small=count < SMALLEST_SLICE,
                )
            )
        made.append(
            schema.Slices(features=features, rows=sorted(rows, key=lambda row: (row.too_small, row.accuracy)))
        )
    return made


def make_pictures(random, names, true, probabilities, order, per_class, size):
    """A third of a class's pictures are its most confident mistakes, a third borderline, a third right."""
    shown, files = [], {}
    if not per_class:
        return shown, files
    confidence = probabilities.max(1)
    margin = confidence - np.take_along_axis(probabilities, order[:, 1:2], 1)[:, 0]
    for label, name in enumerate(names):
        own = np.flatnonzero(true == label)
        wrong = own[order[own, 0] != label]
        good = own[order[own, 0] == label]
        part = max(1, per_class // 3)
        chosen = {"mistake": wrong[np.argsort(-confidence[wrong])][:part]}
        taken = set(chosen["mistake"].tolist())
        chosen["borderline"] = [n for n in own[np.argsort(margin[own])] if n not in taken][:part]
        taken.update(chosen["borderline"])
        chosen["right"] = [n for n in good[np.argsort(-confidence[good])] if n not in taken][:part]
        for kind, numbers in chosen.items():
            for number in numbers:
                file = f"{number:06d}.png"
                files[file] = draw(random, label, len(names), size)
                top = [(names[k], float(probabilities[number, k])) for k in order[number]]
                shown.append(
                    schema.Picture(
                        file=file, id=f"test-{number:06d}", width=size, height=size, true=name, top=top, kind=kind
                    )
                )
    return shown, files


def make_maps(random, pictures):
    """The pictures with maps, a hill each, and the maps: file -> PNG."""
    made, files = [], {}
    for picture in pictures:
        names = {"map": f"{picture.file[:-4]}-map.png"}
        if picture.true != picture.predicted:
            names["true_map"] = f"{picture.file[:-4]}-true-map.png"
        for file in names.values():
            y, x = np.mgrid[:32, :32] / 31 - random.uniform(0.2, 0.8, 2)[:, None, None]
            files[file] = overlay.png(np.exp(-random.uniform(5, 20) * (x * x + y * y)), picture.width, picture.height)
        made.append(picture.model_copy(update=names))
    return made, files


def draw(random, label, classes, size):
    """A PNG: a disc of the class's colour on noise."""
    y, x = np.mgrid[:size, :size] / size - random.uniform(0.35, 0.65, 2)[:, None, None]
    angle = 2 * np.pi * label / classes
    colour = 140 + 100 * np.cos(angle + np.array([0, 2.1, 4.2]))
    pixels = random.integers(0, 80, (size, size, 3)).astype(np.uint8)
    pixels[x * x + y * y < 0.09] = colour.astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_run(started, pushed):
    """A run with one node from the cache."""
    times = {
        "ImageExampleGen": 15.2,
        "StatisticsGen": 6.4,
        "ImageSchemaGen": 0.1,
        "ExampleValidator": 0.1,
        "DataCheck": 0.1,
        "Transform": 17.9,
        "Trainer": 281.3,
        "Evaluator": 7.1,
        "ServingCheck": 8.4,
        "Pusher": 0.1,
    }
    return schema.Run(
        id="20261122-100000",
        preset="cifar10",
        started=started.isoformat(),
        seconds=sum(times.values()),
        pushed="serving/cifar10/1795341900" if pushed else None,
        nodes=[
            schema.Node(name=name, state="cached" if name == "ImageExampleGen" else "done", seconds=seconds)
            for name, seconds in times.items()
        ],
    )


def make_data(names, test):
    """Train, validation and test counts; two bad records; a skew below its limit."""
    train = {name: 5 * test[name] for name in names}
    validation = {name: test[name] // 2 for name in names}
    shares = [np.array(list(part.values())) / sum(part.values()) for part in (train, test)]
    return schema.Data(
        source="cifar10",
        class_names=names,
        counts={"train": train, "validation": validation, "test": test},
        bad=2,
        bad_records=[("train/cat/041.png", "not an image", 1), ("train/dog/007.jpg", "truncated", 1)],
        ignored={"hidden file": 1},
        anomalies=[],
        distributions=[
            schema.Distribution(what="skew", value=float(np.abs(shares[0] - shares[1]).max()), limit=0.1),
            schema.Distribution(what="drift", value=0.004, limit=0.1),
        ],
        fingerprint="9f2c1e7a44d05b18",
    )


def leave_out(names, true, right, count):
    """What remains of each class without the first `count` test examples, as `review.duplicates.kept` has it."""
    left_out = np.arange(len(true)) < count
    parts = {"leaked": left_out, "count": ~left_out, "right": right & ~left_out}
    return {name: {key: int(part[true == k].sum()) for key, part in parts.items()} for k, name in enumerate(names)}


def make_duplicates(random, names, count, size):
    """`count` pictures that leaked, and as many under two classes: (schema.Duplicates, file -> PNG)."""
    shown, files = [], {}
    for kind, places in (
        ("leaked", [("test", names[0], f"test/{names[0]}/<i>1"), ("train", names[0], f"train/{names[0]}/2")]),
        ("contradicting", [("train", names[0], "3"), ("train", names[1], f"train/{names[1]}/{'long' * 40}")]),
    ):
        for number in range(min(count, 3)):
            file = f"{kind}-{number:02d}.png"
            files[file] = draw(random, number, 3, size)
            shown.append(
                schema.DuplicatePicture(
                    file=file, width=size, height=size, kind=kind, places=places, count=2 + number
                )
            )
    made = schema.Duplicates(
        pictures=2 * count,
        examples=5 * count,
        leaked={"validation": 0, "test": count},
        contradicting={"pictures": count, "examples": 2 * count},
        copies={"train": count, "validation": 0, "test": 0},
        kinds={"leaked": count, "contradicting": count},
        shown=shown,
    )
    return made, files


def make_suspects(random, names, count, total, size):
    """So many labels that may be wrong: (schema.Suspects, file -> PNG)."""
    rows, files = [], {}
    for number in range(count):
        file = f"suspect-{number:02d}.png" if number < 3 else None
        if file:
            files[file] = draw(random, number % len(names), len(names), size)
        rows.append(
            schema.Suspect(
                id=f"test/{names[number % len(names)]}/<i>{number}",
                split="validation" if number % 4 == 3 else "test",
                label=names[number % len(names)],
                suggested_label=names[(number + 1) % len(names)],
                label_probability=0.002,
                suggested_probability=0.97,
                digest=f"{number:032x}",
                file=file,
                width=size if file else 0,
                height=size if file else 0,
            )
        )
    judged = {"test": total, "validation": total // 2}
    return schema.Suspects(judged=judged, total=sum(judged.values()), count=count, rows=rows), files


def make_corrections(names):
    """What a list of corrections did: three labels changed, two examples left out."""
    return schema.Corrections(
        file="/data/<b>corrections.csv",
        fingerprint="0123456789abcdef",
        relabelled=3,
        left_out=2,
        changes=[(names[0], names[1], 3), (names[1], None, 2)],
        checked=[("train-1", "")],
    )


def make_epochs(accuracy, epochs=10):
    """Curves that end near `accuracy`; the learning rate goes up and down again."""
    made = []
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        reached = accuracy * (1 - np.exp(-4 * done)) / (1 - np.exp(-4))
        made.append(
            schema.Epoch(
                epoch=epoch,
                loss=2.3 - 1.9 * reached,
                accuracy=min(1.0, reached * (0.9 + 0.2 * done)),
                val_loss=2.3 - 1.7 * reached,
                val_accuracy=reached,
                learning_rate=0.2 * min(done / 0.3, (1.02 - done) / 0.72),
                images_per_second=18_000.0 if epoch > 1 else 9_500.0,
                seconds=2.6,
            )
        )
    return made


def make_history(random, started, names, recalls, counts, earlier, blessed):
    """Earlier runs, ever better, and this one last."""
    made = []
    total = sum(counts.values())
    for back in range(earlier, -1, -1):
        moved = {
            name: min(1.0, max(0.0, recalls[name] - back * 0.02 + (random.normal(0, 0.03) if back else 0)))
            for name in names
        }
        when = started - datetime.timedelta(days=back)
        made.append(
            schema.Past(
                run=when.strftime("%Y%m%d-%H%M%S"),
                made=when.isoformat(),
                count=total,
                accuracy=sum(moved[name] * counts[name] for name in names) / total,
                recalls=moved,
                blessed=back % 2 == 1 if back else blessed,
            )
        )
    return made


def make_lineage():
    """From the examples to the blessing."""
    steps = [
        ("examples", "Examples", "ImageExampleGen", []),
        ("statistics", "ExampleStatistics", "StatisticsGen", ["examples"]),
        ("schema", "Schema", "ImageSchemaGen", ["statistics"]),
        ("transform graph", "TransformGraph", "Transform", ["examples", "schema"]),
        ("transformed examples", "Examples", "Transform", ["examples", "schema"]),
        ("model", "Model", "Trainer", ["transform graph", "transformed examples"]),
        ("evaluation", "ModelEvaluation", "Evaluator", ["examples", "model"]),
        ("blessing", "ModelBlessing", "Evaluator", ["examples", "model"]),
    ]
    return [
        schema.Artifact(
            name=name,
            type=kind,
            id=number,
            uri=f"artifacts/cifar10/{producer}/{name.replace(' ', '_')}/{number}",
            producer=producer,
            made_from=made_from,
        )
        for number, (name, kind, producer, made_from) in enumerate(steps, 1)
    ]
