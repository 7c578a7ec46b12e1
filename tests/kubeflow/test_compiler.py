"""What is compiled for Kubeflow, what is refused, and that TFX's own output would not run there."""

import importlib
import json
import re

import kubeflow_project
import pytest
import yaml
from google.protobuf import json_format
from kfp import components as kfp_components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx import components as tfx_components
from tfx import types
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.dsl.input_resolution.strategies.latest_artifact_strategy import LatestArtifactStrategy
from tfx.orchestration import data_types
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.types.standard_artifacts import Model, Schema

from core import settings
from core.errors import UserError
from kubeflow import compiler
from kubeflow.compiler import CompileError, Options, Parameter, Retry, Task
from kubeflow.harness import Refused, pod, spec
from kubeflow.options import BEAM, BEAM_KEY
from pipeline import kubeflow_runner, nodes

FIRST = Parameter("first", ("Draw.words.first",), "the first number")


def pipeline_of(*components, name="tiny"):
    return tfx_pipeline.Pipeline(pipeline_name=name, pipeline_root="", components=list(components))


def stock(pipeline, tmp_path, name="pipeline.yaml"):
    """What TFX's own runner writes."""
    config = kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
        default_image="image", use_pipeline_spec_2_1=name.endswith(".yaml")
    )
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(config, str(tmp_path), name)
    runner.run(pipeline)
    return (tmp_path / name).read_text()


def compiled(pipeline=None, **options):
    """The two documents."""
    text = compiler.compile(pipeline or kubeflow_project.tiny(), Options(**{"image": "image"} | options))
    documents = list(yaml.safe_load_all(text))
    return documents[0], documents[1]["platforms"]["kubernetes"] if len(documents) > 1 else {}


def container(spec, name):
    return spec["deploymentSpec"]["executors"][f"{name}_executor"]["container"]


def test_the_same_pipeline_gives_the_same_bytes():
    texts = {
        compiler.compile(
            kubeflow_project.tiny(), Options("image", parameters=(FIRST,), tasks={"Draw": Task(cpu="1")})
        )
        for _ in range(2)
    }
    assert len(texts) == 1


def test_kfps_own_loader_and_protobuf_take_it():
    exit_task = compiler.ExitTask("Last", ("true", compiler.STATUS))
    text = compiler.compile(
        kubeflow_project.tiny(), Options("image", parameters=(FIRST,), exit_task=exit_task, default=Task(deadline=60))
    )
    loaded = kfp_components.load_component_from_text(text)
    assert loaded.name == "tiny"
    assert loaded.component_spec.inputs["first"].default == 10
    (first, _) = yaml.safe_load_all(text)
    parsed = json_format.ParseDict(first, pipeline_spec_pb2.PipelineSpec())
    assert parsed.schema_version == "2.1.0"
    assert set(parsed.components["tfx-dag"].dag.tasks) == {"Draw", "Nothing", "Judge", "Fragile"}


def test_containers_start_our_entrypoint_with_what_tfx_leaves_out():
    found = container(compiled()[0], "Judge")
    assert found["command"] == ["python", "-m", "kubeflow.entrypoint"]
    arguments = dict(zip(found["args"][::2], found["args"][1::2], strict=True))
    assert json.loads(arguments[compiler.CLASSES]) == {
        "system.HTML": "kubeflow_project.Page",
        "tiny.Table": "kubeflow_project.Table",
    }
    inputs = json.loads(arguments[compiler.SPEC])["artifacts"]
    assert inputs["baseline"]["isOptional"]
    assert "isOptional" not in inputs["table"]
    assert "tfx.Model" in inputs["baseline"]["artifactType"]["instanceSchema"]


def test_a_runtime_parameter_keeps_its_default():
    count = data_types.RuntimeParameter("count", int, 5)
    first, _ = compiled(kubeflow_project.tiny(count=count))
    assert first["root"]["inputDefinitions"]["parameters"]["count"] == {
        "parameterType": "NUMBER_INTEGER",
        "defaultValue": 5,
    }


def test_tfx_drops_the_default_so_the_server_refuses_the_run(tmp_path):
    count = data_types.RuntimeParameter("count", int, 5)
    pipeline = spec.load(stock(kubeflow_project.tiny(count=count), tmp_path))
    with pytest.raises(Refused, match="count has neither a value nor a default"):
        spec.parameters(pipeline, {})


