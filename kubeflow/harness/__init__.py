"""Executes a compiled pipeline as Kubeflow Pipelines v2 does, without a cluster, for tests of any TFX project.

What the API server, Argo, KFP's driver, launcher and metadata store do to a task is done here in their order and
with their rules (backend/src/v2 of kubeflow/pipelines): names and types are checked, inputs are resolved and staged
from an object store (folders), the container's command runs as a process of its own, outputs are uploaded and
recorded with metadata as the store keeps them. What fails there fails here.

Not done: images are not pulled and containers not isolated, resources and node selectors are only parsed, waiting
before a retry is left out, conditions and loops are refused.
"""

from kubeflow.harness.cluster import Cluster, Run, TaskRun
from kubeflow.harness.spec import Refused

__all__ = ["Cluster", "Refused", "Run", "TaskRun"]
