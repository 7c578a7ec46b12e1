"""Shows results in the user interface of Kubeflow Pipelines, which knows its own artifact types and no others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, cast

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec


class Html(types.Artifact):
    """One HTML file; KFP shows it on the node's page."""

    TYPE_NAME = "system.HTML"


class Metrics(types.Artifact):
    """Numbers as metadata; KFP shows them as columns when runs are compared."""

    TYPE_NAME = "system.Metrics"


class ClassificationMetrics(types.Artifact):
    """A confusion matrix as metadata; KFP draws it."""

    TYPE_NAME = "system.ClassificationMetrics"


class Executor(base_executor.BaseExecutor):
    """Reads an artifact's files, writes KFP's artifacts."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `page`, `metrics` and `classification`."""
        folder = artifact_utils.get_single_uri(input_dict["artifact"])
        page, metrics, classification = (
            artifact_utils.get_single_instance(output_dict[key]) for key in ("page", "metrics", "classification")
        )
        fileio.makedirs(os.path.dirname(page.uri))
        fileio.copy(os.path.join(folder, exec_properties["html"]), page.uri, overwrite=True)
        with fileio.open(os.path.join(folder, exec_properties["data"]), "r") as file:
            tree = json.loads(file.read())
        for name, path in json.loads(exec_properties["numbers"]).items():
            if (value := look_up(tree, path)) is not None:
                metrics.set_float_custom_property(name, float(value))
        matrix = confusion_matrix(look_up(tree, exec_properties["labels"]), look_up(tree, exec_properties["matrix"]))
        classification.set_json_value_custom_property("confusionMatrix", matrix)


class ShowSpec(component_spec.ComponentSpec):
    """Show's interface; the input's type is set with the input."""

    PARAMETERS = {
        name: component_spec.ExecutionParameter(type=str) for name in ("html", "data", "numbers", "labels", "matrix")
    }
    INPUTS = {"artifact": component_spec.ChannelParameter(type=types.Artifact)}
    OUTPUTS = {
        "page": component_spec.ChannelParameter(type=Html),
        "metrics": component_spec.ChannelParameter(type=Metrics),
        "classification": component_spec.ChannelParameter(type=ClassificationMetrics),
    }


class Show(base_component.BaseComponent):
    """Makes a page, numbers and a confusion matrix for KFP of the files of an artifact."""

    SPEC_CLASS = ShowSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, artifact: types.BaseChannel, html: str, data: str, numbers: Mapping[str, str], labels: str, matrix: str
    ) -> None:
        """Args:
        artifact: the folder with the files.
        html: name of the HTML file.
        data: name of a JSON file.
        numbers: name to show -> dotted path in the JSON file; what is not there or null is left out.
        labels, matrix: dotted paths of the names of the classes and of the counts, [true class][predicted class].
        """
        inputs = {"artifact": component_spec.ChannelParameter(type=artifact.type)}
        self.SPEC_CLASS = cast(type[ShowSpec], type("ShowSpec", (ShowSpec,), {"INPUTS": inputs}))
        super().__init__(
            self.SPEC_CLASS(
                artifact=artifact,
                html=html,
                data=data,
                numbers=json.dumps(dict(numbers), sort_keys=True),
                labels=labels,
                matrix=matrix,
                page=types.Channel(type=Html),
                metrics=types.Channel(type=Metrics),
                classification=types.Channel(type=ClassificationMetrics),
            )
        )


def confusion_matrix(labels: list[str], matrix: list[list[int]]) -> dict[str, Any]:
    """In the form of kfp's `ClassificationMetrics.log_confusion_matrix`."""
    return {
        "annotationSpecs": [{"displayName": label} for label in labels],
        "rows": [{"row": [float(count) for count in row]} for row in matrix],
    }


def look_up(tree: Any, path: str) -> Any:
    """What a dotted path leads to, or None."""
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
