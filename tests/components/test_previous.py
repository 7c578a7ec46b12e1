"""What came before the current artifact, and what is said if that is gone."""

import ml_metadata
import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.types import artifact_utils

from components.previous import CURRENT, PreviousBlessedModelStrategy, PreviousReportStrategy
from core.events import VARIABLE, Reader

LIVE, DELETED = metadata_store_pb2.Artifact.LIVE, metadata_store_pb2.Artifact.DELETED


class Store:
    """ML Metadata with artifacts of two pipelines."""

    def __init__(self, path):
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        self.store = ml_metadata.MetadataStore(config)
        kind = self.store.put_context_type(metadata_store_pb2.ContextType(name="pipeline"))
        self.contexts = {
            name: self.store.put_contexts([metadata_store_pb2.Context(type_id=kind, name=name)])[0]
            for name in ("pets", "birds")
        }

    def put(self, type_name, state=LIVE, pipeline="pets", **properties):
        """A new artifact in /PIPELINE/TYPE/N; returns its id."""
        kind = self.store.put_artifact_type(metadata_store_pb2.ArtifactType(name=type_name))
        artifact = metadata_store_pb2.Artifact(type_id=kind, state=state)
        artifact.uri = f"/{pipeline}/{type_name}/{len(self.store.get_artifacts()) + 1}"
        for key, value in properties.items():
            artifact.custom_properties[key].int_value = value
        (id,) = self.store.put_artifacts([artifact])
        attribution = metadata_store_pb2.Attribution(artifact_id=id, context_id=self.contexts[pipeline])
        self.store.put_attributions_and_associations([attribution], [])
        return id

    def model(self, state=LIVE, blessed=1, blessing=LIVE, pipeline="pets"):
        """A new model that was judged; returns its id."""
        id = self.put("Model", state, pipeline)
        self.put("ModelBlessing", blessing, pipeline, blessed=blessed, current_model_id=id)
        return id

    def given(self, current, **kinds):
        """The inputs of a resolver, as TFX finds them: what is live, and the current artifact."""
        found = self.store.get_artifacts()
        types = {kind.name: kind for kind in self.store.get_artifact_types()}

        def all_of(fits):
            return [artifact_utils.deserialize_artifact(types[one.type], one) for one in found if fits(one)]

        inputs = {
            key: all_of(lambda one, kind=kind: one.type == kind and one.state == LIVE and one.uri.startswith("/pets"))
            for key, kind in kinds.items()
        }
        return {**inputs, CURRENT: all_of(lambda one: one.id == current)}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "metadata.sqlite")


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Reads what was told since."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "events.jsonl"))
    reader = Reader(tmp_path / "events.jsonl")
    return lambda: [event["text"] for event in reader.new()]


def baseline(store, current):
    given = store.given(current, model="Model", model_blessing="ModelBlessing")
    found = PreviousBlessedModelStrategy().resolve_artifacts(store.store, given)
    assert len(found["model"]) == len(found["model_blessing"])
    return [model.id for model in found["model"]]


def test_the_baseline_is_the_latest_blessed_model_before_and_nothing_is_said(store, told):
    store.model(DELETED)
    second = store.model()
    store.model(blessed=0)
    store.model(DELETED, blessed=0)
    store.model(DELETED, pipeline="birds")
    current = store.model()
    store.model(DELETED)
    assert baseline(store, current) == [second]
    assert told() == []


def test_a_baseline_that_is_gone_makes_place_for_the_one_before_it(store, told):
    first = store.model()
    store.model(DELETED, blessing=DELETED)
    gone = store.model(DELETED)
    current = store.model()
    assert baseline(store, current) == [first]
    said = f"the baseline model in /pets/Model/{gone} can no longer be used; /pets/Model/{first} is used instead"
    assert told() == [said]


@pytest.mark.parametrize("lost", [{"state": DELETED}, {"blessing": DELETED}])
def test_without_another_one_there_is_no_baseline(store, told, lost):
    gone = store.model(**lost)
    current = store.model()
    assert baseline(store, current) == []
    assert told() == [f"the baseline model in /pets/Model/{gone} can no longer be used, and there is no earlier one"]


def test_a_report_that_is_gone_makes_place_for_the_one_before_it(store, told):
    kept, gone = (store.put("alexnet.EvaluationReport", state) for state in (LIVE, DELETED))
    current = store.put("ModelEvaluation")
    given = store.given(current, report="alexnet.EvaluationReport")
    (found,) = PreviousReportStrategy().resolve_artifacts(store.store, given)["report"]
    assert found.id == kept
    (said,) = told()
    assert said.startswith(f"the previous report in /pets/alexnet.EvaluationReport/{gone} can no longer be used; ")
