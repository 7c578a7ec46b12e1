"""The command line `alexnet`. Whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable

import click

from pipeline.errors import UserError
from pipeline.exit_codes import INTERRUPTED, USER_ERROR
from pipeline.workdir import DEFAULT, Workdir

EPILOG = """
Exit codes: 0 the model was pushed (or the part asked for ran); 1 something broke, the log says what; 2 a mistake
in arguments, settings or data; 3 it ran to the end, but the model did not pass its gates and was not pushed;
130 interrupted.
"""


class Commands(click.Group):
    """A group in which a user's mistake is one sentence and exit code 2."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except UserError as mistake:
            click.echo(f"alexnet: {mistake}", err=True)
            sys.exit(USER_ERROR)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def workdir_option(command: Callable) -> Callable:
    """Adds --workdir."""
    text = "Where runs, artifacts and pushed models are kept."
    return click.option("--workdir", default=DEFAULT, show_default=True, metavar="DIR", help=text)(command)


def format_option(command: Callable) -> Callable:
    """Adds --format, and --json for short."""
    forms = click.Choice(["table", "json", "csv"])
    short = click.option("--json", "form", flag_value="json", help="Short for --format json.")
    return click.option("--format", "form", type=forms, default="table", show_default=True)(short(command))


def settings_options(command: Callable) -> Callable:
    """Adds --preset and --set."""
    changes = click.option(
        "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. training.epochs=3."
    )
    preset = click.option(
        "--preset", default="shapes10", show_default=True, metavar="NAME", help="A preset, or a YAML file like one."
    )
    return preset(changes(command))


def write_csv(rows: list[dict]) -> None:
    """Writes rows of one form to standard output."""
    writer = csv.DictWriter(sys.stdout, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)


def flat(row: dict, features: list[str]) -> dict:
    """The row of a class or slice for CSV: a column for each feature and for each end of an interval."""
    made = dict(zip(features, row["values"], strict=True)) if "values" in row else {}
    for key, value in row.items():
        if key.endswith("_interval"):
            stem = key.removesuffix("_interval")
            made |= {f"{stem}_low": value[0], f"{stem}_high": value[1]}
        elif key == "compared":
            made |= {f"compared_{name}": number for name, number in (value or {}).items()}
        elif key != "values":
            made[key] = value
    return made


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file that the user asked for. Raises UserError."""
    import pathlib

    from pipeline import files

    try:
        files.replace(pathlib.Path(path), content)
    except OSError as problem:
        raise UserError(f"{path} cannot be written: {problem.strerror}.") from None


class Main(Commands):
    """`alexnet`; its group `kubeflow`, which builds on this module, is imported when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted([*super().list_commands(context), "kubeflow"])

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name == "kubeflow":
            from pipeline.kubeflow_cli import kubeflow

            return kubeflow
        return super().get_command(context, name)


@click.group(cls=Main, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="alexnet-pipeline")
def main() -> None:
    """Trains, judges and ships an AlexNet image classifier with a TFX pipeline."""


