"""The command line `alexnet`. Whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

import csv
import json
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


def settings_options(command: Callable) -> Callable:
    """Adds --preset and --set."""
    changes = click.option(
        "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. training.epochs=3."
    )
    preset = click.option(
        "--preset", default="shapes10", show_default=True, metavar="NAME", help="A preset, or a YAML file like one."
    )
    return preset(changes(command))


@click.group(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
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
    if settings.looks_like_path(chosen.data.source):
        absolute = pathlib.Path(chosen.data.source).expanduser().resolve()
        if not absolute.exists():  # said at once, not when TensorFlow has loaded
            raise UserError(f"The data source {absolute} does not exist.")
        chosen = chosen.model_copy(update={"data": chosen.data.model_copy(update={"source": str(absolute)})})
    planned = nodes.planned(chosen.training.warm_start)
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
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def slices(workdir: str, run_id: str | None, form: str) -> None:
    """Show the per-class results of a run, worst class first."""

    found = Workdir(workdir).find(run_id, evaluated=True)
    part = found["evaluation"]
    if form == "json":
        overall = {key: part[key] for key in ("count", "accuracy", "accuracy_interval", "loss", "top_3_accuracy")}
        click.echo(json.dumps({"run": found["run"], "overall": overall, "classes": part["classes"]}, indent=1))
    elif form == "csv":
        keys = [key for key in part["classes"][0] if key != "recall_interval"]
        writer = csv.DictWriter(sys.stdout, [*keys, "recall_low", "recall_high"], extrasaction="ignore")
        writer.writeheader()
        for row in part["classes"]:
            low, high = row["recall_interval"]
            writer.writerow({**row, "recall_low": low, "recall_high": high})
    else:
        from rich.console import Console
        from rich.padding import Padding

        from pipeline import display

        console = Console(highlight=False)
        console.print(
            f"Run {found['run']} ({found['preset']}): test accuracy {part['accuracy']:.2%}, n={part['count']:,}"
        )
        table = display.class_table(part["classes"], part["baseline_accuracy"] is not None)
        console.print(Padding(table, (1, 0)))
        display.gate_lines(console, part["gates"])


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", metavar="DIR", help="A pushed model; the latest one of the working directory if not given.")
@workdir_option
def predict(images: tuple[str, ...], model: str | None, workdir: str) -> None:
    """Say what is in image files."""
    import pathlib

    from pipeline import predict as predictor

    chosen = pathlib.Path(model) if model else Workdir(workdir).latest_push()
    width = max(map(len, images))
    for row in predictor.predict(images, chosen):
        click.echo(f"{row['path']:<{width}}  {row['class_name']}  {row['probability']:.1%}")


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
