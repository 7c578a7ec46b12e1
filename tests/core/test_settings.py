"""Settings: presets, overrides, and what is said of a mistake."""

import pytest
import yaml

from core import settings, yaml_text
from core.errors import UserError
from review import predictions


@pytest.mark.parametrize("name", settings.presets())
def test_every_preset_loads_and_survives_a_round_trip(name, tmp_path):
    loaded = settings.load(name)
    stored = tmp_path / "settings.yaml"
    stored.write_text(settings.dump(loaded))
    assert settings.load(str(stored)) == loaded


@pytest.mark.parametrize(
    ("values", "floors"),
    [
        ({}, (0.875, 0.65)),
        ({"data.source": "cifar-10-python.tar.gz"}, (0.875, 0.65)),
        ({"data.source": "cifar10:3.0.2"}, (0.875, 0.65)),
        ({"data.name": "mine"}, (0.875, 0.65)),
        ({"data.source": "my/images"}, (None, None)),
        ({"data.source": "shapes10"}, (None, None)),
        ({"data.source": "my/images", "gates.min_accuracy": 0.7}, (0.7, None)),
    ],
)
def test_the_floors_of_a_preset_hold_for_its_own_data(values, floors):
    gates = settings.load("cifar10", **values).gates
    assert (gates.min_accuracy, gates.min_class_recall) == floors
    overrides = [f"{key}={value}" for key, value in values.items()]
    assert settings.load("cifar10", overrides).gates == gates


def test_the_floors_of_a_preset_of_ones_own_hold_for_any_data(tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {source: cifar10}\ngates: {min_accuracy: 0.6}\n")
    assert settings.load(str(tmp_path / "mine.yaml"), **{"data.source": "my/images"}).gates.min_accuracy == 0.6


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
    ("override", "value"),
    [
        ("training.jit=on", "on"),
        ("training.jit=off", "off"),
        ("training.flip=off", False),
        ("training.flip=yes", True),
        ("model.calibration=none", "none"),
        ("data.version=2026-11-27", "2026-11-27"),
        ("data.version=1.10", "1.10"),
        ("data.version=017", "017"),
        ("data.name=2026", "2026"),
        ("kubeflow.cpu=2", "2"),
        ("kubeflow.memory=16Gi", "16Gi"),
        ("training.weight_decay=5e-4", 5e-4),
        ("training.epochs=0x10", 16),
        ("data.max_leaked_share=null", None),
        ("data.max_leaked_share=", None),
    ],
)
def test_a_value_is_what_it_looks_like(override, value, tmp_path):
    loaded = settings.load(overrides=[override])
    group, _, name = override.partition("=")[0].partition(".")
    assert getattr(getattr(loaded, group), name) == value
    file = tmp_path / "settings.yaml"
    file.write_text(settings.dump(loaded))
    assert settings.load(str(file)) == loaded


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training: {jit: on, flip: off}", {"training": {"jit": "on", "flip": "off"}}),
        ("a: [1, 1.5, .5, 1e3, -0x1f, 0x1f, 12:30, 1_000]", {"a": [1, 1.5, 0.5, 1e3, "-0x1f", 31, "12:30", "1_000"]}),
        (
            "a: [~, null, '', Null, .inf, true, FALSE, 'on']",
            {"a": [None, None, "", None, float("inf"), True, False, "on"]},
        ),
        ("base: &b {x: 1}\nmore: {<<: *b, y: 2}", {"base": {"x": 1}, "more": {"x": 1, "y": 2}}),
        ("", None),
    ],
)
def test_yaml_is_read_as_its_version_1_2_means_it(text, value):
    assert yaml_text.load(text) == value