@main.command(epilog=EPILOG)
@settings_options
@click.option(
    "--data", metavar="SOURCE", help="A TensorFlow Datasets name, a CIFAR-10 archive, or a folder of images."
)
@click.option("--data-dir", metavar="DIR", help="Folder of prepared TensorFlow Datasets.")
@workdir_option
@click.option("--from", "first", metavar="NODE", help="Start with this node, on the results of the last run.")
@click.option("--to", "last", metavar="NODE", help="Stop after this node.")
@click.option("--fresh", is_flag=True, help="Reuse nothing of earlier runs.")
def run(
    preset: str,
    changes: tuple[str, ...],
    data: str | None,
    data_dir: str | None,
    workdir: str,
    first: str | None,
    last: str | None,
    fresh: bool,
) -> None:
    """Run the pipeline: ingest, check, train, evaluate, and push the model if it passes its gates."""
    import pathlib

    from rich.console import Console
    from rich.live import Live

    from pipeline import display, nodes, results, settings
    from pipeline import run as runner

    chosen = settings.load(preset, changes, **{"data.source": data, "data.data_dir": data_dir})
    if settings.looks_like_path(chosen.data.source) and not settings.is_remote(chosen.data.source):
        absolute = pathlib.Path(chosen.data.source).expanduser().resolve()
        if not absolute.exists():  # said at once, not when TensorFlow has loaded
            raise UserError(f"The data source {absolute} does not exist.")
        chosen = chosen.model_copy(update={"data": chosen.data.model_copy(update={"source": str(absolute)})})
    planned = nodes.planned(chosen)
    first = nodes.find(first, planned, "--from") if first else None
    last = nodes.find(last, planned, "--to") if last else None
    request = runner.Request(chosen, preset, first, last, fresh)
    console = Console(highlight=False)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=False) as live:
            code, found = runner.run(request, Workdir(workdir), lambda state, line: live.update(display.live(state)))
    else:
        code, found = runner.run(request, Workdir(workdir), lambda state, line: line and print(line, flush=True))
    display.summary(console, found)
    folder = Workdir(workdir).run(found["run"])
    console.print()
    if found["state"] == "interrupted":
        console.print("Interrupted; the next run continues where this one was.")
    elif found["state"] == "failed":
        if code == USER_ERROR:
            raise UserError(found["error"])
        click.echo(f"alexnet: {found['error']} (log: {folder / runner.LOG})", err=True)
    else:
        verdict = results.verdict(found)
        # As plain text: the name of a class may look like markup.
        console.print(f"{verdict[0].upper()}{verdict[1:]}.", style="bold", markup=False, soft_wrap=True)
        if found.get("pushed"):
            console.print(f"Model: {found['pushed']['path']}", soft_wrap=True, markup=False)
        if found.get("evaluation"):
            console.print(f"Report: {folder / 'report.html'}", soft_wrap=True, markup=False)
    console.print(
        f"Run {found['run']}: {found['seconds']:.0f} s, peak memory {found['peak_memory_mb'] / 1024:.1f} GiB; "
        f"results and log: {folder}",
        soft_wrap=True,
    )
    sys.exit(code)


@main.command()
@workdir_option
def runs(workdir: str) -> None:
    """List the runs that ended: date, preset, accuracy, pushed or why not."""
    from rich.console import Console

    from pipeline import display, results

    found = Workdir(workdir).results()[::-1]
    if not found:
        click.echo(f"No finished runs in {workdir} yet: start one with `alexnet run`.")
        return
    display.runs(Console(highlight=False), found, [results.verdict(result) for result in found])


@main.command()
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option("--compare", "other_id", metavar="RUN", help="Show the change since that run beside it.")
@click.option("--slice", "names", metavar="NAME[,NAME]", help="Other slices than the classes, e.g. brightness.")
@format_option
def slices(workdir: str, run_id: str | None, other_id: str | None, names: str | None, form: str) -> None:
    """Show the per-class results of a run, or those of other slices, worst first."""
    from pipeline import compare

    found = Workdir(workdir).find(run_id, evaluated=True)
    part = found["evaluation"]
    asked = [name.strip() for name in names.split(",")] if names else ["class_name"]
    chosen = None if asked == ["class_name"] else compare.find_slices(part, asked)
    features = chosen["features"] if chosen else asked
    other, how, changes = None, [], None
    if other_id:
        other = Workdir(workdir).find(other_id, evaluated=True)
        pairs, how = compare.meet(other, found)
        (corrected,) = compare.correct([compare.changes(other, found, pairs, features)])
        changes = {change.values: change for change in corrected}
    if form == "table":
        from rich.console import Console

        from pipeline import display

        display.slices(Console(highlight=False), found, chosen, other, how, changes)
        return
    # Results of before AUC was measured shall have the same columns.
    rows = (
        [dict(row) for row in chosen["rows"]]
        if chosen
        else [{**row, "auc": row.get("auc")} for row in part["classes"]]
    )
    for row in rows if other else []:
        change = changes.get(tuple(row["values"]) if chosen else (row["class_name"],))
        row["compared"] = change.record() if change else None
    keys = ("count", "accuracy", "accuracy_interval", "loss", "top_3_accuracy", "macro_f1", "calibration_error")
    record = {"run": found["run"], "overall": {key: part.get(key) for key in keys}}
    if other:
        record |= {"compared_with": other["run"], "how": how}
    kind = {"features": features, "slices": rows} if chosen else {"classes": rows}
    if form == "json":
        click.echo(json.dumps(record | kind, indent=1))
    else:
        write_csv([flat(row, features) for row in rows])