def test_a_parameter_reaches_into_properties():
    first, _ = compiled(parameters=(FIRST,))
    assert first["root"]["inputDefinitions"]["parameters"]["first"]["defaultValue"] == 10
    task = first["root"]["dag"]["tasks"]["Draw"]
    assert {"componentInputParameter": "first"} in task["inputs"]["parameters"].values()
    arguments = container(first, "Draw")["args"]
    targets = json.loads(arguments[arguments.index(compiler.TARGETS) + 1])
    assert list(targets.values()) == [[["words", "first"]]]


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (Parameter("first", ("Draw.words.last",)), "does not exist"),
        (Parameter("first", ("Draw.nothing",)), "which is no property"),
        (Parameter("first", ("Paint.words",)), "which is no property"),
        (Parameter("first", ("Draw.words.first", "Draw.count")), "have different values"),
        (Parameter("first", ("Draw.words.more",)), "only text and numbers"),
        (Parameter("first one", ("Draw.words.first",)), "illegal"),
    ],
)
def test_a_parameter_that_leads_nowhere_is_refused(parameter, words):
    with pytest.raises(CompileError, match=words):
        compiled(parameters=(parameter,))


def test_tasks_get_resources_retries_and_caching():
    gpu = Task(
        cpu="500m", cpu_limit="4", memory="8Gi", memory_limit="16G", accelerator="nvidia.com/gpu", accelerators=2,
        env={"A": "b"}, image="other", retry=Retry(3, 10, 1.5, 60), cache=False,
    )  # fmt: skip
    first, _ = compiled(tasks={"Judge": gpu})
    judge = container(first, "Judge")
    assert judge["resources"] == {
        "cpuRequest": 0.5,
        "cpuLimit": 4.0,
        "memoryRequest": 8 * 2**30 / 1e9,
        "memoryLimit": 16.0,
        "accelerator": {"type": "nvidia.com/gpu", "count": "2"},
    }
    assert (judge["env"], judge["image"]) == ([{"name": "A", "value": "b"}], "other")
    assert container(first, "Draw")["image"] == "image"
    tasks = first["root"]["dag"]["tasks"]
    assert tasks["Judge"]["retryPolicy"] == {
        "maxRetryCount": 3,
        "backoffDuration": "10s",
        "backoffFactor": 1.5,
        "backoffMaxDuration": "60s",
    }
    assert tasks["Judge"]["cachingOptions"] == {}
    assert tasks["Draw"]["cachingOptions"] == {"enableCache": True}


