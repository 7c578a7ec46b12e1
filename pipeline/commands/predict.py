"""`alexnet predict`."""

from __future__ import annotations

import pathlib
import sys

import click

from core.errors import UserError
from core.exit_codes import USER_ERROR
from core.workdir import Workdir
from pipeline.commands.common import format_option, tell, workdir_option, write
from storage import schemes


@click.command("predict")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, metavar="N", help="Classes to name.")
@click.option("--html", metavar="FILE", help="Write a page of the pictures with their predictions as well.")
@click.option(
    "--model", metavar="DIR", help=f"A pushed model, also {schemes.WORDS}; the workdir's latest if not given."
)
@workdir_option
@format_option
def command(images: tuple[str, ...], top: int, html: str | None, model: str | None, workdir: str, form: str) -> None:
    """Say what is in image files, and in all image files below folders.

    Files in a folder with the name of a class are told right from wrong.

    JSON is a list of {"path", "true_class_name" or null, "class_name", "probability", "top": [{"class_name",
    "probability"}, ...]}. Files that cannot be read are named on standard error; then the exit code is 2.
    """

    place = Workdir(workdir)
    chosen = place.model(model) if model else place.latest_push(tell)
    if html and not pathlib.Path(html).absolute().parent.is_dir():  # said at once, not when all is done
        raise UserError(f"--html {html}: there is no such folder.")
    from review import predict_output

    unreadable, page = predict_output.run(images, chosen, top, form, bool(html))
    if html and page is not None:
        write(html, page)
        click.echo(f"Pictures: {html}", err=form != "table")
    for file in unreadable:
        click.echo(f"alexnet: {predict_output.plain(file.sentence)}", err=True)
    if unreadable:
        sys.exit(USER_ERROR)
