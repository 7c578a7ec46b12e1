"""Decisions about what serves, as far as a working directory has to do with them: which folder, and whose reports."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from components import decisions, pushing
from core import errors, files, settings
from core.errors import UserError
from core.workdir import Workdir
from review import run_report
from review.report import build
from storage import schemes


def destination(workdir: Workdir, name: str | None = None, given: str | None = None) -> str:
    """The folder that servers watch.

    Args:
        workdir: of the runs that push there.
        name: of the data; None for those of the latest run.
        given: the folder itself, as the user wrote it.

    Raises:
        UserError: nothing tells of one.
    """
    if given and schemes.is_uri(given):
        return given.rstrip("/")
    if given:
        folder = files.folder(given, "--destination")
        if not folder.is_dir():
            raise UserError(f"--destination {folder}: there is no such folder; correct the path.")
        return str(folder)
    found = [result for result in workdir.results() if name in (None, result["name"])]
    if found:
        return of_run(workdir, found[-1])
    if name and workdir.serving(name).is_dir():
        return str(workdir.serving(name))
    if name:
        known = ", ".join(sorted({result["name"] for result in workdir.results()})) or "none"
        raise UserError(f"--name {name}: no run in {workdir.path} is of these data; those of its runs are {known}.")
    raise UserError(
        f"{workdir.path} holds no finished run yet: start one with `alexnet run`, or name the folder of the pushed "
        "models with --destination."
    )


def of_run(workdir: Workdir, found: Mapping[str, Any]) -> str:
    """The folder that a run pushes to."""
    stored = workdir.run(found["run"]) / "settings.yaml"
    chosen = None
    with contextlib.suppress(OSError, UserError, yaml.YAMLError):
        chosen = settings.load(str(stored)).push.destination
    return chosen.rstrip("/") if chosen else str(workdir.serving(found["name"]))


def refresh(workdir: Workdir, base: str, tell: Callable[[str], object]) -> None:
    """Lets results and reports of the runs that push to a folder say what was decided about their models.

    Args:
        workdir: of the runs.
        base: the folder.
        tell: called with a sentence about a report that could not be written.
    """
    entries = decisions.log(base)
    if not any(entry.get("kind") in decisions.BY_PEOPLE for entry in entries):
        return
    for found in workdir.results():
        version = (found.get("pushed") or {}).get("version")
        waiting = (found.get("waiting") or {}).get("path", "").rpartition("/")[2] or None
        made = [one.model_dump() for one in decisions.of_run(entries, found["run"], version, waiting)]
        if not made or not found.get("evaluation") or of_run(workdir, found) != base:
            continue
        changed = {**found, "decisions": made, **_outcome(base, made)}
        if changed == found:
            continue
        try:
            run_report.decide(workdir, changed)
        except UserError as problem:
            tell(f"The report of run {found['run']} does not tell of the decision: {problem}")
        except OSError as problem:
            tell(errors.sentence(problem, problem.filename, "written"))


def _outcome(base: str, made: list[dict[str, Any]]) -> dict[str, Any]:
    """What became of a run by the decisions about its model."""
    versions = [one["version"] for one in made if one["version"] and one["kind"] in decisions.MADE_VERSIONS]
    if versions:
        pushed = {"path": f"{base.rstrip('/')}/{versions[-1]}", "version": versions[-1]}
        return {"state": "pushed", "pushed": pushed}
    if made[-1]["kind"] == decisions.REJECTED:
        return {"state": "not pushed", "pushed": None}
    return {}


def run_named(workdir: Workdir, run: str, given: str | None) -> tuple[str, str]:
    """The whole id of a run, and the folder that it pushes to.

    Args:
        workdir: of the run.
        run: its id, or the beginning of it.
        given: the folder, as the user wrote it; then the run may be one of another machine, or of Kubeflow.

    Raises:
        UserError: there is no such run.
    """
    if given:
        return run, destination(workdir, given=given)
    found = workdir.find(run)
    record = None
    if place := (found.get("waiting") or {}).get("path"):
        with pushing.told():
            record = pushing.read(place)
    # The model may wait for an earlier run, from whose Pusher this one took it through the cache.
    return (record or {}).get("run") or found["run"], of_run(workdir, found)


def push(workdir: Workdir, run: str, against: tuple[str, ...], by: str, reason: str) -> tuple[decisions.Entry, str]:
    """Pushes the model of a run by hand: see `decisions.push_by_hand`. Returns its entry, and the folder.

    Raises:
        UserError: the run was not evaluated, or its model is gone or damaged.
    """
    found = workdir.find(run, evaluated=True)
    model = found.get("model")
    if not model or not pathlib.Path(model, "saved_model.pb").is_file():
        raise UserError(f"The model of run {found['run']} is no longer in {model}: run it again.")
    if what := _damage(workdir, model):
        raise UserError(f"The model of run {found['run']} is damaged ({what}): run it again.")
    problems = (found.get("serving_check") or {}).get("problems") or ()
    facts = pushing.Facts.of(found["run"], found["name"], found["evaluation"], problems)
    card = workdir.run(found["run"]) / build.CARD
    content = card.read_bytes() if card.is_file() else None
    base = of_run(workdir, found)
    return decisions.push_by_hand(base, model, facts, content, against, by, reason, ensure_serves), base


def _damage(workdir: Workdir, model: str) -> str | None:
    """What is wrong with the files of a model, in words, by what ML Metadata knows of them."""
    from tfx.orchestration import metadata

    from pipeline import inventory

    if not workdir.metadata.is_file():
        return None
    place = str(pathlib.Path(model).parent)
    with metadata.Metadata(metadata.sqlite_metadata_connection_config(str(workdir.metadata))) as handle:
        known = [
            found for uri in (place, workdir.relative(place)) for found in handle.store.get_artifacts_by_uri(uri)
        ]
    for artifact in known:
        artifact.uri = place
        if what := inventory.damage(artifact):
            return what
    return None


def ensure_serves(model: str) -> None:
    """Raises UserError unless a model loads in a fresh process and answers, as ServingCheck asks for."""
    import numpy as np
    import tensorflow as tf

    from components import serving_check

    example = tf.train.Example()
    grey = tf.io.encode_png(np.full([32, 32, 3], 127, np.uint8))
    example.features.feature["image"].bytes_list.value.append(grey.numpy())
    requests = serving_check.make_requests([example.SerializeToString()])
    # An example of these data would need their other features.
    result, problems = serving_check.run_probe(model, {**requests, "examples": {}})
    if result:
        problems += serving_check.judge(result, float("inf"))
    if problems:
        raise UserError(f"The model was not taken, for it does not serve: {problems[0]}.")


def lines(entry: Mapping[str, Any], base: str) -> str:
    """What a decision did, for people."""
    who = f"by {entry['by']}: {entry['reason']}"
    again = "was already " if entry.get("again") else ""
    if entry["kind"] == decisions.REJECTED:
        return f"Run {entry['run']} {again}rejected {who}"
    version = f"version {entry['version']} in {base}"
    if entry["kind"] == decisions.APPROVED:
        return f"Run {entry['run']} {again}approved {who}\nIts model serves as {version}."
    if entry["kind"] == decisions.ROLLED_BACK:
        return (
            f"{again.capitalize() or 'Rolled '}{'rolled ' if again else ''}back from version {entry['served']} to "
            f"version {entry['of']} {who}\n"
            f"Its model serves as {version}, and is the baseline of the next run."
        )
    against = f" against {', '.join(entry['against'])}" if entry.get("against") else ""
    return f"Run {entry['run']} pushed by hand{against} {who}\nIts model serves as {version}."