def test_what_kubernetes_alone_understands_is_in_a_second_document():
    task = Task(
        node_selector={"pool": "gpu"},
        tolerations=(compiler.Toleration("gpu", effect="NoSchedule"), compiler.Toleration(seconds=5)),
        volumes=(compiler.Volume("claim", "/data"), compiler.Volume("claim", "/models", sub_path="models")),
        secret_env=(compiler.SecretEnv("s3", {"AWS_ACCESS_KEY_ID": "id"}),),
        secret_files=(compiler.SecretFiles("gcs", "/secrets"),),
        shared_memory="2Gi",
        deadline=3600,
    )
    _, platform = compiled(tasks={"Draw": task}, image_pull_policy="Always", image_pull_secrets=("registry",))
    executors = platform["deploymentSpec"]["executors"]
    assert executors["Draw_executor"] == {
        "nodeSelector": {"labels": {"pool": "gpu"}},
        "tolerations": [
            {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"operator": "Exists", "tolerationSeconds": "5"},
        ],
        "pvcMount": [
            {"constant": "claim", "mountPath": "/data"},
            {"constant": "claim", "mountPath": "/models", "subPath": "models"},
        ],
        "secretAsEnv": [{"secretName": "s3", "keyToEnv": [{"secretKey": "id", "envVar": "AWS_ACCESS_KEY_ID"}]}],
        "secretAsVolume": [{"secretName": "gcs", "mountPath": "/secrets", "optional": False}],
        "emptyDirMounts": [{"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "2Gi"}],
        "activeDeadlineSeconds": "3600",
        "imagePullPolicy": "Always",
        "imagePullSecret": [{"secretName": "registry"}],
    }
    assert executors["Judge_executor"].keys() == {"imagePullPolicy", "imagePullSecret"}
    for found in executors.values():
        json_format.ParseDict(found, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_nothing_for_kubernetes_means_one_document():
    assert len(list(yaml.safe_load_all(compiler.compile(kubeflow_project.tiny(), Options("image"))))) == 1


@pytest.mark.parametrize(("text", "number"), [("500m", 0.5), ("4", 4), ("1.5", 1.5), ("8Gi", 2**33), ("2k", 2000)])
def test_quantities_are_those_of_kubernetes(text, number):
    assert compiler.quantity(text) == number


@pytest.mark.parametrize("text", ["", "8 Gi", "8GB", "8ki", "-1"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(CompileError, match="no quantity"):
        compiler.quantity(text)


def test_an_exit_task_sees_the_parameters_of_nobody_and_the_tasks_see_theirs():
    exit_task = compiler.ExitTask("Last", ("true", compiler.STATUS))
    first, _ = compiled(parameters=(FIRST,), exit_task=exit_task)
    assert first["components"]["tfx-dag"]["inputDefinitions"]["parameters"].keys() == {"first"}
    tasks = first["root"]["dag"]["tasks"]
    assert tasks["tfx-dag"]["inputs"]["parameters"] == {"first": {"componentInputParameter": "first"}}
    assert tasks["Last"]["dependentTasks"] == ["tfx-dag"]
    assert spec.is_exit(tasks["Last"])


def test_with_an_exit_task_what_nothing_waits_for_is_not_cached():
    first, _ = compiled(exit_task=compiler.ExitTask("Last", ("true", compiler.STATUS)))
    tasks = first["components"]["tfx-dag"]["dag"]["tasks"]
    assert [name for name, task in sorted(tasks.items()) if not task["cachingOptions"]] == ["Fragile"]


def test_the_driver_of_an_example_gen_moves_into_its_container(tmp_path):
    pipeline = pipeline_of(tfx_components.CsvExampleGen(input_base="data"))
    found = container(compiled(pipeline)[0], "CsvExampleGen")
    assert compiler.DRIVER in found["args"]
    assert "lifecycle" not in found
    with pytest.raises(Refused, match="lifecycle hooks never run"):
        spec.load(stock(pipeline_of(tfx_components.CsvExampleGen(input_base="data")), tmp_path))


def resolver():
    return Resolver(LatestArtifactStrategy, model=types.Channel(type=Model)).with_id("Last")


def test_a_resolver_is_refused(tmp_path):
    with pytest.raises(CompileError, match="Last is a Resolver"):
        compiled(pipeline_of(resolver()))
    with pytest.raises(Refused, match="non-container and non-importer executor not implemented"):
        spec.load(stock(pipeline_of(resolver()), tmp_path))


def test_a_condition_on_an_importer_is_refused():
    nothing = kubeflow_project.Nothing()
    with Cond(nothing.outputs["model"].future()[0].property("x") == 1):
        importer = Importer("gs://bucket/schema", Schema)
    with pytest.raises(CompileError, match="Importer is an Importer with a condition"):
        compiled(pipeline_of(nothing, importer))


def test_an_infra_validator_is_refused():
    from tfx.proto import infra_validator_pb2

    nothing = kubeflow_project.Nothing()
    validator = tfx_components.InfraValidator(
        model=nothing.outputs["model"], serving_spec=infra_validator_pb2.ServingSpec()
    )
    with pytest.raises(CompileError, match="InfraValidator is an InfraValidator"):
        compiled(pipeline_of(nothing, validator))


@pytest.mark.parametrize("id", ["draw_it", "draw.it", "-draw", "zeichne Bäume"])
def test_a_node_id_that_argo_refuses_is_refused(id, tmp_path):
    with pytest.raises(CompileError, match="illegal in Argo"):
        compiled(pipeline_of(kubeflow_project.Nothing().with_id(id)))
    with pytest.raises(Refused, match="Argo allows only"):
        spec.load(stock(pipeline_of(kubeflow_project.Nothing().with_id(id)), tmp_path))


def test_a_pipeline_name_that_kubernetes_refuses_is_refused():
    with pytest.raises(CompileError, match="name 'Tiny_1' is illegal"):
        compiled(pipeline_of(kubeflow_project.Nothing(), name="Tiny_1"))


class Odd(types.Artifact):
    TYPE_NAME = "Odd"


class Rich(types.Artifact):
    TYPE_NAME = "tiny.Rich"
    PROPERTIES = {"rows": types.artifact.Property(type=types.artifact.PropertyType.INT)}


def test_types_that_tfx_cannot_compile_are_refused_by_name():
    for kind, words in ((Odd, "no legal name"), (Rich, "has PROPERTIES")):
        with pytest.raises(CompileError, match=words):
            compiled(pipeline_of(Importer("gs://bucket/x", kind)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tasks": {"Paint": Task()}}, "no such node"),
        ({"tasks": {"Draw": Task(memory="much")}}, "no quantity"),
        ({"tasks": {"Draw": Task(accelerators=1)}}, "no type"),
        ({"image_pull_policy": "Sometimes"}, "no image pull policy"),
        ({"exit_task": compiler.ExitTask("Draw", ("true",))}, "illegal or taken"),
        ({"parameters": (FIRST, FIRST)}, "two parameters"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(CompileError, match=words):
        compiled(**options)


def test_the_default_form_of_tfx_is_refused_by_the_server(tmp_path):
    with pytest.raises(Refused, match="PipelineJob"):
        spec.load(stock(kubeflow_project.tiny(), tmp_path, "pipeline.json"))


# Our own pipeline


CHOSEN = settings.load(overrides=["training.warm_start=true"])


@pytest.fixture(scope="module")
def ours():
    return spec.load(kubeflow_runner.compile(CHOSEN, "image@sha256:0"))


def test_our_pipeline_has_the_nodes_of_alexnet_run_and_what_keeps_history(ours):
    kept = {"KeepStatistics", "KeepReport", "ShowReport"}
    assert set(ours.spec["root"]["dag"]["tasks"]) == {*nodes.planned(CHOSEN), *kept}


def test_our_parameters_have_the_defaults_of_the_settings(ours):
    chosen = settings.load()
    assert spec.parameters(ours, {}) == {
        "data_source": chosen.data.source,
        "data_version": "auto",
        "newest_spans": 0,
        "epochs": chosen.training.epochs,
        "learning_rate": chosen.training.learning_rate,
        "min_accuracy": chosen.gates.min_accuracy,
        "min_class_recall": chosen.gates.min_class_recall,
        "push_destination": "/alexnet/serving/shapes10",
    }


def test_only_trainer_waits_for_a_gpu(ours):
    executors = ours.spec["deploymentSpec"]["executors"]
    resources = {label: executor["container"]["resources"] for label, executor in executors.items()}
    assert [label for label, found in resources.items() if "accelerator" in found] == ["Trainer_executor"]
    assert resources["ImageExampleGen_executor"]["memoryLimit"] == 4 * 2**30 / 1e9


def test_caching_is_off_where_more_than_inputs_counts(ours):
    tasks = ours.spec["root"]["dag"]["tasks"]
    cached = {name for name, task in tasks.items() if task["cachingOptions"]}
    assert cached == {
        "StatisticsGen", "ExampleValidator", "DataCheck", "Transform", "Trainer", "Evaluator", "ServingCheck",
        "EvaluationReport", "ShowReport",
    }  # fmt: skip


DUE = "{{$.pipeline_job_schedule_time_utc}}"


def test_what_reads_the_data_is_told_when_the_run_was_due(ours):
    inputs = ours.spec["root"]["dag"]["tasks"]["ImageExampleGen"]["inputs"]["parameters"]
    assert inputs["due"] == {"runtimeValue": {"constant": DUE}}
    cached = kubeflow_runner.compile(settings.load(overrides=["kubeflow.nodes={ImageExampleGen: {cache: true}}"]))
    assert DUE not in cached  # or the cache would never answer


@pytest.mark.parametrize("target", ["Nobody.words", "Draw.count", "Draw.other"])
def test_only_a_property_that_is_text_can_be_told_of_the_run(target):
    with pytest.raises(CompileError, match=f"{target} cannot be told"):
        compiled(told={target: compiler.DUE})
    with pytest.raises(CompileError, match=r"Draw.words cannot be told soon"):
        compiled(told={"Draw.words": "soon"})
    found, *_ = compiled(told={"Draw.words": compiler.RUN_UUID})
    properties = found["root"]["dag"]["tasks"]["Draw"]["inputs"]["parameters"]
    assert properties["words"] == {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}


def test_a_search_waits_for_what_trainer_needs_and_hands_on_what_it_found():
    changes = ["tuner.trials=4", "kubeflow.nodes={Trainer: {gpus: 2, memory: 9Gi}}"]
    found = spec.load(kubeflow_runner.compile(settings.load(overrides=changes)))
    for name in ("Tuner", "Trainer"):
        resources = container(found.spec, name)["resources"]
        assert (resources["accelerator"]["count"], resources["memoryLimit"]) == ("2", 9 * 2**30 / 1e9)
    tasks = found.spec["root"]["dag"]["tasks"]
    assert tasks["Tuner"]["cachingOptions"]
    for name, key in (("Trainer", "hyperparameters"), ("EvaluationReport", "tuner_results")):
        assert tasks[name]["inputs"]["artifacts"][key]["taskOutputArtifact"]["producerTask"] == "Tuner"
    changes[1] = "kubeflow.nodes={Trainer: {gpus: 1}, Tuner: {memory: 2Gi}}"
    alone = spec.load(kubeflow_runner.compile(settings.load(overrides=changes))).spec
    assert container(alone, "Tuner")["resources"]["memoryLimit"] == 2 * 2**30 / 1e9
    assert "accelerator" not in container(alone, "Tuner")["resources"]
    parameters = spec.parameters(found, {"trials": 2})
    assert parameters["trials"] == 2
    assert "learning_rate" not in parameters  # the search decides


def test_a_node_can_be_given_what_it_needs():
    chosen = settings.load(
        overrides=[
            "kubeflow.nodes={Trainer: {gpus: 0}, ImageExampleGen: {memory: 12Gi, cache: true, retries: 0}}",
            "kubeflow.secret_env={s3: {AWS_ACCESS_KEY_ID: id}}",
            "kubeflow.webhook_secret=hook",
        ]
    )
    found = spec.load(kubeflow_runner.compile(chosen))
    assert "accelerator" not in container(found.spec, "Trainer")["resources"]
    assert container(found.spec, "ImageExampleGen")["resources"]["memoryLimit"] == 12 * 2**30 / 1e9
    task = found.spec["components"]["tfx-dag"]["dag"]["tasks"]["ImageExampleGen"]
    assert task["cachingOptions"]
    assert "retryPolicy" not in task
    for name in ("ImageExampleGen", "Baseline", "KeepReport", "Pusher"):
        assert found.platform[f"{name}_executor"]["secretAsEnv"][0]["secretName"] == "s3"
    assert "secretAsEnv" not in found.platform["Trainer_executor"]
    assert found.spec["root"]["dag"]["tasks"].keys() == {"tfx-dag", "Notify"}


def test_whatever_the_settings_ask_for_is_a_field_that_kubernetes_has():
    tolerations = "[{key: k, operator: Equal, value: v, effect: NoSchedule}, {effect: NoExecute}]"
    chosen = settings.load(
        overrides=[
            "kubeflow.nodes={ImageExampleGen: {cpu: 500m, memory: 8Gi, gpus: 2, gpu_type: amd.com/gpu, cache: true, "
            f"shared_memory: 2Gi, node_selector: {{a: b}}, tolerations: {tolerations}, deadline: 600, retries: 3}}}}",
            "kubeflow.secret_env={s3: {AWS_ACCESS_KEY_ID: id}}",
            "kubeflow.secret_files={gcs: /secrets}",
            "kubeflow.image_pull_policy=Always",
            "kubeflow.image_pull_secrets=[registry]",
            "kubeflow.webhook_secret=hook",
            "kubeflow.ui=https://kubeflow.example.com",
            "kubeflow.inference_service=served",
        ]
    )
    found = spec.load(kubeflow_runner.compile(chosen))  # which reads both documents by their protobufs
    assert found.platform["ImageExampleGen_executor"].keys() == {
        "nodeSelector", "tolerations", "pvcMount", "secretAsEnv", "secretAsVolume", "emptyDirMounts",
        "activeDeadlineSeconds", "imagePullPolicy", "imagePullSecret",
    }  # fmt: skip
    assert "Notify_executor" in found.platform


ON_FLINK = ("kubeflow.beam_runner=FlinkRunner", "kubeflow.beam_master=http://alexnet-flink-rest:8081")
BEAM_NODES = {"ImageExampleGen", "StatisticsGen", "Transform", "Evaluator"}


def compiled_with(*changes):
    return spec.load(kubeflow_runner.compile(settings.load(overrides=changes)))


@pytest.mark.parametrize("changes", [ON_FLINK, (*ON_FLINK, "kubeflow.beam_args=[--parallelism=3]")])
def test_options_of_beam_are_not_part_of_what_the_cache_counts(changes):
    """Neither arguments nor plain variables, which count from 2.18 on. The report shows all settings."""
    plain, on_flink = compiled_with(), compiled_with(*changes)
    assert on_flink.platform != plain.platform
    for found in (plain, on_flink):
        parameters = found.spec["root"]["dag"]["tasks"]["EvaluationReport"]["inputs"]["parameters"]
        told = json.loads(parameters.pop("settings")["runtimeValue"]["constant"])
        assert told["kubeflow"]["beam_runner"] == (None if found is plain else "FlinkRunner")
    assert on_flink.spec == plain.spec


def test_nodes_on_flink_have_the_volume_and_beams_options():
    plain, on_flink = (compiled_with("kubeflow.deadline=600", *more) for more in ((), ON_FLINK))
    changed = {label for label, found in on_flink.platform.items() if found != plain.platform[label]}
    assert changed == {f"{name}_executor" for name in BEAM_NODES}
    for label in changed:
        found = on_flink.platform[label]
        assert found["pvcMount"] == [{"constant": "alexnet", "mountPath": "/alexnet"}]
        beam = json.loads(found["podMetadata"]["annotations"][BEAM_KEY])
        module, _, function = beam["hook"].partition(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert beam["flink"] == "alexnet-flink-rest:8081"
        assert beam["told"] == {
            "runner": "FlinkRunner",
            "master": "http://alexnet-flink-rest:8081",
            "workers": None,
            "arguments": [],
            "folder": "/alexnet/beam",
            "kept": 600 + 3600,
        }
        container = on_flink.spec["deploymentSpec"]["executors"][label]["container"]
        (variable,) = (one for one in pod.patch(container, found)["containers"][0]["env"] if one["name"] == BEAM)
        assert variable["valueFrom"] == {"fieldRef": {"fieldPath": f"metadata.annotations['{BEAM_KEY}']"}}


def test_options_of_beam_alone_need_no_volume():
    found = compiled_with("kubeflow.beam_args=[--direct_num_workers=2]").platform["Transform_executor"]
    assert "pvcMount" not in found
    told = json.loads(found["podMetadata"]["annotations"][BEAM_KEY])["told"]
    assert told == {"runner": None, "master": None, "workers": None, "arguments": ["--direct_num_workers=2"]}


def test_the_engine_of_alexnet_run_is_not_that_of_the_cluster():
    laptop = ("beam.runner=FlinkRunner", "beam.master=localhost:8081", "beam.pipeline_args=[--parallelism=1]")
    assert compiled_with(*laptop).platform == compiled_with().platform


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("kubeflow.beam_runner=FlinkRunner",), "kubeflow.beam_runner needs kubeflow.beam_master"),
        (("kubeflow.beam_master=flink:8081",), "kubeflow.beam_master is for kubeflow.beam_runner=FlinkRunner"),
        (("kubeflow.beam_runner=SparkRunner",), "kubeflow.beam_runner"),
        ((ON_FLINK[0], "kubeflow.beam_master=[local]"), "kubeflow.beam_master"),
        ((ON_FLINK[0], "kubeflow.beam_master=localhost:8081"), "would be the pod of each node itself"),
    ],
)
def test_an_engine_that_no_pod_could_use_is_refused(changes, words):
    with pytest.raises(UserError, match=re.escape(words)):
        compiled_with(*changes)


def test_an_unknown_node_in_the_settings_is_a_users_mistake():
    with pytest.raises(UserError, match=r"kubeflow\.nodes has Traner"):
        kubeflow_runner.compile(settings.load(overrides=["kubeflow.nodes={Traner: {gpus: 1}}"]))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("push.destination=minio://models/shapes", "write s3://"),
        ("push.destination=hdfs://models/shapes", r"az://CONTAINER/FOLDER, or lie in /alexnet"),
        ("push.destination=serving", r"must be s3://BUCKET/FOLDER, .* or lie in /alexnet"),
        ("push.destination=s3:///shapes", "names no bucket"),
        ("data.corrections=list.csv", r"data\.corrections=list\.csv must be s3://.* or lie in /alexnet"),
        ("kubeflow.history=/history", r"must be s3://BUCKET/FOLDER, .* or lie in /alexnet"),
    ],
)
def test_a_place_that_would_be_gone_with_the_pod_is_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        kubeflow_runner.compile(settings.load(overrides=[change]))


def test_histories_may_lie_in_an_object_store():
    chosen = settings.load(overrides=["kubeflow.history=s3://kept/history", "push.destination=s3://models/shapes"])
    tasks = spec.load(kubeflow_runner.compile(chosen)).spec["root"]["dag"]["tasks"]
    places = {
        name: tasks[name]["inputs"]["parameters"]["history"]
        for name in ("PreviousStatistics", "KeepStatistics", "PreviousReport", "KeepReport")
    }
    assert places["KeepReport"]["runtimeValue"]["constant"] == "s3://kept/history/shapes10/report"
    assert places["PreviousReport"] == places["KeepReport"]
    assert places["PreviousStatistics"] == places["KeepStatistics"]
