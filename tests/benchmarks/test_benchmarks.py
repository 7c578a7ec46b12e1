"""What the benchmarks count, read, compare and write; not what they measure."""

import json
import pathlib
import re

import keras
import numpy as np
import PIL.Image
import pytest
from image_data import CLASSES, batches, write_dark_and_light, write_folder
from ledger import Ledger, open_store
from ml_metadata.proto import metadata_store_pb2
from run_data import ended, evaluated

from benchmarks import (
    ablation,
    arrays,
    clusters,
    engines,
    guard,
    machine,
    near_duplicates,
    operation,
    pipeline,
    reference,
    report,
    runs,
    training,
)
from core import images, settings
from core.errors import UserError
from core.settings import Model
from core.workdir import Workdir
from pipeline import inventory
from trainer import model


def test_a_network_has_the_arithmetic_of_the_paper():
    network = model.build(Model(variant="paper", input_size=227, width=1, normalization="none"), 1000, 227)
    convolutions = (
        55**2 * 11**2 * 3 * 96 + 27**2 * 5**2 * 96 * 256 + 13**2 * 3**2 * (256 * 384 + 384 * 384 + 384 * 256)
    )
    dense = 9216 * 4096 + 4096 * 4096 + 4096 * 1000
    assert training.flops(network) == 2 * (convolutions + dense)
    assert training.flops(network) == pytest.approx(2 * 1.135e9, rel=0.01)


@pytest.mark.parametrize("name", settings.presets())
def test_a_preset_tells_the_work_of_its_training(name):
    chosen = settings.load(name)
    network = model.build(chosen.model, 10, chosen.preprocessing.image_size)
    images = {"shapes10": 12_000, "cifar10": 50_000}[chosen.data.source] * (1 - chosen.data.validation_share)
    # Forward, and backward to the inputs and to the weights: three times the forward pass.
    work = 3 * training.flops(network) * images * chosen.training.epochs / 1e12
    epochs, told = re.search(r"(\d+) epochs, ([\d,]+) TFLOP", settings.presets()[name]).groups()
    assert int(epochs) == chosen.training.epochs
    assert float(told.replace(",", "")) == pytest.approx(work, rel=0.08)  # one or two digits are told


def test_the_time_to_an_accuracy_is_that_of_the_first_epoch_that_has_it():
    epochs = [{"seconds": s, "val_accuracy": a} for s, a in ((2.0, 0.5), (4.0, 0.8), (6.0, 0.7), (8.0, 0.9))]
    assert training.seconds_to(epochs, 0.8) == 4.0
    assert training.seconds_to(epochs, 0.95) is None


def test_an_idea_is_worth_the_difference_within_each_seed():
    def run(accuracy, seconds):
        return {"epochs": [{"val_accuracy": 0.1}, {"val_accuracy": accuracy}], "processor_seconds": seconds}

    runs = {"the recipe": [run(0.80, 10), run(0.84, 30)], "no flips": [run(0.78, 15), run(0.83, 30)]}
    about = {"preset": "p", "data": "d", "backend": "b", "settings": {"training": {"epochs": 2}}, "runs": runs}
    made = ablation.table(about)
    assert made["rows"] == [["the recipe", "82.00 %", "", "1.00"], ["no flips", "80.50 %", "-1.50 ± 0.50", "1.25"]]
    assert made["title"] == "p on d, 2 epochs, 2 seeds, b"


def test_the_ablation_trains_every_change_and_writes_what_it_found(tmp_path, capsys):
    target = tmp_path / "ablation.json"
    asked = ["--images", "300", "--epochs", "1", "--set", "model.width=0.1", "--seeds", "1", "--only", "poolings"]
    ablation.main([*asked, "--json", str(target)])
    written = json.loads(target.read_text())
    assert [row[0] for row in written["tables"][0]["rows"]] == ["the recipe", "poolings after 2, 3 and 5"]
    assert keras.config.dtype_policy().name == "float32"
    (recipe,), (changed,) = written["runs"].values()
    assert changed["flops_per_image"] > 2 * recipe["flops_per_image"]
    assert "poolings after" in capsys.readouterr().out


