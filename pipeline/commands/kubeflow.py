"""The commands `alexnet kubeflow`. Whatever is slow to import is imported by the command that needs it."""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable, Iterator

import click

from core import files
from core.errors import UserError
from core.exit_codes import FAILURE
from core.text import plain
from pipeline.commands.common import Commands, settings_options, show, write
from pipeline.commands.kubeflow_options import (
    CONTEXT,
    compiled,
    connection_options,
    package_options,
    read_package,
    read_parameters,
)

if typing.TYPE_CHECKING:
    from kubeflow import client as kfp

INGEST = "ImageExampleGen"
REPORTERS = ("EvaluationReport", "ShowReport")  # a folder; and the page of its own that Kubeflow shows
PAGE = "system.HTML"
RUNS = 10

EPILOG = """
The server is named by --host or KF_PIPELINES_ENDPOINT; in a pod of the cluster, or with a kubeconfig, it is found
without. A token is read from the file that --token-file or KF_PIPELINES_SA_TOKEN_PATH names, or from
KFP_EXISTING_TOKEN.

Exit codes: 0 done; 1 the run that was waited for did not succeed; 2 a mistake in arguments or settings, or the server
cannot be reached or refuses, with a sentence that says why; 130 interrupted.
"""

DOCTOR_EPILOG = """
The server is found as by the other commands, Kubernetes by KUBECONFIG or ~/.kube/config, or from within a pod.

Exit codes: 0 nothing is missing, as far as it could be seen; 1 something is missing; 2 a mistake in arguments or
settings, or neither Kubeflow Pipelines nor Kubernetes could be asked; 130 interrupted.
"""


@click.group("kubeflow", cls=Commands, epilog=EPILOG)
def command() -> None:
    """Run and schedule the pipeline on Kubeflow Pipelines (2.5 or later)."""


@command.command()
@settings_options
@click.option("--image", metavar="IMAGE@DIGEST", help="The image of the containers.")
@click.option("--output", metavar="FILE", help="Where the YAML goes; standard output if not given.")
def compile(preset: str, changes: tuple[str, ...], image: str | None, output: str | None) -> None:
    """Write the pipeline as YAML for Kubeflow Pipelines; the same settings give the same bytes."""
    if output and not output.endswith((".yaml", ".yml")):
        raise UserError(f"--output {output}: the name must end in .yaml, or the server refuses the file.")
    text = compiled(preset, changes, image)
    if output:
        write(output, text)
        click.echo(output, err=files.special(output))
    else:
        click.echo(text, nl=False)


@command.command(epilog=EPILOG)
@package_options
@connection_options
@click.option("--name", help="Of the run; that of the pipeline with date and time if not given.")
@click.option("--wait", is_flag=True, help="Tell of the nodes until the run has ended.")
@click.option(
    "--poll", type=click.FloatRange(0), default=10, show_default=True, metavar="SECONDS", help="Between two looks."
)
def submit(
    connect: Callable[[], kfp.Client],
    experiment: str,
    name: str | None,
    wait: bool,
    poll: float,
    pipeline_root: str | None,
    service_account: str | None,
    values: tuple[str, ...],
    **source: typing.Any,
) -> None:
    """Upload the pipeline if it has changed, and run it once."""
    import datetime

    from kubeflow.package import check_parameters

    package = read_package(**source)
    parameters = read_parameters(package, values)
    check_parameters(package, parameters)
    found = connect()
    version = _upload(found, package)
    name = name or f"{package.name} {datetime.datetime.now():%Y-%m-%d %H:%M}"
    run_id = found.run(version, experiment, name, parameters, pipeline_root, service_account)
    click.echo(f"Started run {run_id}: {found.url(run_id)}")
    if wait:
        reasons: list[str] = []
        try:
            run = found.wait(run_id, _tell, poll, warn=functools.partial(_warn, reasons))
        except KeyboardInterrupt:
            click.echo("No longer waiting; the run goes on.", err=True)
            raise
        click.echo(f"Run {run.id}: {run.state}.")
        if run.state != "succeeded":
            why = run.error or (reasons[0] if reasons else "the run did not succeed")
            click.echo(f"alexnet: {why} (log: alexnet kubeflow logs {run.id})", err=True)
            sys.exit(FAILURE)


