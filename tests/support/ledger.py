"""Working directories with runs as TFX and `alexnet run` leave them, in a real ML Metadata, but with tiny files."""

import dataclasses
import json

import ml_metadata
from ml_metadata.proto import metadata_store_pb2 as pb
from run_data import ended, evaluated

from core import walk

# Node -> outputs: key, type; and the inputs: node, key.
NODES = {
    "ImageExampleGen": ([("examples", "Examples")], []),
    "StatisticsGen": ([("statistics", "ExampleStatistics")], [("ImageExampleGen", "examples")]),
    "DataCheck": ([("distribution", "Distribution")], [("StatisticsGen", "statistics")]),
    "Transform": ([("transformed_examples", "Examples")], [("ImageExampleGen", "examples")]),
    "Trainer": ([("model", "Model"), ("model_run", "ModelRun")], [("Transform", "transformed_examples")]),
    "Evaluator": (
        [("evaluation", "ModelEvaluation"), ("blessing", "ModelBlessing")],
        [("ImageExampleGen", "examples"), ("Trainer", "model")],
    ),
    "EvaluationReport": (
        [("report", "alexnet.EvaluationReport")],
        [("Evaluator", "evaluation"), ("Evaluator", "blessing"), ("Trainer", "model")],
    ),
    "Pusher": (
        [("pushed_model", "PushedModel")],
        [("Trainer", "model"), ("Evaluator", "blessing"), ("EvaluationReport", "report")],
    ),
}
FILES = {
    "ImageExampleGen": {"ingest.json": "{}", "Split-train/data": "x" * 9000},
    "Evaluator.evaluation": {"metrics": "m" * 100, "predictions/part": "p", "predictions-validation/part": "q"},
    "EvaluationReport": {"report.json": "{}", "images.zip": "i" * 50},
    "Trainer.model": {"Format-Serving/saved_model.pb": "m" * 5000},
}


def open_store(workdir):
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(workdir.metadata)
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return ml_metadata.MetadataStore(config)