@pytest.mark.parametrize("sets", ablation.CHANGES.values(), ids=ablation.CHANGES)
def test_every_idea_changes_the_settings(sets):
    assert settings.load("cifar10-fast", sets) != settings.load("cifar10-fast")


def test_the_share_of_the_peak_needs_a_known_device():
    run = {"images_per_second": 100_000.0, "flops_per_image": 3_120_000_000}
    assert training.peak_share(run, 312.0) == pytest.approx(1.0)
    assert training.peak_share(run, None) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("Tesla T4", 65.0),
        ("NVIDIA L40S", None),
        (None, None),
    ],
)
def test_peaks_are_known_by_the_name_of_the_device(name, peak):
    assert machine.peak_tflops(name) == peak


@pytest.mark.parametrize("kind", ["python_folder", "binary_folder"])
def test_archives_are_read_and_split_as_the_pipeline_does(request, kind):
    data = arrays.load(str(request.getfixturevalue(kind)), validation_share=0.5)
    made = batches()
    pixels = [row.reshape(3, 32, 32).transpose(1, 2, 0) for name in sorted(made)[:5] for row in made[name][1]]
    held_out = [images.share_of(images.digest(image)) < 0.5 for image in pixels]
    assert 20 < sum(held_out) < 80
    np.testing.assert_array_equal(data.validation.images, np.stack(pixels)[held_out])
    np.testing.assert_array_equal(data.train.images, np.stack(pixels)[~np.array(held_out)])
    np.testing.assert_array_equal(data.test.labels, made["test_batch"][0])
    assert data.classes == len(CLASSES)
    mean, variance = data.statistics()
    np.testing.assert_allclose(mean, data.train.images.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(variance, data.train.images.var(axis=(0, 1, 2), dtype=np.float64))


def test_drawn_shapes_are_those_of_the_data_set():
    data = arrays.load("shapes10", 40)
    assert (len(data.train) + len(data.validation), len(data.test), data.classes) == (40, 40, 10)


def test_an_npz_file_is_read_without_objects(tmp_path):
    pixels = np.arange(10 * 4 * 4 * 3).reshape(10, 4, 4, 3).astype(np.uint8)
    labels = np.arange(10)[:, None] % 3
    good = {"x_train": pixels, "y_train": labels, "x_test": pixels[:4], "y_test": labels[:4]}
    np.savez(tmp_path / "good.npz", **good)
    data = arrays.load(str(tmp_path / "good.npz"))
    assert (len(data.train) + len(data.validation), data.classes) == (10, 3)
    assert data.test.labels.tolist() == [0, 1, 2, 0]
    for name, change in (
        ("objects", {"y_test": np.array([object()] * 4)}),
        ("floats", {"x_train": pixels / 255}),
        ("short", {"y_train": labels[:9]}),
    ):
        np.savez(tmp_path / f"{name}.npz", **(good | change))
        with pytest.raises(UserError, match=name):
            arrays.load(str(tmp_path / f"{name}.npz"))


def test_images_of_several_sizes_are_refused(tmp_path):
    with pytest.raises(UserError, match="one size"):
        arrays.load(str(write_folder(tmp_path / "pets")))
    with pytest.raises(UserError, match="neither"):
        arrays.load("cifar10")


def test_the_guard_allows_the_tolerance_and_no_more():
    kept, tolerance = {"a": 2.0, "b": 10.0, "c": 1.0, "d": 1.0}, {"": 0.1, "b": 0.5}
    rows = guard.compare(kept, {"a": 1.81, "b": 5.01, "c": 0.89, "e": 7.0}, tolerance)
    assert [(row[0], row[-1]) for row in rows] == [("a", ""), ("b", ""), ("c", "worse"), ("d", "missing")]
    assert guard.compare({"a": 1.0}, {"a": float("nan")}, tolerance)[0][-1] == "worse"


def test_the_guard_ends_with_a_status(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(guard, "BASELINE", tmp_path / "baseline.json")
    guard.BASELINE.write_text(json.dumps({"tolerance": {"": 0.2}, "ratios": {"input / fit": 20.0}}))
    measured = tmp_path / "measured.json"
    measured.write_text(json.dumps({"ratios": {"input / fit": 12.0}, "machine": {"cores": 2}}))
    assert guard.main(["--measured", str(measured)]) == 1
    assert "worse" in capsys.readouterr().out
    assert guard.main(["--measured", str(measured), "--store"]) == 0
    assert guard.main(["--measured", str(measured)]) == 0
    assert json.loads(guard.BASELINE.read_text())["tolerance"] == {"": 0.2}


def test_the_kept_baseline_is_one_of_the_ratios_that_are_measured():
    kept = json.loads(guard.BASELINE.read_text())
    assert kept["ratios"]
    assert set(kept["tolerance"]) <= {"", *kept["ratios"]}


def test_growth_is_of_the_processor_time_above_what_any_command_costs():
    def cost(processor):
        return [pipeline.Cost(2 * processor, processor, 900, {"Trainer": 1.0, "Pusher": 0.5})]

    costs = {
        **{node: {1_000: cost(5.0), 4_000: cost(8.0)} for node in pipeline.NODES},
        pipeline.FLOOR: {1_000: cost(4.0), 4_000: cost(4.0)},
        "whole run": {1_000: cost(10.0), 4_000: cost(30.0)},
    }
    written = json.loads(json.dumps(pipeline.summary(1, "shapes10", result("pipeline")["machine"], costs)))
    assert set(written["growth"].values()) == {1.0}  # 1 s above the floor for 1,000 images, 4 s for 4,000
    assert written["around_trainer"] == {"1000": 19.0, "4000": 59.0}
    assert ["all but Trainer", "19.0", "59.0"] in written["tables"][3]["rows"]
    assert "all but Trainer | 19.0 | 59.0" in report.page([written])


def test_engines_are_compared_with_the_runner_in_the_process():
    def runs(*factors):
        return [{node: engines.Cost(4.0 * n, 2.0 * n, 1.0 * n) for node in engines.NODES} for n in factors]

    found = {1_000: {engines.DIRECT: runs(1, 1, 9), "Flink": runs(2, 7, 3)}}
    written = json.loads(json.dumps(engines.summary(3, "shapes10", result("engines")["machine"], found)))
    (made,) = written["tables"]
    assert made["title"].startswith("1,000 images of shapes10, median of 3; Beam ")
    assert made["rows"][:2] == [
        ["ImageExampleGen", "DirectRunner", "4.0", "2.0", "1.0", "1.00", "1.00"],
        ["ImageExampleGen", "Flink", "12.0", "6.0", "3.0", "3.00", "3.00"],
    ]
    assert made["rows"][-1] == ["all four", "Flink", "48.0", "24.0", "12.0", "3.00", "3.00"]
    assert "all four | Flink | 48.0 |" in report.page([written])


@pytest.mark.slow
def test_the_nodes_of_a_run_are_told_apart(tmp_path, capsys):
    target = tmp_path / "engines.json"
    asked = ["--images", "1200", "--source", "shapes10/small", "--ways", engines.DIRECT]
    engines.main([*asked, "--json", str(target)])
    ((run,),) = (ways[engines.DIRECT] for ways in json.loads(target.read_text())["costs"].values())
    assert list(run) == list(engines.NODES)
    assert all(cost["python"] > 0 == cost["java"] for cost in run.values())
    assert "all four" in capsys.readouterr().out


def test_engines_that_are_not_here_are_left_out_with_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clusters, "CACHE", tmp_path)
    assert [way for way in engines.WAYS if engines.left_out(way)] == ["Flink", "Spark"]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"Flink is left out: flink was not found in {tmp_path}: .ci/engines flink puts it there."


def result(name, **further):
    about = {"accelerator": None, "cores": 2, "processor": "A | B", "memory_gib": 24.0, "system": "Linux"}
    about |= {"load": 0.1, "date": "2026-11-22", "versions": {"keras": "3.15.1"}}
    tables = [{"title": f"of <{name}>", "columns": ["what", "images/s"], "rows": [["a|b", "1,234"]]}]
    return {"benchmark": name, "machine": about, "tables": tables, **further}


def finished(run_id, seed=1, preset="cifar10-best", trainer="done"):
    """What the results of a run hold that is of interest here."""
    rates = [(50.0, 0.6), (100.0, 0.8), (100.0, 0.95)]
    epochs = [
        {"epoch": n, "images_per_second": rate, "accuracy": 0.5, "val_accuracy": accuracy, "val_loss": 1.0}
        for n, (rate, accuracy) in enumerate(rates, 1)
    ]
    return ended(
        run_id,
        preset=preset,
        started="2026-11-22T10:00:00",
        seconds=99.0,
        nodes={"Trainer": {"state": trainer, "seconds": 77.0}},
        recipe={"model": {}, "training": {"seed": seed, "batch_size": 100}},
        data={"counts": {"train": {"cat": 500, "dog": 550}, "test": {"cat": 7, "dog": 5}}},
        history={"epochs": epochs},
        evaluation=evaluated(0.925),
    )


def test_runs_of_the_pipeline_are_a_line_each(tmp_path, capsys):
    for seed in (1, 2):
        folder = tmp_path / "work" / "runs" / f"20261122-10000{seed}"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps(finished(folder.name, seed)))
    target = tmp_path / "results" / "runs.json"
    target.parent.mkdir()
    chosen = ["--runs", "20261122-100001", "20261122-100002"]
    runs.main(["--workdir", str(tmp_path / "work"), *chosen, "--json", str(target)])
    made = json.loads(target.read_text())
    # 1,000 images in whole batches: 20 s at 50 images a second, then 10 s for each epoch.
    assert [epoch["seconds"] for epoch in made["runs"][0]["epochs"]] == [20, 30, 40]
    assert made["tables"][0]["rows"] == [
        [seed, "100", "30", "40", "40", "77", "99", "95.00 %", "92.50 %"] for seed in ("1", "2")
    ]
    assert made["images"] == {"train": 1050, "test": 12}
    assert made["machine"]["date"] == "2026-11-22"
    assert "cifar10-best, 3 epochs" in capsys.readouterr().out
    report.main([str(target.parent), "--output", str(tmp_path / "docs")])
    assert "| 92.50 % |" in (tmp_path / "docs" / report.PAGE).read_text()
    assert "cifar10-best" in (tmp_path / "docs" / report.PICTURE).read_text()