@command.command(epilog=DOCTOR_EPILOG)
@package_options
@connection_options
@click.option(
    "--output", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For whom."
)
def doctor(
    connect: Callable[[], kfp.Client],
    experiment: str,
    form: str,
    pipeline_root: str | None,
    service_account: str | None,
    values: tuple[str, ...],
    **source: typing.Any,
) -> None:
    """Look at what the pipeline needs of server, cluster and stores, and at what holds up the latest run.

    Takes what `submit` takes. One line each: fine, missing (a run would fail or hang), unknown (it could not be
    seen), or a note; below it, how to mend it. Nothing is changed in the cluster. Below each folder of an object
    store that the pipeline writes to, small objects are written, read and deleted, with this shell's credentials.
    """
    import dataclasses
    import json

    from kubeflow import doctor as doctors
    from kubeflow.package import check_parameters

    package = read_package(**source)
    parameters = read_parameters(package, values)
    check_parameters(package, parameters)
    needs = doctors.read_needs(package.text, parameters)
    context = click.get_current_context().meta[CONTEXT]
    found = []
    unasked = None
    try:
        for one in doctors.examine(needs, connect, service_account, context, experiment):
            found.append(one)
            if form == "text":
                show(one)
    except doctors.Unasked as problem:
        unasked = problem
    if form == "json":
        click.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=2, ensure_ascii=False))
    if unasked:
        raise unasked
    if any(one.state == doctors.MISSING for one in found):
        sys.exit(FAILURE)


@command.command(epilog=EPILOG)
@package_options
@connection_options
@click.option("--cron", "expression", required=True, metavar="'S M H D M W'", help="When: six fields, seconds first.")
@click.option("--timezone", default="UTC", show_default=True, metavar="ZONE", help="The one the server reads it in.")
@click.option("--name", help="Of the schedule; that of the pipeline if not given.")
@click.option(
    "--max-concurrency", type=click.IntRange(1, 10), default=1, show_default=True, help="Runs at the same time."
)
@click.option("--start", metavar="TIME", help="No run before it, e.g. 2026-12-31 or 2026-12-31T03:00.")
@click.option("--end", metavar="TIME", help="No run after it.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the times, but do nothing.")
def schedule(
    connect: Callable[[], kfp.Client],
    experiment: str,
    expression: str,
    timezone: str,
    name: str | None,
    max_concurrency: int,
    start: str | None,
    end: str | None,
    dry_run: bool,
    pipeline_root: str | None,
    service_account: str | None,
    values: tuple[str, ...],
    **source: typing.Any,
) -> None:
    """Run the pipeline again and again; calling it again changes the schedule, or nothing.

    The six fields are second, minute, hour, day of month, month, day of week: '0 0 3 * * 0' is every Sunday at three.
    Kubeflow Pipelines has one time zone for all schedules, CRON_SCHEDULE_TIMEZONE of its scheduler, and does not tell
    which: name it with --timezone if it is not UTC. Of times that were missed, only the last is made up for.

    Each run reads the data anew: its report names their fingerprint, when they were read and, with Kubeflow
    Pipelines 2.17 or later, when the run was due.
    """
    import datetime

    from kubeflow import cron, options, schedules
    from kubeflow.package import check_parameters

    try:
        zone, wanted = cron.zone(timezone), cron.parse(expression)
        first, last = (cron.moment(text, zone) if text else None for text in (start, end))
        times = cron.upcoming(wanted, zone, datetime.datetime.now(datetime.UTC), first, last)
    except cron.CronError as problem:
        raise UserError(str(problem)) from None
    package = read_package(**source)
    name = name or package.name
    if INGEST in package.cached:
        raise UserError(
            f"A scheduled run would take the first one's data, as {INGEST} may be cached: leave out "
            f"kubeflow.nodes.{INGEST}.cache."
        )
    parameters = read_parameters(package, values)
    check_parameters(package, parameters)
    click.echo(f"Schedule {name} ({wanted.text}) runs next on")
    for time in times:
        click.echo(f"  {cron.words(time)}")
    if timezone != "UTC":
        click.echo(f"This holds if the server's scheduler has CRON_SCHEDULE_TIMEZONE={timezone}; it does not tell.")
    if dry_run:
        click.echo("Nothing was done: this was a dry run.")
        return
    found = connect()
    version = found.server().version
    if options.DUE in package.facts and version and version < schedules.TELLS_TIME:
        click.echo(
            f"Kubeflow Pipelines {version[0]}.{version[1]} does not tell a run when it was due: its report says when "
            "it read the data.",
            err=True,
        )
    about = schedules.Schedule(
        name, wanted.text, parameters, max_concurrency, first, last, pipeline_root, service_account
    )
    outcome = found.schedule(_upload(found, package), experiment, about)
    removed = f", and {outcome.removed} older removed" if outcome.removed else ""
    words = {"unchanged": "was there already", "enabled": "was there, and is enabled again"}
    click.echo(f"The schedule {name} {words.get(outcome.action, f'is {outcome.action}')}{removed}.")


