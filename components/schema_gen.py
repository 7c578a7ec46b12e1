"""ImageSchemaGen: the schema that this run's data must fit.

For the data sets that the repository knows, its curated schema. For a user's own data, the one that was inferred
from their first run and stored: later runs are checked against it.
"""

import os

from google.protobuf import text_format
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import ExampleStatistics, Schema

from components import schemas
from components.stored_schema import with_header
from core.events import emit


@component
def ImageSchemaGen(
    statistics: InputArtifact[ExampleStatistics],
    schema: OutputArtifact[Schema],
    name: Parameter[str],
    stored: Parameter[str],
    version: Parameter[str],
    update: Parameter[bool],
    features: Parameter[str],
) -> None:
    """Writes `schema.pbtxt`.

    Args:
        statistics: of the split "train", to infer from.
        schema: the result.
        name: of the data; a curated schema of this name is used as it is.
        stored: file in which the schema of a user's own data is kept from run to run.
        version: of the stored file's content, so that an edited one is not missed by the cache.
        update: infer the stored schema anew.
        features: names of further features, with commas.
    """
    del version
    place = stored if "://" in stored else os.path.abspath(stored)  # for people, who may be in another folder
    found = schemas.curated(name)
    if found is None and not update and fileio.exists(stored):
        with fileio.open(stored, "r") as file:
            found = schemas.read(file.read(), place)
    if found is None:
        found = schemas.infer(stats_artifact_utils.load_statistics(statistics, "train").proto())
        fileio.makedirs(os.path.dirname(stored))
        with fileio.open(stored, "w") as file:
            file.write(with_header(text_format.MessageToString(found)))
        emit("note", text=f"schema inferred and stored in {place}; later runs are checked against it")
    schemas.allow(found, filter(None, features.split(",")))
    with fileio.open(os.path.join(schema.uri, "schema.pbtxt"), "w") as file:
        file.write(text_format.MessageToString(found))
