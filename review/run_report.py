"""The report of a run: what EvaluationReport wrote, completed with what only the end of the run tells."""

from __future__ import annotations

import json
import pathlib
import zipfile
import zlib
from collections.abc import Mapping

import pydantic

from core import errors, files, settings
from core.errors import UserError
from core.workdir import Workdir
from review import results
from review.report import build, schema


class Damaged(UserError):
    """A file of a report that can be read, but not understood."""


def write(workdir: Workdir, found: Mapping) -> pathlib.Path | None:
    """Writes report.json, images.zip, report.html and model_card.md into the folder of a run.

    Args:
        workdir: where the run is.
        found: its results.

    Returns:
        The path of report.html; None if the run did not reach Evaluator.
    """
    if not found.get("evaluation"):
        return None
    return _write(workdir, found)


def _write(workdir: Workdir, found: Mapping) -> pathlib.Path:
    return _store(workdir, found, *load(workdir, found))


def _store(workdir: Workdir, found: Mapping, report: schema.Report, pictures: Mapping[str, bytes]) -> pathlib.Path:
    from review.report import card  # slow to import, and not needed to find a report

    folder = workdir.run(found["run"])
    report = with_paths_of(report, workdir.with_relative_paths(found))
    files.replace(folder / build.REPORT, build.to_json(report))
    files.replace(folder / build.PICTURES, build.zipped(pictures))
    files.replace(folder / build.CARD, card.markdown(report))
    files.replace(folder / build.PAGE, render(report, pictures))
    return folder / build.PAGE


def decide(workdir: Workdir, found: Mapping) -> None:
    """Writes report and results of an evaluated run anew, after somebody has decided about its model.

    The results come last: as long as they do not tell of the decision, it is known that this has to be done.

    Args:
        workdir: where the run is.
        found: its results with `decisions`, a list of `schema.Decision` as dicts, and what follows from them.

    Raises:
        UserError: the report is damaged, and so is what it would be made of; the results are written.
    """
    problem = None
    try:
        _write(workdir, found)
    except UserError as error:
        problem = error
    path = workdir.run(found["run"]) / "results.json"
    files.replace(path, json.dumps(workdir.with_relative_paths(found)))
    if problem:
        raise problem


def add_corruptions(workdir: Workdir, found: Mapping, made: schema.Corruptions, picture: bytes) -> None:
    """Writes the report of a run with what was measured of harmed examples later.

    Args:
        workdir: where the run is.
        found: its results.
        made: what was measured; its `picture` names the file.
        picture: the content of that file.
    """
    report, pictures = load(workdir, found)
    part = report.evaluation.model_copy(update={"corruptions": made})
    _store(workdir, found, report.model_copy(update={"evaluation": part}), {**pictures, made.picture or "": picture})


def find(workdir: Workdir, found: Mapping, name: str = build.PAGE) -> pathlib.Path:
    """The path of an evaluated run's report.html or report.json, written now if it is not there as a whole."""
    path = workdir.run(found["run"]) / name
    return path if _whole(path) else _write(workdir, found).with_name(name)


