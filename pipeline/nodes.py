"""The DAG's nodes in their order, for whoever names nodes before TFX is loaded; a test compares them with the DAG."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    from core.settings import Settings

# Each node and those that come right before it.
DAG: dict[str, tuple[str, ...]] = {
    "ImageExampleGen": (),
    "StatisticsGen": ("ImageExampleGen",),
    "ImageSchemaGen": ("StatisticsGen",),
    "PreviousStatistics": ("StatisticsGen",),
    "ExampleValidator": ("StatisticsGen", "ImageSchemaGen"),
    "DataCheck": (
        "ImageExampleGen", "StatisticsGen", "ImageSchemaGen", "ExampleValidator", "PreviousStatistics",
    ),
    "Transform": ("ImageExampleGen", "ImageSchemaGen", "DataCheck"),
    "WarmStart": (),
    "Tuner": ("Transform",),
    "Trainer": ("Transform", "WarmStart", "Tuner"),
    "Baseline": ("Trainer",),
    "Evaluator": ("ImageExampleGen", "Trainer", "Baseline"),
    "ServingCheck": ("ImageExampleGen", "Trainer"),
    "PreviousReport": ("Evaluator",),
    "EvaluationReport": (
        "ImageExampleGen", "ExampleValidator", "DataCheck", "Tuner", "Trainer", "Evaluator", "ServingCheck",
        "PreviousReport",
    ),
    "Pusher": ("Trainer", "Evaluator", "ServingCheck", "EvaluationReport"),
}  # fmt: skip
NODES = tuple(DAG)
# In the DAG for these settings alone.
OPTIONAL = {"WarmStart": "training.warm_start=true", "Tuner": "tuner.trials=8"}


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
    for node, setting in OPTIONAL.items():
        if name.lower() == node.lower():
            raise UserError(f"{option} {node}: there is no such node in this run; it has one with --set {setting}.")
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"did you mean {lower[close[0]]}? The" if close else "the"
    raise UserError(f"{option} {name}: there is no such node; {hint} nodes are {', '.join(among)}.")


def part(among: tuple[str, ...], first: str | None, last: str | None) -> tuple[str, ...]:
    """The nodes that run, from `first` to `last` as in TFX's partial runs: what lies on a way between the two.

    Raises:
        UserError: none does.
    """
    found = [node for node in among if (not first or _leads(first, node)) and (not last or _leads(node, last))]
    if first and last and not found:
        turned = _leads(last, first)
        how = f"{first} comes after {last}" if turned else f"{last} takes nothing from {first}"
        remedy = f"for that part write --from {last} --to {first}" if turned else "leave one of them out"
        raise UserError(f"--from {first} --to {last}: nothing would run, for {how}; {remedy}.")
    return tuple(found)


def lacking(
    among: tuple[str, ...], known: Collection[str], first: str, last: str | None
) -> tuple[list[str], str | None]:
    """What keeps the part from `first` to `last` from going on from a run.

    Args:
        among: the nodes of the pipeline.
        known: those that the run has results of.

    Returns:
        The nodes before the part that the run has not, and the latest node from which a larger part can go on from
        the run; None if that is the whole.
    """

    def missing(nodes: tuple[str, ...]) -> list[str]:
        before = (node for node in among if node not in nodes and any(_leads(node, one) for one in nodes))
        return [node for node in before if node not in known]

    wanted = part(among, first, last)
    for node in reversed(among[1:]):
        larger = tuple(one for one in among if _leads(node, one) and (not last or _leads(one, last)))
        if set(wanted) <= set(larger) and not missing(larger):
            return missing(wanted), node
    return missing(wanted), None


def _leads(first: str, last: str) -> bool:
    """Whether a node is another, or is before it on any way."""
    return first == last or any(_leads(first, node) for node in DAG[last])
