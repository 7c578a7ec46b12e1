"""TFX 1.21 pipelines on open-source Kubeflow Pipelines v2. Knows nothing of the project that uses it."""