def test_runs_of_several_presets_or_without_a_training_are_refused():
    with pytest.raises(UserError, match=r"several presets \(cifar10-best, paper\)"):
        runs.summarise([finished("20260101-000000"), finished("20260102-000000", preset="paper")])
    with pytest.raises(UserError, match="Run 20260102-000000 took its model from the cache"):
        runs.summarise([finished("20260101-000000"), finished("20260102-000000", trainer="cached")])


def test_a_recipe_of_known_accuracy_is_trained_on_the_data_at_hand(tmp_path, capsys):
    target = tmp_path / "results" / "reference.json"
    target.parent.mkdir()
    data = write_dark_and_light(tmp_path / "data.npz", train=200, test=100, size=32)
    reference.main(["--data", str(data), "--epochs", "6", "--json", str(target)])
    made = json.loads(target.read_text())
    (run,) = made["runs"]
    # By chance it is 0.5; with each of eight seeds it was 1.
    assert run["test_accuracy"] > 0.75
    assert run["served_test_accuracy"] > 0.75
    assert made["tables"][0]["rows"][0][0] == "1"
    assert made["images"] == {"train": 200, "test": 100}
    report.main([str(target.parent), "--output", str(tmp_path / "docs")])
    assert "How hard this data is" in (tmp_path / "docs" / report.PAGE).read_text()