def test_no_object_is_made_of_yaml():
    with pytest.raises(yaml.YAMLError):
        yaml_text.load("!!python/object/apply:os.getcwd []")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epoch=3", "did you mean training.epochs"),
        ("epochs=3", "did you mean training.epochs"),
        ("trainig.epochs=3", "did you mean training.epochs"),
        ("training.jit=maybe", "training.jit=maybe: input should be 'auto', 'on' or 'off'"),
        ("kubeflow={cpu: 2}", "is not a setting"),
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


@pytest.mark.parametrize("name", ["image", *predictions.SCHEMA.names])
def test_a_feature_of_the_data_cannot_be_called_like_a_column_of_the_predictions(name):
    with pytest.raises(UserError, match=rf"^data\.features=.*: {name} is there already\.$"):
        settings.load(overrides=[f"data.features=[{name}]"])


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


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["beam.runner=FlinkRunner"], r"beam\.runner=FlinkRunner needs beam\.master=HOST:8081\."),
        (["beam.runner=SparkRunner"], r"beam\.runner=SparkRunner needs beam\.master=spark://HOST:7077\."),
        (["beam.runner=SparkRunner", "beam.master=spark:7077"], r"beam\.master of Spark is like spark://HOST:7077\."),
        (["beam.runner=FlinkRunner", "beam.master=flink"], r"beam\.master of Flink is like HOST:8081, .*"),
        (["beam.master=flink:8081"], r"beam\.master is for beam\.runner=FlinkRunner or SparkRunner\."),
        (["beam.runner=FlinkRunner", "beam.master=f:1", "beam.workers=50000"], r"beam\.workers=50000: .*"),
        (
            ["beam.runner=FlinkRunner", "beam.pipeline_args=[--flink_master=f:1]"],
            r"beam\.pipeline_args: give beam\.master instead of --flink_master\.",
        ),
        (
            ["kubeflow.beam_runner=FlinkRunner", "kubeflow.beam_master=f:1", "kubeflow.beam_args=[--job_name=x]"],
            r"kubeflow\.beam_args: --job_name is set by the node; leave it out\.",
        ),
    ],
)
def test_what_an_engine_needs_is_said(changes, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        settings.load(overrides=changes)


def test_beam_gets_the_runner_and_its_options_and_by_default_nothing():
    assert settings.Beam().arguments == []
    chosen = settings.load(overrides=["beam.runner=DataflowRunner", "beam.pipeline_args=[--region=europe-west1]"])
    assert chosen.beam.arguments == ["--runner=DataflowRunner", "--region=europe-west1"]


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
        (["beam.runner=SparkRunner", "beam.master=spark://spark:7077"], False),
        (["beam.runner=FlinkRunner", "beam.master=flink:8081", "beam.pipeline_args=[--parallelism=8]"], False),
        (["beam.runner=FlinkRunner", "beam.master=f:1", "beam.pipeline_args=[--environment_cache_millis=1]"], False),
        (["beam.runner=FlinkRunner", "beam.master=f:1", "beam.pipeline_args=[--environment_type=DOCKER]"], True),
        (["beam.runner=DataflowRunner"], True),
        (["beam.pipeline_args=[--runner=SparkRunner]"], True),
    ],
)
def test_which_workers_may_be_elsewhere(changes, elsewhere):
    assert settings.load(overrides=changes).beam.elsewhere == elsewhere


@pytest.mark.parametrize(
    ("nodes", "changed"),
    [
        ("{ImageExampleGen: {memory: 8Gi}}", {}),
        ("{Trainer: {gpus: 0}}", {"gpus": 0}),
        ("{Trainer: {cpu: '2', memory: 8Gi}}", {"cpu": "2", "memory": "8Gi"}),
    ],
)
def test_what_is_not_said_of_trainer_stays_as_it_is(nodes, changed):
    before = settings.Kubeflow().nodes["Trainer"]
    found = settings.load(overrides=[f"kubeflow.nodes={nodes}"])
    assert found.kubeflow.nodes["Trainer"] == before.model_copy(update=changed)
    again = settings.Settings(**found.model_dump())
    assert again == found