def _whole(path: pathlib.Path) -> bool:
    """Whether a page or data are there, and not cut off."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return False
    if path.name == build.PAGE:
        return content.rstrip().endswith(b"</html>")
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False


def load(workdir: Workdir, found: Mapping) -> tuple[schema.Report, dict[str, bytes]]:
    """The report of a run and its pictures by file name, from the run's folder or, where that does not do, made anew.

    Paths in it are those of the results, which are absolute.

    Raises:
        UserError: a file cannot be read, or what it would be made of is damaged as well.
    """
    folder = workdir.run(found["run"])
    if not (folder / build.REPORT).is_file():
        return gather(workdir, found)
    try:
        return with_paths_of(parse(folder / build.REPORT), found), unpack(folder / build.PICTURES)
    except Damaged:
        return gather(workdir, found)


def with_paths_of(report: schema.Report, found: Mapping) -> schema.Report:
    """The same with the paths that the results of the run have."""
    changes: dict[str, object] = {
        "evaluation": report.evaluation.model_copy(update={"path": found["evaluation"]["path"]})
    }
    if report.run and found.get("pushed"):
        changes["run"] = report.run.model_copy(update={"pushed": found["pushed"]["path"]})
    if "decisions" in found:
        changes["decisions"] = [schema.Decision(**made) for made in found["decisions"]]
        changes["verdict"] = _verdict(found, report.verdict)
    if found.get("lineage"):
        changes["lineage"] = [schema.Artifact(**artifact) for artifact in found["lineage"]]
    return report.model_copy(update=changes)


def gather(workdir: Workdir, found: Mapping) -> tuple[schema.Report, dict[str, bytes]]:
    """The report of a run that ended, and its pictures by file name.

    Where EvaluationReport did not run, or its files are gone, it has what the results tell.
    """
    folder = pathlib.Path(found.get("report") or "")
    if found.get("report") and (folder / build.REPORT).is_file():
        report, pictures = parse(folder / build.REPORT), unpack(folder / build.PICTURES)
    else:
        report, pictures = from_results(workdir, found), {}
    pushed = found.get("pushed")
    run = schema.Run(
        id=found["run"],
        preset=found["preset"],
        started=found["started"],
        seconds=found["seconds"],
        pushed=pushed["path"] if pushed else None,
        nodes=[schema.Node(name=name, **node) for name, node in found["nodes"].items()],
    )
    changes = {"run": run, "verdict": _verdict(found, report.verdict)}
    return with_paths_of(report.model_copy(update=changes), found), pictures


def _verdict(found: Mapping, otherwise: schema.Verdict) -> schema.Verdict:
    """That of the results of a run, if it came so far."""
    if found["state"] not in ("pushed", "not pushed", "waiting"):
        return otherwise
    return schema.Verdict(state=found["state"], sentence=results.verdict(found))


def from_results(workdir: Workdir, found: Mapping) -> schema.Report:
    """A report from the results of a run alone: without pictures, and with what older results lack left out."""
    stored = workdir.run(found["run"]) / "settings.yaml"
    chosen = settings.load(str(stored)) if stored.is_file() else None
    part = schema.Evaluation(**found["evaluation"])
    cleared = part.blessed and not (found.get("serving_check") or {}).get("problems")
    state = "cleared" if cleared else "not pushed"
    data = found.get("data")
    past = schema.Past(
        run=found["run"],
        made=found["started"],
        count=part.count,
        accuracy=part.accuracy,
        recalls={row.class_name: row.recall for row in part.classes},
        blessed=part.blessed,
    )
    return schema.Report(
        name=found["name"],
        made=found["started"],
        verdict=schema.Verdict(state=state, sentence=results.verdict({**found, "state": state})),
        model=f"AlexNet, preset {found['preset']}",
        evaluation=part,
        data=schema.Data(**{key: data[key] for key in schema.Data.model_fields if key in data}) if data else None,
        training=(found.get("history") or {}).get("epochs", []),
        serving=found.get("serving_check"),
        history=[past],
        settings=chosen.model_dump(mode="json") if chosen else {},
    )


def render(report: schema.Report, pictures: Mapping[str, bytes]) -> str:
    """The report as a page, with the model card."""
    from review.report import card, page

    return page.render(report, pictures, card.html(report))


def unpack(path: pathlib.Path) -> dict[str, bytes]:
    """The pictures in a file, none if it is not there. Raises UserError if it cannot be read, Damaged among them."""
    try:
        return build.unzipped(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as problem:
        raise UserError(errors.sentence(problem, path, "read")) from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise Damaged(f"{path} is damaged ({problem}): remove it, or run the pipeline again.") from None


def parse(path: pathlib.Path) -> schema.Report:
    """The report in a file. Raises UserError if it cannot be read, Damaged if it has another form."""
    try:
        return schema.Report.model_validate_json(path.read_bytes())
    except OSError as problem:
        raise UserError(errors.sentence(problem, path, "read")) from None
    except pydantic.ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise Damaged(
            f"{path} is no report of this version ({where}: {first['msg']}): run the pipeline again."
        ) from None