@command.command(epilog=EPILOG)
@connection_options
@click.option(
    "--timezone", default="UTC", show_default=True, metavar="ZONE", help="The one the server reads cron in."
)
def schedules(connect: Callable[[], kfp.Client], experiment: str, timezone: str) -> None:
    """List the schedules and when they run next."""
    import datetime

    from kubeflow import cron

    try:
        zone = cron.zone(timezone)
    except cron.CronError as problem:
        raise UserError(str(problem)) from None
    found = connect().schedules(experiment)
    if not found:
        click.echo("There are no schedules: make one with `alexnet kubeflow schedule`.")
    now = datetime.datetime.now(datetime.UTC)
    for one in found:
        try:
            soonest = cron.words(cron.upcoming(cron.parse(one.cron), zone, now, one.start, one.end, 1)[0])
        except cron.CronError:  # not ours, or over
            soonest = "no time that is known"
        what = f"next {soonest}" if one.enabled else "disabled"
        click.echo(f"{plain(one.name)}  {plain(one.cron)}  {what}")
        given = ", ".join(f"{key}={value}" for key, value in sorted(one.parameters.items()))
        if given:
            click.echo(f"  {plain(given)}")


@command.command(epilog=EPILOG)
@click.argument("name")
@connection_options
def unschedule(connect: Callable[[], kfp.Client], experiment: str, name: str) -> None:
    """Delete a schedule. Runs that it started stay."""
    connect().unschedule(experiment, name)
    click.echo(f"The schedule {plain(name)} is deleted.")


@command.command(epilog=EPILOG)
@click.argument("run", required=False)
@connection_options
def status(connect: Callable[[], kfp.Client], experiment: str, run: str | None) -> None:
    """Show a run and its nodes, or the latest runs. RUN is "latest", a name, or the beginning of an id.

    Of nodes that do not start or failed it says why, as Argo and Kubernetes do.
    """
    if run is None:
        latest = connect().runs(experiment, RUNS)
        if not latest:
            click.echo("There are no runs yet: start one with `alexnet kubeflow submit`.")
        for one in latest:
            date = f"{one.created:%Y-%m-%d %H:%M}" if one.created else ""
            kind = " (scheduled)" if one.scheduled else ""
            click.echo(f"{one.id}  {date}  {one.state:<9}  {plain(one.name)}{kind}")
        return
    found = connect()
    one = found.find_run(run, experiment)
    click.echo(f"Run {one.id}, {plain(one.name)}: {one.state}")
    click.echo(one.url)
    width = max((len(node.name) for node in one.nodes), default=0)
    for node in one.nodes:
        took = f"  {_seconds(node.seconds)}" if node.seconds is not None else ""
        click.echo(f"  {plain(node.name):<{width}}  {node.state:<9}{took}".rstrip())
    if one.error:
        click.echo(one.error)
    for line in _troubles(found, one):
        click.echo(line)


