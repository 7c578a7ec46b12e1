"""Executes a compiled pipeline as Kubeflow Pipelines v2 does, without a cluster, for tests of any TFX project.

What the API server, Argo, KFP's driver, launcher and metadata store do to a task is done here in their order and
with their rules (backend/src/v2 of kubeflow/pipelines): names and types are checked, inputs are resolved and staged
from an object store (folders, or a real one: `S3`), the container's command runs as a process of its own, outputs are
uploaded and recorded with metadata as the store keeps them. Conditions, loops, DAGs in DAGs and exit tasks go as
there, and what is ready runs at the same time. What fails there fails here.

Not done: images are not pulled and containers not isolated; what Kubernetes would be asked for is there to be looked
at (`TaskRun.pod`), and of it only secrets and deadlines count; waiting before a retry is left out; loops over
anything but a DAG, workspaces, volumes made by the pipeline and settings that KFP ignores are refused.
"""

from .cluster import Cluster, Run, TaskRun
from .spec import Refused
from .store import S3

__all__ = ["S3", "Cluster", "Refused", "Run", "TaskRun"]
