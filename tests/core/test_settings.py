"""Settings: presets, overrides, and what is said of a mistake."""

import pytest
import yaml

from core import settings
from core.errors import UserError


@pytest.mark.parametrize("name", settings.presets())
def test_every_preset_loads_and_survives_a_round_trip(name, tmp_path):
    loaded = settings.load(name)
    stored = tmp_path / "settings.yaml"
    stored.write_text(settings.dump(loaded))
    assert settings.load(str(stored)) == loaded


def test_every_preset_has_a_description():
    assert all(settings.presets().values())


def test_overrides_are_typed_and_the_last_one_wins():
    loaded = settings.load(overrides=["training.epochs=3", "training.epochs=5", "gates.min_accuracy=0.25"])
    assert (loaded.training.epochs, loaded.gates.min_accuracy) == (5, 0.25)


def test_a_space_is_read_with_the_types_of_its_settings_and_survives_a_round_trip():
    space = "training.learning_rate: [5e-2, 0.4, log], model.dropout: [0, 0.3], training.flip: [true, false]"
    loaded = settings.load(overrides=[f"tuner.space={{{space}, training.batch_size: [64, 128, choice]}}"])
    assert loaded.tuner.space == {
        "training.learning_rate": (0.05, 0.4, "log"),
        "model.dropout": (0.0, 0.3, "linear"),
        "training.flip": (True, False, "choice"),
        "training.batch_size": (64, 128, "choice"),
    }
    assert settings.parse(yaml.safe_load(settings.dump(loaded))) == loaded


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epoch=3", "did you mean training.epochs"),
        ("epochs=3", "did you mean training.epochs"),
        ("trainig.epochs=3", "did you mean training.epochs"),
        ("training.epochs=0", "greater than or equal to 1"),
        ("training.epochs=true", "training.epochs=True: input should be a number"),
        ("data.max_leaked_share=true", "input should be a number"),
        ("model.pools=[true]", "input should be a number"),
        ("kubeflow.nodes={Trainer: {gpus: true}}", "gpus=True: input should be a number"),
        ("tuner.space={training.shift: [true, 2]}", "shift=True: input should be a number"),
        ("training.epochs=many", "valid integer"),
        ("gates.min_accuracy=1.5", "less than or equal to 1"),
        ("model.variant=resnet", "'cifar' or 'paper'"),
        ("training.epochs", "--set group.key=value"),
        ("training.epochs=[", "not valid YAML"),
        ("model.variant=paper", "model.input_size must be at least 67"),
        ("model.pools=[2, 6]", "model.pools"),
        ("model.pools=[1, 2, 3, 4]", "model.pools"),
        ("tuner.trials=0", "tuner.trials=0: input should be greater than or equal to 1"),
        ("tuner.space={}", "name a setting to search"),
        ("tuner.space={training.learning_rte: [0.1, 0.2]}", "did you mean training.learning_rate"),
        ("tuner.space={training.epochs: [1, 2]}", "training.epochs cannot be searched"),
        ("tuner.space={training.learning_rate: [0.2, 0.1]}", "learning_rate needs a number and a larger one"),
        ("tuner.space={training.learning_rate: [0.1, 50]}", "learning_rate=50: input should be less than"),
        ("tuner.space={model.dropout: [0, 0.2, log]}", "model.dropout needs a lower bound above 0"),
        ("tuner.space={training.flip: [true]}", "training.flip needs two or more different values"),
        ("tuner.space={training.flip: [true, false, log]}", "training.flip needs a number"),
        ("tuner.space={training.shift: [0.5, 2]}", "shift=0.5: input should be a valid integer"),
        ("tuner.space={model.input_size: [4, 32]}", "input_size=4: input should be greater than"),
    ],
)
def test_a_mistake_is_one_sentence_with_the_way_out(override, said):
    with pytest.raises(UserError, match=r".") as caught:
        settings.load(overrides=[override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.muon=0.03", "model.normalization=lrn"],
        ["training.muon=0.03", "training.momentum=0"],
        ["training.muon=0.03", "tuner.space={model.normalization: [batch, none]}"],
        ["tuner.space={training.muon: [0, 0.1]}", "model.normalization=none"],
    ],
)
def test_muon_needs_what_keeps_its_kernels_in_scale(overrides):
    with pytest.raises(UserError, match=r"^training\.muon needs model\.normalization=batch"):
        settings.load(overrides=["training.muon=0", *overrides])


def test_beam_gets_the_runner_and_its_options_and_by_default_nothing():
    assert settings.Beam().arguments == []
    chosen = settings.load(overrides=["beam.runner=FlinkRunner", "beam.pipeline_args=[--flink_master=flink:8081]"])
    assert chosen.beam.arguments == ["--runner=FlinkRunner", "--flink_master=flink:8081"]


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UserError, match="did you mean cifar10"):
        settings.load("cifar")


def test_a_preset_file_with_an_unknown_group_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"epochs": 1}}))
    with pytest.raises(UserError, match="did you mean"):
        settings.load(str(path))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("shapes10", "shapes10"),
        ("cifar10", "cifar10"),
        ("cifar10:3.*.*", "cifar10"),
        ("shapes10/small", "shapes10"),
        ("/data/cifar-10-python.tar.gz", "cifar10"),
        ("/data/cifar-10-batches-bin", "cifar10"),
        ("/data/My Pets (2)", "my-pets-2"),
    ],
)
def test_the_name_that_results_are_filed_under(source, name):
    assert settings.load(**{"data.source": source}).name == name


def test_paths_become_absolute_for_a_process_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    chosen = settings.load(overrides=["data.source=./images", "data.data_dir=prepared", "push.destination=~/serving"])
    made = settings.absolute(chosen)
    assert (made.data.source, made.data.data_dir) == (str(tmp_path / "images"), str(tmp_path / "prepared"))
    assert made.push.destination == "/home/me/serving"
    assert made.name == chosen.name
    assert settings.absolute(made) == made


def test_what_is_no_path_here_stays_as_it_is():
    for changes in (
        [],
        ["data.source=s3://bucket/images", "data.data_dir=gs://bucket/x", "push.destination=s3://b/s"],
    ):
        chosen = settings.load(overrides=changes)
        assert settings.absolute(chosen) == chosen


@pytest.mark.parametrize(
    ("changes", "elsewhere"),
    [
        ([], False),
        (["beam.pipeline_args=[--direct_num_workers=2, --direct_running_mode=multi_processing]"], False),
        (["beam.runner=SparkRunner"], True),
        (["beam.pipeline_args=[--runner=SparkRunner]"], True),
    ],
)
def test_which_workers_may_be_elsewhere(changes, elsewhere):
    assert settings.load(overrides=changes).beam.elsewhere == elsewhere