@main.command()
@click.argument("run_ids", nargs=-1, metavar="RUN RUN...")
@workdir_option
@click.option("--html", metavar="FILE", help="Write a page with all classes as well.")
@format_option
def compare(run_ids: tuple[str, ...], workdir: str, html: str | None, form: str) -> None:
    """Say which classes got better or worse than in the first of these runs, beyond chance."""
    from pipeline import compare

    if len(run_ids) < 2:
        raise UserError("Name two runs or more, the one to compare with first: alexnet compare RUN RUN.")
    runs = [Workdir(workdir).find(run_id, evaluated=True) for run_id in run_ids]
    found = compare.compare(runs)
    if html:
        write(html, compare.page(runs, found))
    if form == "json":
        click.echo(json.dumps({"comparisons": [part.record() for part in found]}, indent=1))
    elif form == "csv":
        write_csv([row for part in found for row in part.rows()])
    else:
        from rich.console import Console

        from pipeline import display

        display.comparison(Console(highlight=False), found)


@main.command()
@workdir_option
@click.option("--name", metavar="DATA", help="The data, as results are filed; those of the latest run if not given.")
@click.option("--png", metavar="FILE", help="Draw it as PNG.")
@click.option("--svg", metavar="FILE", help="Draw it as SVG.")
@click.option("--html", metavar="FILE", help="Write a page with all evaluations and classes.")
@format_option
def history(workdir: str, name: str | None, png: str | None, svg: str | None, html: str | None, form: str) -> None:
    """Show accuracy and every class over all evaluations of the same data, oldest first."""
    from pipeline import history

    name, pasts = history.collect(Workdir(workdir).results(), name)
    if png or svg:
        from pipeline import figures

        for path, kind in ((png, "png"), (svg, "svg")):
            if path:
                write(path, figures.save(figures.draw_history(pasts), kind))
    if html:
        write(html, history.page(name, pasts))
    if form == "json":
        click.echo(json.dumps(history.record(name, pasts), indent=1))
    elif form == "csv":
        write_csv(history.rows(pasts))
    else:
        from rich.console import Console

        from pipeline import display

        display.history(Console(highlight=False), name, pasts)


@main.command()
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option(
    "--output", required=True, metavar="DIR", help="Where the files go; files of the same names are replaced."
)
def figures(workdir: str, run_id: str | None, output: str) -> None:
    """Draw a run for papers and READMEs, as PNG and SVG: curves, confusion matrix, mistakes, reliability, classes."""
    import pathlib

    from pipeline import figures

    place, folder = Workdir(workdir), pathlib.Path(output)
    found = place.find(run_id, evaluated=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"--output {output}: {problem.strerror}; name a folder.") from None
    made, missing = figures.draw(place, found)
    for name, figure in made.items():
        for kind in figures.KINDS:
            path = folder / f"{name}.{kind}"
            write(path, figures.save(figure, kind))
            click.echo(path)
    for name, why in missing.items():
        click.echo(f"Left out {name}: {why}.", err=True)


