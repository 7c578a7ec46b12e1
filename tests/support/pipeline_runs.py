"""Runs of the whole pipeline, or a part of it, in this process: as the worker of `alexnet run` does it."""

import dataclasses
import json
import unittest.mock

import image_data
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from components.previous import node_of
from core import settings
from core.events import VARIABLE, Reader
from pipeline import local_runner
from pipeline import run as runner
from review import results

SMALL = [*image_data.SMALL, "training.epochs=3"]
States = metadata_store_pb2.Execution.State


@dataclasses.dataclass
class Ran:
    """A run: what the metadata store says of its nodes, what came out, what was on offer for servers then, and what
    was told."""

    id: str
    states: dict[str, str]
    summary: dict
    evaluation: dict
    served: list[str]
    told: list[str]

    @property
    def executed(self):
        """The nodes that did work."""
        return {node for node, state in self.states.items() if state == "COMPLETE"}


def execute(workdir, *changes, first=None, last=None, fresh=False):
    """Runs the pipeline on ten drawn shapes; `first` and `last` are nodes. Paths in the summary are absolute."""
    chosen = settings.load(overrides=[*SMALL, *changes], **{"data.source": "shapes10/small"})
    run_id = workdir.new_run()
    folder = workdir.run(run_id)
    request = runner.write_request(runner.Request(chosen, "shapes10", first, last, fresh), workdir, run_id)
    with unittest.mock.patch.dict("os.environ", {VARIABLE: str(folder / "events.jsonl")}):
        local_runner.run(chosen, workdir, folder, request)
    states = {}
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(workdir.metadata))) as handle:
        store = handle.store
        context = store.get_context_by_type_and_name("pipeline_run", run_id)
        for execution in store.get_executions_by_context(context.id):
            states[node_of(store, execution.id)] = States.Name(execution.last_known_state)
    summary = workdir.with_absolute_paths(json.loads((folder / "summary.json").read_text()))
    served = sorted(path.name for path in workdir.serving("shapes10").glob("[0-9]*"))
    told = [event["text"] for event in Reader(folder / "events.jsonl").new() if event["kind"] in ("warning", "note")]
    return Ran(run_id, states, summary, results.evaluate(summary, chosen), served, told)
