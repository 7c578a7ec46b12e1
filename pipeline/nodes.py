"""The ids of the DAG's nodes in their order, for whoever names nodes before TFX is loaded; a test compares them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from core.settings import Settings

NODES = (
    "ImageExampleGen",
    "StatisticsGen",
    "ImageSchemaGen",
    "PreviousStatistics",
    "ExampleValidator",
    "DataCheck",
    "Transform",
    "WarmStart",
    "Tuner",
    "Trainer",
    "Baseline",
    "Evaluator",
    "ServingCheck",
    "PreviousReport",
    "EvaluationReport",
    "Pusher",
)


def planned(settings: Settings) -> tuple[str, ...]:
    """The nodes of a run with these settings."""
    absent = {"WarmStart": not settings.training.warm_start, "Tuner": not settings.tuner.trials}
    return tuple(node for node in NODES if not absent.get(node))


def find(name: str, among: tuple[str, ...], option: str) -> str:
    """The node that `name` means, upper or lower case.

    Raises:
        UserError: there is none; names the nearest, and all.
    """
    lower = {node.lower(): node for node in among}
    if name.lower() in lower:
        return lower[name.lower()]
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"did you mean {lower[close[0]]}? The" if close else "the"
    raise UserError(f"{option} {name}: there is no such node; {hint} nodes are {', '.join(among)}.")