@main.command()
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest search if not given.")
@click.option("--output", metavar="FILE", help="Write the best recipe as a preset, for alexnet run --preset FILE.")
@format_option
def trials(workdir: str, run_id: str | None, output: str | None, form: str) -> None:
    """Show what the search of a run (tuner.trials) tried, the best first, or store what it found as a preset."""
    place = Workdir(workdir)
    searches = [result for result in place.results() if result.get("tuning")]
    if not (searches or run_id):
        raise UserError(f"{place.path} holds no search yet: start one with `alexnet run --set tuner.trials=8`.")
    found = place.find(run_id) if run_id else searches[-1]
    if not found.get("tuning"):
        raise UserError(f"Run {found['run']} made no search: it ran without tuner.trials.")
    if output:
        from pipeline import settings

        stored = place.run(found["run"]) / "settings.yaml"
        best = found["tuning"][0]
        text = settings.dump(settings.load(str(stored), ["tuner.trials=null"], **best["values"]))
        write(output, f"# Validation accuracy {best['accuracy']:.2%} in the search of run {found['run']}\n{text}")
    if form == "json":
        click.echo(json.dumps({"run": found["run"], "trials": found["tuning"]}, indent=1))
    elif form == "csv":
        write_csv(
            [{key: row[key] for key in ("trial", "accuracy", "epochs")} | row["values"] for row in found["tuning"]]
        )
    else:
        from rich.console import Console

        from pipeline import display

        display.trials(Console(highlight=False), found)
        if output:
            click.echo(f"Preset: {output}")


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help="Classes to name.")
@click.option("--html", metavar="FILE", help="Write a page of the pictures with their predictions as well.")
@click.option("--model", metavar="DIR", help="A pushed model, also s3://...; the latest of the workdir if not given.")
@workdir_option
@format_option
def predict(images: tuple[str, ...], top: int, html: str | None, model: str | None, workdir: str, form: str) -> None:
    """Say what is in image files, and in all image files below folders.

    Files in a folder with the name of a class are told right from wrong.

    JSON is a list of {"path", "true_class_name" or null, "class_name", "probability", "top": [{"class_name",
    "probability"}, ...]}. Files that cannot be read are named on standard error; then the exit code is 2.
    """
    import pathlib

    place = Workdir(workdir)
    chosen = place.model(model) if model else place.latest_push()
    if html and not pathlib.Path(html).absolute().parent.is_dir():  # said at once, not when all is done
        raise UserError(f"--html {html}: there is no such folder.")
    from pipeline import predict_output

    unreadable, page = predict_output.run(images, chosen, top, form, bool(html))
    if html:
        write(html, page)
        click.echo(f"Pictures: {html}", err=form != "table")
    for file in unreadable:
        click.echo(f"alexnet: {predict_output.plain(file.sentence)}", err=True)
    if unreadable:
        sys.exit(USER_ERROR)


@main.command()
@workdir_option
@click.option("--run", "run_id", metavar="ID", help="A run's id or its beginning; the latest if not given.")
@click.option("--output", metavar="FILE", help="Copy the page there; a name that ends in .json takes the data.")
@click.option("--open", "opened", is_flag=True, help="Show it in the browser.")
@click.option("--schema", is_flag=True, help="Print the form of report.json as JSON Schema, and nothing else.")
def report(workdir: str, run_id: str | None, output: str | None, opened: bool, schema: bool) -> None:
    """Find the report of a run, or make it: one HTML file with everything about its evaluation."""
    import pathlib
    import shutil

    from pipeline import report as reports

    if schema:
        click.echo(json.dumps(reports.schema.Report.model_json_schema(), indent=1))
        return
    place = Workdir(workdir)
    path = reports.find(place, place.find(run_id, evaluated=True))
    if output:
        target = pathlib.Path(output).expanduser()
        try:
            shutil.copyfile(path.with_suffix(target.suffix) if target.suffix == ".json" else path, target)
        except (OSError, shutil.SameFileError) as problem:
            raise UserError(f"--output {output}: {getattr(problem, 'strerror', None) or problem}.") from None
        path = target.resolve()
    click.echo(path)
    if opened and click.launch(str(path)):
        raise UserError(f"No browser could be started: open {path} in one.")


@main.command()
def presets() -> None:
    """List the presets."""
    from pipeline import settings

    for name, text in settings.presets().items():
        click.echo(f"{name:<12} {text}")


@main.command()
@settings_options
def config(preset: str, changes: tuple[str, ...]) -> None:
    """Print the full effective settings, as YAML that --preset reads back."""
    from pipeline import settings

    click.echo(settings.dump(settings.load(preset, changes)), nl=False)


if __name__ == "__main__":
    main()