@dataclasses.dataclass
class Ledger:
    """Adds runs to a working directory; `made` has the artifacts of each: run -> (node, key) -> artifact.

    With `pushes`, a folder in an object store, models are pushed there.
    """

    workdir: object
    pushes: str = ""
    made: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.workdir.path.mkdir(parents=True, exist_ok=True)
        self.store = open_store(self.workdir)

    def run(
        self,
        run_id,
        name="pets",
        cached=(),
        of=None,
        baseline=None,
        blessed=True,
        state="pushed",
        until="Pusher",
        accepted=True,
    ):
        """A run.

        Args:
            run_id: of it.
            name: of the data.
            cached: nodes whose outputs it takes from the run `of`.
            baseline: a run whose model it is compared with.
            blessed: whether its model passed.
            state: in its results; None for a run that was killed and has none.
            until: the last node.
            accepted: whether DataCheck succeeded.
        """
        self.store = self.store or open_store(self.workdir)
        pipeline = self._context("pipeline", f"alexnet-{name}")
        context = self._context("pipeline_run", run_id)
        self.store.put_parent_contexts([pb.ParentContext(child_id=context.id, parent_id=pipeline.id)])
        made = self.made[run_id] = {}
        for node, (outputs, inputs) in NODES.items():
            contexts = [pipeline, context, self._context("node", f"alexnet-{name}.{node}")]
            execution = pb.Execution(type_id=self._type("execution", node), last_known_state=pb.Execution.COMPLETE)
            if node == "DataCheck" and not accepted:
                execution.last_known_state = pb.Execution.FAILED
            read = [(made[source], source[1]) for source in inputs]
            if node == "Evaluator" and baseline:
                read.append((self.made[baseline]["Trainer", "model"], "baseline_model"))
                found = [(self.made[baseline]["Trainer", "model"], "model")]
                self._put(pb.Execution(type_id=self._type("execution", "Resolver")), [], found, contexts)
            (number,) = self.store.put_executions([execution])
            execution.id = number
            written = []
            if node in cached:
                execution.last_known_state = pb.Execution.CACHED
                written = [(self.made[of][node, key], key) for key, _ in outputs]
            elif not (node == "DataCheck" and not accepted):
                written = [(self._artifact(name, node, key, kind, number, made), key) for key, kind in outputs]
            if node == "Pusher" and node not in cached:
                self._push(name, number, written[0][0], made, blessed)
            if node == "Evaluator" and node not in cached:
                blessing = written[1][0]
                blessing.custom_properties["blessed"].int_value = int(blessed)
                blessing.custom_properties["current_model_id"].int_value = made["Trainer", "model"].id
            ids = self._put(execution, read, written, contexts)
            for (artifact, key), id in zip(written, ids, strict=True):
                artifact.id = id
                made[node, key] = artifact
            if node == until or (node == "DataCheck" and not accepted):
                break
        self._results(run_id, name, state, made)
        return made

    def _artifact(self, name, node, key, kind, number, made):
        uri = f"artifacts/{name}/{node}/{key}/{number}"
        folder = self.workdir.path / uri
        folder.mkdir(parents=True)
        for file, content in FILES.get(f"{node}.{key}", FILES.get(node, {"data": "d"})).items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(content)
        said = self.workdir.path / f"artifacts/{name}/{node}/.system/executor_execution/{number}"
        said.mkdir(parents=True, exist_ok=True)
        (said / "executor_output.pb").write_text("o")
        artifact = pb.Artifact(type_id=self._type("artifact", kind), uri=uri, state=pb.Artifact.LIVE)
        artifact.custom_properties["files"].string_value = json.dumps(walk.contents(folder))
        return artifact

    def _push(self, name, number, artifact, made, blessed):
        artifact.custom_properties["pushed"].int_value = int(blessed)
        if not blessed:
            return
        if self.pushes:
            from storage import versions

            folder = self.workdir.path / artifact.uri
            version = str(versions.publish(str(folder), self.pushes, f"digest of {number}"))
            artifact.custom_properties["pushed_destination"].string_value = f"{self.pushes}/{version}"
            artifact.custom_properties["pushed_version"].string_value = version
            return
        version = self.workdir.serving(name) / str(1000 + number)
        (version / "assets.extra").mkdir(parents=True)
        (version / "saved_model.pb").write_text("m")
        model = made["Trainer", "model"].uri + "/Format-Serving"
        (version / "assets.extra/pushed.json").write_text(json.dumps({"fingerprint": "f", "model": model}))
        artifact.custom_properties["pushed_destination"].string_value = str(version.relative_to(self.workdir.path))
        artifact.custom_properties["pushed_version"].string_value = version.name

    def _results(self, run_id, name, state, made):
        folder = self.workdir.run(run_id)
        folder.mkdir(parents=True)
        number = len(self.made)
        (folder / "request.json").write_text(json.dumps({"number": number, "workdir": str(self.workdir.path)}))
        (folder / "settings.yaml").write_text("data: {source: shapes10}\n")
        if not state:
            return
        found = {"number": number, "name": name, "state": state}
        if ("Evaluator", "evaluation") in made:
            found["evaluation"] = evaluated(0.9, path=made["Evaluator", "evaluation"].uri)
            found["model"] = made["Trainer", "model"].uri + "/Format-Serving"
        if ("EvaluationReport", "report") in made:
            found["report"] = made["EvaluationReport", "report"].uri
            (folder / "report.json").write_text("{}")
            (folder / "report.html").write_text("<html></html>")
        if state == "pushed":
            destination = made["Pusher", "pushed_model"].custom_properties["pushed_destination"].string_value
            found["pushed"] = {"path": destination}
        (folder / "results.json").write_text(json.dumps(ended(run_id, **found)))

    def _put(self, execution, read, written, contexts):
        """Returns the ids of what was written."""

        def event(kind, key):
            made = pb.Event(type=kind)
            made.path.steps.add().key = key
            return made

        pairs = [(artifact, event(pb.Event.INPUT, key)) for artifact, key in read]
        pairs += [(artifact, event(pb.Event.OUTPUT, key)) for artifact, key in written]
        _, ids, _ = self.store.put_execution(execution, pairs, contexts)
        return ids[len(read) :]

    def _context(self, kind, name):
        found = self.store.get_context_by_type_and_name(kind, name)
        if not found:
            type_id = self.store.put_context_type(pb.ContextType(name=kind))
            self.store.put_contexts([pb.Context(type_id=type_id, name=name)])
            found = self.store.get_context_by_type_and_name(kind, name)
        return found

    def _type(self, what, name):
        if what == "artifact":
            return self.store.put_artifact_type(pb.ArtifactType(name=name))
        return self.store.put_execution_type(pb.ExecutionType(name=name))

    def states(self):
        """Artifact id -> LIVE or DELETED."""
        return {one.id: pb.Artifact.State.Name(one.state) for one in open_store(self.workdir).get_artifacts()}

    def live(self, run_id):
        """The outputs of a run that are not deleted, as NODE.KEY."""
        states = self.states()
        return {f"{node}.{key}" for (node, key), one in self.made[run_id].items() if states[one.id] == "LIVE"}
