"""Which object stores there are, by the beginnings of their URIs. Imports nothing, so everybody may ask.

    s3://BUCKET/FOLDER      S3's API: AWS, MinIO, SeaweedFS, Ceph and others
    gs://BUCKET/FOLDER      Google Cloud Storage
    az://CONTAINER/FOLDER   Azure Blob Storage, in the account that AZURE_STORAGE_ACCOUNT_NAME names

What each takes is in `storage.stores`.
"""

from __future__ import annotations

SCHEMES = ("s3://", "gs://", "az://")
WORDS = "s3://, gs:// or az://"  # for sentences
FORMS = "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or az://CONTAINER/FOLDER"


def is_uri(path: object) -> bool:
    """Whether a path names something in an object store."""
    return str(path).startswith(SCHEMES)