def test_the_first_layer_of_the_reference_whitens():
    images = np.random.default_rng(1).normal(size=[50, 8, 8, 1]) * [1.0, 0.5, -2.0]  # the channels go together
    images += np.random.default_rng(2).normal(size=[50, 8, 8, 3]) * 0.3
    kernel = reference.whitening(images.astype(np.float32), floor=0)
    answers = keras.ops.conv(images, kernel.astype(images.dtype), padding="valid")
    flat = keras.ops.convert_to_numpy(answers).reshape(-1, 24)
    np.testing.assert_allclose(flat[:, :12].T @ flat[:, :12] / len(flat), np.eye(12), atol=1e-3)
    np.testing.assert_array_equal(flat[:, 12:], -flat[:, :12])


def test_the_network_of_the_reference_has_the_parts_of_the_published_one():
    data = arrays.load("shapes10", 20, validation_share=0)
    network = reference.build(data)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [24, 64, 64, 256, 256, 256, 256]
    passed = keras.ops.convert_to_numpy(convolutions[1].kernel)[1, 1, :, :24]
    np.testing.assert_array_equal(passed, np.eye(24))
    assert network.output_shape == (None, 10)
    # Kernels of the blocks and the last layer, a bias for each normalization and for the first layer.
    sizes = [24 * 64, 64 * 64, 64 * 256, *[256 * 256] * 3]
    learned = 9 * sum(sizes) + 2560 + 2 * 64 + 4 * 256 + 24
    assert sum(int(np.prod(variable.shape)) for variable in network.trainable_variables) == learned


