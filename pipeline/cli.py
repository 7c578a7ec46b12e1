"""The command line `alexnet`: gathers the commands of `pipeline.commands`."""

from __future__ import annotations

import click

from pipeline.commands import (
    approve,
    clean,
    compare,
    config,
    doctor,
    figures,
    history,
    kubeflow,
    models,
    predict,
    presets,
    push,
    reject,
    report,
    robustness,
    rollback,
    run,
    runs,
    slices,
    suspects,
    trials,
)
from pipeline.commands.common import EXIT_CODES, Commands


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="alexnet-pipeline")
def main() -> None:
    """Trains, judges and ships an AlexNet image classifier with a TFX pipeline."""


for module in (
    approve, clean, compare, config, doctor, figures, history, kubeflow, models, predict, presets, push, reject,
    report, robustness, rollback, run, runs, slices, suspects, trials,
):  # fmt: skip
    main.add_command(module.command)

if __name__ == "__main__":
    main()
