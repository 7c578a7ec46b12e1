"""Whether the name of a data source is that of something on this machine. Imports nothing heavy."""

from __future__ import annotations

import os
import pathlib

from core import files, settings
from core.errors import UserError

EMBEDDED = "shapes10"


def local(data: settings.Data) -> tuple[pathlib.Path | None, str]:
    """The file or folder of this machine that `data.source` means.

    A plain name such as `photos` means the one in the current folder, unless TensorFlow Datasets has a data set of
    that name: otherwise the same command would take other data in another folder.

    Returns:
        Its absolute path, None for a data set or an object store; and, where both are there, a line that says which
        was taken.

    Raises:
        UserError: it can only be a path, and does not exist.
    """
    source = data.source
    if settings.is_remote(source):
        return None, ""
    if not settings.looks_like_path(source):
        if not os.path.lexists(source):
            return None, ""
        if _is_data_set(data):
            return (
                None,
                f"Data: {source} of TensorFlow Datasets; for what is in this folder write ./{source}",
            )
    path = files.absolute(source, "The data source")
    if not path.exists():  # said at once, not when TensorFlow has loaded
        raise UserError(f"The data source {path} does not exist.")
    return path, ""


def _is_data_set(data: settings.Data) -> bool:
    """Whether TensorFlow Datasets has a data set of this name, or one is prepared in `data.data_dir`."""
    name = settings.builder_name(data.source)
    if name == EMBEDDED:
        return True
    if data.data_dir:
        prepared = files.absolute(data.data_dir, "--data-dir") / name
        if any(found for form in ("*", "*/*") for found in prepared.glob(f"{form}/dataset_info.json")):
            return True
    import tensorflow_datasets as tfds  # half a second, as long as nobody asks for a data set; it loads no TensorFlow

    return name.lower() in tfds.list_builders(with_community_datasets=False)
