"""The pipeline that doctor is tried with: it asks for all that can be asked for."""

import functools

from core import settings
from kubeflow import doctor

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL")
SETTINGS = {
    "data": {"source": "s3://data/my-images"},
    "push": {"destination": "s3://models/my-images"},
    "kubeflow": {
        "history": "s3://models/history",
        "memory": "4Gi",
        "image_pull_secrets": ["registry"],
        "webhook_secret": "alexnet-webhook",
        "inference_service": "alexnet",
        "secret_env": {"alexnet-data": {name: name for name in CREDENTIALS}},
        "nodes": {
            "Trainer": {
                "cpu": "4",
                "memory": "16Gi",
                "gpus": 1,
                "gpu_type": "nvidia.com/gpu",
                "node_selector": {"cloud.google.com/gke-spot": "true"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            },
            "ImageExampleGen": {"memory": "8Gi"},
        },
    },
}
IMAGE = f"registry.example.com/alexnet-pipeline@sha256:{'0' * 64}"


@functools.cache
def text(**kubeflow):
    """As `alexnet kubeflow compile` writes it, with more settings of that group."""
    from pipeline import kubeflow_runner

    chosen = SETTINGS | {"kubeflow": SETTINGS["kubeflow"] | kubeflow}
    return kubeflow_runner.compile(settings.parse(chosen), image=IMAGE)


@functools.cache
def needs():
    return doctor.read_needs(text())