@command.command(epilog=EPILOG)
@click.argument("run")
@click.argument("node", required=False)
@connection_options
def logs(connect: Callable[[], kfp.Client], experiment: str, run: str, node: str | None) -> None:
    """Print what a node of a run wrote; of all nodes, if none is named."""
    from kubeflow import connection

    found = connect()
    run_id = found.find_run(run, experiment).id
    pods = found.pods(run_id)
    if node:
        chosen = [pod for pod in pods if pod.node.lower() == node.lower()]
        if not chosen:
            names = ", ".join(plain(pod.node) for pod in pods) or "none has started"
            raise UserError(f"The run {run_id} has no node {node}: the nodes are {names}.")
        click.echo(found.logs(run_id, chosen[0]), nl=False)
        return
    for pod in pods:
        click.echo(f"=== {plain(pod.node)}")
        try:
            click.echo(found.logs(run_id, pod), nl=False)
        except connection.Unreachable:
            raise
        except connection.ClientError as problem:
            click.echo(problem)


@command.command(epilog=EPILOG)
@click.argument("run")
@click.option(
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="Where it goes; a name that ends in .json takes the data.",
)
@connection_options
def report(connect: Callable[[], kfp.Client], experiment: str, run: str, output: str) -> None:
    """Fetch the evaluation report of a run."""
    found = connect()
    run_id = found.find_run(run, experiment).id
    file = "report.json" if output.endswith(".json") else "report.html"
    made = [artifact for artifact in found.artifacts(run_id) if artifact.node in REPORTERS]
    pages = [artifact for artifact in made if artifact.type == PAGE and file == "report.html"]
    folders = [artifact for artifact in made if artifact.node == REPORTERS[0] and artifact.type != PAGE]
    content = None
    for artifact in pages + folders:
        if content is None:
            content = found.download(artifact, "" if artifact in pages else file)
    if content is None:
        why = f"its {file} cannot be read from the object store" if made else f"{REPORTERS[0]} has not ended there"
        raise UserError(f"The run {run_id} has no report: {why}.")
    write(output, content)
    click.echo(output, err=files.special(output))


def _upload(found: kfp.Client, package: kfp.Package) -> kfp.Version:
    version = found.upload(package)
    click.echo(f"{'Uploaded' if version.uploaded else 'There already:'} {version.name}")
    return version


def _tell(run: kfp.Run, node: kfp.Node) -> None:
    took = f" ({_seconds(node.seconds)})" if node.seconds is not None else ""
    done = sum(one.end is not None for one in run.nodes)
    click.echo(f"[{done}/{len(run.nodes)}] {plain(node.name)}: {node.state}{took}")


def _warn(reasons: list[str], trouble: kfp.Trouble) -> None:
    """Tells of what does not start; what failed goes into `reasons`, for the end."""
    import datetime

    words = plain(trouble.words(datetime.datetime.now(datetime.UTC)))
    if trouble.state == "failed":
        reasons.append(words)
    else:
        click.echo(words)


def _troubles(found: kfp.Client, run: kfp.Run) -> Iterator[str]:
    """Why nodes do not start, or failed: by the server, else by Kubernetes where that can be asked from here."""
    import datetime

    from kubeflow import cluster_api

    now = datetime.datetime.now(datetime.UTC)
    told = found.troubles(run)
    if not told and not run.ended and all(node.state != "running" for node in run.nodes):
        context = click.get_current_context().meta[CONTEXT]
        told, _ = cluster_api.waiting(run.id, found.namespace, context=context)
    for one in told:
        yield plain(one.words(now))


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
