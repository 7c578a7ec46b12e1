"""Runs the pipeline with TFX's LocalDagRunner; the worker process behind `alexnet run`.

    python -m pipeline.local_runner RUN_FOLDER

The command line starts this as a process of its own: it shows progress while TensorFlow still loads, TFX's and
Beam's logs go to the run's file, and an interrupt cannot leave half of it behind.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import pathlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core import errors, files, output
from core import settings as settings_module
from core.errors import UserError
from core.events import LastWord, emit
from core.exit_codes import FAILURE, OK, USER_ERROR
from core.workdir import Workdir
from engines import words as engine_words
from pipeline import inventory, nodes

if TYPE_CHECKING:
    from tfx import types
    from tfx.dsl.components.base import base_node
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.types.channel import OutputChannel

    from engines.session import Session
    from pipeline.pipeline import Places


def main(folder: pathlib.Path) -> int:
    """Runs what `RUN_FOLDER/request.json` asks for; writes `summary.json`. Returns an exit code."""
    output.prepare(forgiving=True)  # a log that is full is no reason to stop, and never the reason that is told
    _end_with_parent()
    try:
        request = json.loads((folder / "request.json").read_text())
        settings = settings_module.load(str(folder / "settings.yaml"))
        emit("status", text="loading TensorFlow and TFX")
        run(settings, Workdir(request["workdir"]), folder, request)
    except UserError as problem:
        LastWord.say(str(problem), user=True)
        return USER_ERROR
    except SystemExit:  # of Beam's argument parser
        LastWord.say("beam.pipeline_args: Beam refuses an option; the end of the run's log says which.", user=True)
        return USER_ERROR
    except Exception as problem:
        traceback.print_exc()
        if words := errors.words(problem, place=str(folder.parents[1])):
            LastWord.say(words, user=True)
            return USER_ERROR
        LastWord.say(engine_words.reason(problem), user=False)
        return FAILURE
    return OK


def run(settings: settings_module.Settings, workdir: Workdir, folder: pathlib.Path, request: dict) -> None:
    """Runs the pipeline, or a part of it, and writes what it produced into `folder`.

    Args:
        settings: of the run.
        workdir: where artifacts and metadata go.
        folder: of the run.
        request: "from" and "to" (node ids or None for all), "fresh", "data_version", "schema_version", "run".

    Raises:
        UserError: a mistake in data or settings. Anything else a component raised comes through as it is.
    """
    inventory.check(workdir.metadata, workdir.artifacts())
    # Paths are relative to the working directory, in ML Metadata as well and so in the keys of its cache: a directory
    # that is moved or copied keeps what is in it. Workers elsewhere need absolute ones.
    places = find_places(settings, workdir)
    with contextlib.chdir(workdir.path):
        _run(settings, workdir, places, folder, request)


def _run(
    settings: settings_module.Settings, workdir: Workdir, places: Places, folder: pathlib.Path, request: dict
) -> None:
    from tfx.orchestration import metadata
    from tfx.orchestration import pipeline as tfx_pipeline

    from components import decisions
    from engines.session import Session
    from pipeline import lineage
    from pipeline.pipeline import create_pipeline

    connection = metadata.sqlite_metadata_connection_config(str(workdir.metadata))
    base = prepare(connection, settings, workdir)
    places = dataclasses.replace(places, decided=decisions.stamp(places.push))
    pipeline = create_pipeline(
        settings,
        places,
        LocalHistory(places.push),
        request["data_version"],
        request["schema_version"],
        metadata_connection_config=connection,
        enable_cache=not request["fresh"],
    )
    options = None
    if request["from"] or request["to"]:
        first, last = ([request[key]] if request[key] else None for key in ("from", "to"))
        options = tfx_pipeline.RunOptions(from_nodes=first, to_nodes=last, base_pipeline_run_id=base)
    session = Session(settings.beam, workdir.path, request["run"], workdir.temporary, sys.stderr)
    with contextlib.closing(session), observed(session):
        try:
            _runner(request["run"], base).run(pipeline, run_options=options)
        except LookupError as problem:
            if not request["from"] or type(problem) is not LookupError:  # TFX raises no other of this very type
                raise
            with metadata.Metadata(connection) as handle:
                known = lineage.succeeded(handle.store, base) if base else set()
            missing, earlier = nodes.lacking(nodes.planned(settings), known, request["from"], request["to"])
            if base and missing:
                what = f"goes on from the last run, but that was without {', '.join(missing)}"
            else:
                what = "goes on from an earlier run, but there is none of this data"
            remedy = f"write --from {earlier}" if earlier and base else "run without --from first"
            raise UserError(f"--from {request['from']} {what}: {remedy}.") from None
    emit("status", text="reading the results")
    with metadata.Metadata(connection) as handle:
        summary = workdir.with_relative_paths(lineage.summarise(handle.store, request["run"]))
    files.replace(folder / "summary.json", json.dumps(summary))


def find_places(settings: settings_module.Settings, workdir: Workdir) -> Places:
    """Where a run keeps things, relative to the working directory where that serves."""
    from pipeline.pipeline import Places

    push = settings.push.destination or str(workdir.serving(settings.name))
    if not settings_module.is_remote(push):
        push = str(pathlib.Path(push).expanduser().resolve())
    form = workdir.absolute if settings.beam.elsewhere else workdir.relative
    return Places(
        root=form(str(workdir.artifacts(settings.name))),
        schema=form(str(workdir.schema(settings.name))),
        checkpoints=form(str(workdir.checkpoints)) if settings.training.checkpoint else "",
        push=form(push),
    )


def prepare(connection: object, settings: settings_module.Settings, workdir: Workdir) -> str | None:
    """Brings ML Metadata into accord with what is on the disk, and tells what was not.

    Returns:
        The id of the last run on these data, None if there is none.

    Raises:
        UserError: ML Metadata cannot read its file.
    """
    from ml_metadata import errors
    from tfx.orchestration import metadata

    from pipeline import lineage

    try:
        with metadata.Metadata(connection) as handle:
            lineage.tidy(handle.store, workdir.artifacts())
    except (RuntimeError, errors.StatusError) as problem:
        raise inventory.unusable(workdir.metadata, str(problem)) from None
    if inventory.number(workdir):
        text = f"{workdir.metadata} knows nothing of the artifacts that are there, so none of them is reused"
        emit("warning", text=text)
    with metadata.Metadata(connection) as handle:
        inventory.settle(handle.store, workdir, settings.beam.elsewhere)
        losses = inventory.look(handle.store, workdir)
        makers = {lineage.maker(handle.store, loss.artifact) for loss in losses}
        base = lineage.last_run(handle.store, f"alexnet-{settings.name}")
    if losses:
        names = ", ".join([name for name in nodes.NODES if name in makers] or makers)
        why = losses[0].what + (f", and {len(losses) - 1} more" if len(losses) > 1 else "")
        emit("warning", text=f"earlier results of {names} cannot be used ({why}); what is needed is made anew")
    return base


class LocalHistory:
    """What earlier runs left, found by resolvers in the metadata store."""

    def __init__(self, push: str) -> None:
        """Args:
        push: the folder of versions for servers; the newest there is the baseline.
        """
        self._push = {"push": push}

    def statistics(self, current: types.BaseChannel) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        from tfx.types.standard_artifacts import ExampleStatistics

        from components.previous import PreviousStatisticsStrategy

        return _resolver("PreviousStatistics", PreviousStatisticsStrategy, current, statistics=ExampleStatistics)

    def baseline(self, current: types.BaseChannel) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        from tfx.types.standard_artifacts import Model, ModelBlessing

        from components.previous import PreviousBlessedModelStrategy

        kinds = {"model": Model, "model_blessing": ModelBlessing}
        return _resolver("Baseline", PreviousBlessedModelStrategy, current, self._push, **kinds)

    def report(self, current: types.BaseChannel) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        from components.evaluation_report import Report
        from components.previous import PreviousReportStrategy

        return _resolver("PreviousReport", PreviousReportStrategy, current, report=Report)

    def latest(self) -> base_node.BaseNode:
        """See pipeline.pipeline.History."""
        from tfx.types.standard_artifacts import Model, ModelBlessing

        from components.previous import PreviousBlessedModelStrategy

        kinds = {"model": Model, "model_blessing": ModelBlessing}
        return _resolver("WarmStart", PreviousBlessedModelStrategy, None, self._push, **kinds)

    def keep(self, produced: OutputChannel, after: base_node.BaseNode) -> list[base_node.BaseNode]:
        """See pipeline.pipeline.History."""
        return []


def _resolver(
    node_id: str,
    strategy: type,
    current: types.BaseChannel | None,
    config: dict[str, Any] | None = None,
    **kinds: type,
) -> base_node.BaseNode:
    from tfx import types
    from tfx.dsl.components.common.resolver import Resolver

    channels: dict[str, Any] = {key: types.Channel(type=kind) for key, kind in kinds.items()}
    if current is not None:
        channels["current"] = current
    return Resolver(strategy_class=strategy, config=config, **channels).with_id(node_id)


def _runner(run_id: str, base: str | None) -> LocalDagRunner:
    """A LocalDagRunner under a run id of our own, so that the run's results can be found again.

    `base` is the run that a part goes on from. Of that the runner makes sure that it still has what the part needs.
    """
    from tfx.dsl.compiler import constants
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.portable import runtime_parameter_utils

    class Runner(LocalDagRunner):
        def run_with_ir(self, pipeline: Any, run_options: Any = None) -> None:
            # The stock runner fills in the time of day where no id is given yet.
            runtime_parameter_utils.substitute_runtime_parameter(
                pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
            )
            if run_options and base:
                _ensure_inputs(pipeline, run_options, base)
            super().run_with_ir(pipeline, run_options)

    return Runner()


def _ensure_inputs(pipeline: Any, options: Any, base: str) -> None:
    """Raises UserError if a part of the pipeline needs a result of the run `base` that is gone or damaged."""
    from ml_metadata.proto import metadata_store_pb2
    from tfx.orchestration import metadata
    from tfx.orchestration.local import runner_utils
    from tfx.orchestration.portable import partial_run_utils
    from tfx.proto.orchestration import pipeline_pb2

    from pipeline import lineage

    marked = type(pipeline)()
    marked.CopyFrom(pipeline)
    part = options.partial_run
    partial_run_utils.mark_pipeline(marked, from_nodes=part.from_nodes or None, to_nodes=part.to_nodes or None)
    found = [node.pipeline_node for node in marked.nodes]
    skipped = {node.node_info.id for node in found if node.execution_options.HasField("skip")}
    config = runner_utils.extract_local_deployment_config(pipeline).metadata_connection_config
    with metadata.Metadata(getattr(config, config.WhichOneof("connection_config"))) as handle:
        made = lineage.artifacts(handle.store, base)
    needs = [
        (node.node_info.id, channel.producer_node_query.id, channel.output_key)
        for node in found
        for given in node.inputs.inputs.values()
        for channel in given.channels
        if node.node_info.id not in skipped and channel.producer_node_query.id in skipped
    ]
    required = pipeline_pb2.NodeExecutionOptions.Skip.REQUIRED
    reused = {n.node_info.id for n in found if n.execution_options.skip.reuse_artifacts_mode == required}
    needs += [("the end of the run", node, key) for node, key in lineage.EVALUATED if node in reused]
    whole: set[int] = set()
    for who, node, key in needs:
        artifact = made.get(node, {}).get(key)
        if not artifact or artifact.id in whole:
            continue
        if artifact.state != metadata_store_pb2.Artifact.LIVE or inventory.damage(artifact):
            raise UserError(
                f"{who[0].upper()}{who[1:]} needs the output {key} of {node}, but that is gone from "
                f"{os.path.abspath(artifact.uri)} or damaged: run without --from to have it made anew."
            )
        whole.add(artifact.id)


@contextlib.contextmanager
def observed(session: Session) -> Iterator[None]:
    """Tells, while it lasts, of every node that LocalDagRunner launches, and has the files of its outputs recorded.

    Nodes on Beam get their options here and not with the pipeline, where they would count for the cache: how a node
    runs is not what it computes. LocalDagRunner itself has no callbacks.
    """
    from tfx.orchestration.local import local_dag_runner
    from tfx.orchestration.portable.beam_executor_operator import BeamExecutorOperator
    from tfx.proto.orchestration import placeholder_pb2

    module: Any = local_dag_runner.launcher  # whose class is another one while this lasts
    stock: Any = module.Launcher

    class Launcher(stock):
        executed = False

        def _run_executor(self, execution_info: Any) -> Any:
            self.executed = True
            output = self._run(execution_info)
            # Both become what is published: the executor's word, where it gave one, before the launcher's.
            made = [artifact.mlmd_artifact for some in execution_info.output_dict.values() for artifact in some]
            for artifact in (*made, *(one for some in output.output_artifacts.values() for one in some.artifacts)):
                inventory.record(artifact)
            return output

        def _run(self, execution_info: Any) -> Any:
            if not isinstance(operator := self._executor_operator, BeamExecutorOperator):
                return super()._run_executor(execution_info)
            operator.beam_pipeline_args = [
                placeholder_pb2.PlaceholderExpression(value={"string_value": text})
                for text in session.arguments(self._pipeline_node.node_info.id)
            ]
            try:
                return super()._run_executor(execution_info)
            except Exception as problem:
                if errors.words(problem) or not (sentence := session.explain(problem)):
                    raise
                traceback.print_exc()
                raise UserError(sentence) from problem

        def launch(self) -> object:
            node = self._pipeline_node.node_info.id
            start = time.monotonic()
            emit("node", node=node, state="running")
            try:
                info = super().launch()
            except BaseException:
                emit("node", node=node, state="failed", seconds=time.monotonic() - start)
                raise
            if not self.executed and not self._system_node_handler and not (info and info.output_dict):
                emit("node", node=node, state="failed", seconds=time.monotonic() - start)
                raise RuntimeError(f"{node} could not start: an input that it needs is not there")
            state = "done" if self.executed or self._system_node_handler else "cached"
            emit("node", node=node, state=state, seconds=time.monotonic() - start)
            return info

    module.Launcher = Launcher
    try:
        with _whole():
            yield
    finally:
        module.Launcher = stock


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Keeps, while it lasts, the cache and the resolvers of TFX from taking artifacts whose files were damaged.

    TFX itself looks no further than whether there is a folder.
    """
    from tfx.dsl.components.common import resolver
    from tfx.orchestration.portable import cache_utils, inputs_utils

    cache: Any = cache_utils  # each of them has a function that is another one while this lasts
    inputs: Any = inputs_utils
    cached, resolved = cache.get_cached_outputs, inputs.resolve_input_artifacts
    key = cache.get_cache_context
    kind = f"{resolver.Resolver.__module__}.{resolver.Resolver.__name__}"
    whole: set[int] = set()  # ids of artifacts that were looked at

    def discarded(handle: Any, found: Any) -> bool:
        """Whether something among these artifacts was damaged, which is marked as deleted then."""
        damaged = False
        for artifact in (artifact.mlmd_artifact for some in found.values() for artifact in some):
            if artifact.id in whole:
                continue
            if what := inventory.damage(artifact):
                damaged = True
                inventory.discard(handle.store, artifact.id)
                place = os.path.abspath(artifact.uri)
                emit("warning", text=f"{place} is damaged ({what}) and not reused; what is needed is made anew")
            else:
                whole.add(artifact.id)
        return damaged

    def get_cached_outputs(metadata_handle: Any, cache_context: Any) -> Any:
        while (found := cached(metadata_handle, cache_context)) is not None and discarded(metadata_handle, found):
            pass
        return found

    def resolve_input_artifacts(*, pipeline_node: Any, metadata_handle: Any) -> Any:
        found = resolved(pipeline_node=pipeline_node, metadata_handle=metadata_handle)
        if pipeline_node.node_info.type.name == kind:  # inputs of others are new, from the cache, or from resolvers
            while any(discarded(metadata_handle, one) for one in found):
                found = resolved(pipeline_node=pipeline_node, metadata_handle=metadata_handle)
        return found

    def get_cache_context(**given: Any) -> Any:
        """Without the working directory's own path, which is in what workers elsewhere are given, and its changes."""
        here = f"{os.getcwd()}/"
        found = given["input_artifacts"] = copy.deepcopy(given["input_artifacts"] or {})
        for artifact in (artifact.mlmd_artifact for some in found.values() for artifact in some):
            artifact.uri = artifact.uri.removeprefix(here)
            artifact.ClearField("last_update_time_since_epoch")
            for value in (*artifact.properties.values(), *artifact.custom_properties.values()):
                if value.HasField("string_value"):
                    value.string_value = value.string_value.replace(here, "")
        given["parameters"] = {
            name: value.replace(here, "") if isinstance(value, str) else value
            for name, value in (given["parameters"] or {}).items()
        }
        return key(**given)

    cache.get_cached_outputs, inputs.resolve_input_artifacts = get_cached_outputs, resolve_input_artifacts
    cache.get_cache_context = get_cache_context
    try:
        yield
    finally:
        cache.get_cached_outputs, inputs.resolve_input_artifacts = cached, resolved
        cache.get_cache_context = key


def _end_with_parent() -> None:
    """Ends this process when the command line that started it is gone, even by kill -9."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        if os.getpgrp() == os.getpid():  # with all that this one has started
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