def test_the_page_holds_what_the_results_hold(tmp_path):
    epochs = [{"seconds": 1.0 + e, "val_accuracy": 0.5 + e / 10} for e in range(3)]
    trained = result("training", runs=[{"epochs": epochs}] * 2, preset="shapes10", data="shapes10", targets=[0.7734])
    for number, content in enumerate((trained, result("peers"))):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    report.main([str(tmp_path), "--output", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / report.PAGE).read_text()
    assert "| a\\|b | 1,234 |" in text
    assert "**of &lt;peers>**" in text
    assert "No GPU was at hand" in text
    assert text.count("keras 3.15.1") == 2
    assert text.index("Accuracy and time") < text.index("Against other ways")
    assert "<svg" in (tmp_path / "docs" / report.PICTURE).read_text()
    with pytest.raises(SystemExit):
        report.main([str(tmp_path / "docs")])


def test_near_duplicates_are_counted_in_any_source_and_changed_pictures_found_again(image_folder, tmp_path):
    from sklearn.datasets import load_sample_image

    flower = PIL.Image.fromarray(load_sample_image("flower.jpg"))
    for number in range(4):
        block = flower.crop((192 + 64 * number, 192, 256 + 64 * number, 256))
        block.save(image_folder / "train" / "cat" / f"flower{number}.png")
        block.save(image_folder / "test" / "cat" / f"flower{number}.jpg", quality=60)
    asked = ["--data", str(image_folder), "--sheet", str(tmp_path / "s.png"), "--json", str(tmp_path / "n.json")]
    near_duplicates.main(asked)
    written = json.loads((tmp_path / "n.json").read_text())
    assert sum(written["images"].values()) == 60
    assert written["found"]["test"] == 4
    assert set(written["found_again"]) == set(near_duplicates.CHANGES)
    assert PIL.Image.open(tmp_path / "s.png").size[1] == near_duplicates.ENLARGED + 16


def test_copies_of_runs_are_whole_in_ml_metadata_and_retained_like_runs(tmp_path):
    ledger = Ledger(Workdir(tmp_path / "work"))
    ledger.run("20260101-000000", name="shapes10")
    for name in ("log.txt", "events.jsonl", "summary.json"):
        (ledger.workdir.run("20260101-000000") / name).write_text("{}")
    nodes = {"Trainer": {"state": "done", "seconds": 1.0}}
    results = ledger.workdir.run("20260101-000000") / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | {"nodes": nodes}))
    for number in (2, 3, 4):
        operation.copy(ledger.workdir, number)
    found = ledger.workdir.results()
    assert [one["run"] for one in found] == [f"2026010{day}-000000" for day in (1, 2, 3, 4)]
    assert len({one["evaluation"]["path"] for one in found} | {one["pushed"]["path"] for one in found}) == 8
    for one in found:
        assert pathlib.Path(one["pushed"]["path"], "saved_model.pb").is_file()
    store = open_store(ledger.workdir)
    assert len(store.get_artifacts()) == 4 * 10
    assert inventory.look(store, ledger.workdir) == []
    operation.retain(ledger.workdir, {"runs": 1, "versions": 2})
    states = [one.state for one in open_store(ledger.workdir).get_artifacts()]
    assert states.count(metadata_store_pb2.Artifact.LIVE) == 10 + 3  # and the model of the other version
    assert len(list(ledger.workdir.serving("shapes10").glob("[0-9]*"))) == 2
