"""Corrected labels in the ingest: the real ImageExampleGen, on every kind of source."""

import collections
import json
import pathlib
import zipfile

import pytest
import tensorflow as tf
from image_data import encoded, picture, write_folder
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from components import records
from components.example_gen import DUPLICATES, INGEST_SETTINGS, REPORT, Executor
from components.sources import fingerprint
from core import images
from core.errors import UserError
from core.settings import Data
from review.report import schema

SPLITS = ("train", "validation", "test")


def run(source, out, rows=None, version="auto", header="id,action", **options):
    """Runs the executor on a source with a list of corrections; returns the artifact."""
    if rows is not None:
        file = out.with_suffix(".csv")
        file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        options["corrections"] = str(file)
    examples = standard_artifacts.Examples()
    examples.uri = str(out)
    (out / "tmp").mkdir(parents=True)
    data = Data(source=str(source), **{"validation_share": 0.3, **options}).model_dump(include=INGEST_SETTINGS)
    properties = {"data": json.dumps(data), "version": version, "due": ""}
    Executor(BaseBeamExecutor.Context(beam_pipeline_args=[], tmp_dir=str(out / "tmp"))).Do(
        {}, {"examples": [examples]}, properties
    )
    return examples


def read(examples):
    """id -> (split, label, class name, image)."""
    found = {}
    for split in SPLITS:
        for record in records.read(examples, split):
            feature = tf.train.Example.FromString(record).features.feature
            id, name = (feature[key].bytes_list.value[0].decode() for key in ("id", "class_name"))
            assert id not in found
            found[id] = (split, feature["label"].int64_list.value[0], name, feature["image"].bytes_list.value[0])
    return found


def report(examples):
    return json.loads(pathlib.Path(examples.uri, REPORT).read_text())


@pytest.fixture(params=["folder", "archive", "batches", "builder"])
def source(request, image_folder, binary_folder, tmp_path):
    """What `data` names in each of the ways that users have."""
    if request.param == "archive":
        file = tmp_path / "pets.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for path in image_folder.rglob("*.*"):
                archive.write(path, path.relative_to(image_folder.parent))
        return file
    return {"folder": image_folder, "batches": binary_folder, "builder": "shapes10/small"}[request.param]


def test_examples_get_another_class_or_are_left_out_and_stay_in_their_split(source, tmp_path):
    before_report = report(examples := run(source, tmp_path / "before"))
    before, names = read(examples), before_report["class_names"]
    by_split = {split: sorted(id for id, found in before.items() if found[0] == split) for split in SPLITS}
    relabelled = {ids[0]: names[1 - before[ids[0]][1] % 2] for ids in by_split.values()}
    dropped = {ids[1] for ids in by_split.values()}
    kept = by_split["train"][2]
    rows = [f"{id},{name}" for id, name in relabelled.items()] + [f"{id},drop" for id in dropped] + [f"{kept},keep"]
    after_report = report(examples := run(source, tmp_path / "after", rows))
    after = read(examples)
    assert after.keys() == before.keys() - dropped
    for id, (split, _, name, image) in before.items():
        if id not in dropped:
            becomes = relabelled.get(id, name)
            assert after[id] == (split, names.index(becomes), becomes, image)
    for split in SPLITS:
        counted = collections.Counter(name for at, _, name, _ in after.values() if at == split)
        assert {name: n for name, n in after_report["counts"][split].items() if n} == dict(counted)
    found = schema.Corrections(**after_report["corrections"])
    assert (found.relabelled, found.left_out) == (3, 3)
    assert found.file == str(tmp_path / "after.csv")
    assert sum(n for _, becomes, n in found.changes if becomes) == 3
    assert {id for id, _ in found.checked} == {*relabelled, kept}
    assert before_report["corrections"] == {}


def write_pair(root):
    """A folder whose class "owl" has one picture to train on, and one for the validation."""
    write_folder(root, train=6, test=3)
    pictures = [picture(seed) for seed in range(7000, 7100)]
    held_out = [images.share_of(images.digest(pixels)) < 0.5 for pixels in pictures]
    for file, number in (
        ("train/owl/1.png", held_out.index(True)),
        ("train/owl/2.png", held_out.index(False)),
        ("test/owl/3.png", 99),
    ):
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).write_bytes(encoded(pictures[number]))
    return root


@pytest.mark.parametrize("action", ["cat", "drop"])
def test_no_example_changes_its_split_because_a_class_has_become_small(tmp_path, action):
    root = write_pair(tmp_path / "pets")
    before = read(run(root, tmp_path / "before", validation_share=0.5))
    assert (before["train/owl/1.png"][0], before["train/owl/2.png"][0]) == ("validation", "train")
    after = read(run(root, tmp_path / "after", [f"train/owl/1.png,{action}"], validation_share=0.5))
    kept = before.keys() - ({"train/owl/1.png"} if action == "drop" else set())
    assert {id: found[0] for id, found in after.items()} == {id: before[id][0] for id in kept}
    # The other one is not fetched from the validation split; whoever corrects is told.
    out = tmp_path / "none"
    with pytest.raises(UserError, match=rf"class owl has no train examples .*by {out}\.csv"):
        run(root, out, [f"train/owl/2.png,{action}"], validation_share=0.5)


def test_a_contradiction_is_gone_once_it_is_corrected(tmp_path):
    root = write_folder(tmp_path / "pets")
    (root / "train" / "dog" / "copy.png").write_bytes((root / "train" / "cat" / "000.png").read_bytes())
    before = run(root, tmp_path / "before")
    assert report(before)["duplicates"]["contradicting"]["pictures"] == 1
    relabelled = run(root, tmp_path / "relabelled", ["train/dog/copy.png,cat"])
    assert report(relabelled)["duplicates"]["contradicting"]["pictures"] == 0
    assert report(relabelled)["duplicates"]["pictures"] == 1
    left_out = run(root, tmp_path / "left_out", ["train/dog/copy.png,drop"])
    assert json.loads(pathlib.Path(left_out.uri, DUPLICATES).read_text()) == {"pictures": []}


def test_by_its_digest_one_of_several_of_one_id_is_meant(tmp_path, monkeypatch):
    from components.sources.folders import FolderSource

    root = write_folder(tmp_path / "pets")
    original = FolderSource.read

    def same_ids(self, shard):
        import dataclasses

        for record in original(self, shard):
            yield dataclasses.replace(record, id=pathlib.PurePath(record.id).name)

    monkeypatch.setattr(FolderSource, "read", same_ids)  # cats and dogs share their ids
    from components.derived_features import digest

    cat = digest((root / "test" / "cat" / "000.png").read_bytes())
    out = run(root, tmp_path / "out", [f"000.png,{cat},dog"], header="id,digest,action")
    assert report(out)["corrections"]["changes"] == [["cat", "dog", 1]]
    assert report(out)["counts"]["test"] == {"cat": 5, "dog": 7}
    with pytest.raises(UserError, match=r"line 2: 4 examples are called 000\.png; give the digest"):
        run(root, tmp_path / "many", ["000.png,dog"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["train/cat/nobody.png,drop"], r"line 2: there is no example train/cat/nobody\.png in these data; correct"),
        (["x,drop", "y,drop"], r"there is no example x in these data \(likewise 1 more rows\)"),
        (["train/cat/000.png,cow"], "the action cow is neither keep nor drop nor a class"),
    ],
)
def test_a_row_that_does_not_fit_the_data_stops_the_run(image_folder, tmp_path, rows, said):
    with pytest.raises(UserError, match=said):
        run(image_folder, tmp_path / "out", rows)


def test_a_picture_that_was_replaced_is_not_corrected(image_folder, tmp_path):
    said = r"line 2: train/cat/000\.png has another picture in these data; look at it again"
    with pytest.raises(UserError, match=said):
        run(image_folder, tmp_path / "out", ["train/cat/000.png,abcd,dog"], header="id,digest,action")


def test_a_damaged_picture_may_stand_in_the_list(image_folder, tmp_path):
    (image_folder / "train" / "cat" / "000.png").write_bytes(b"nonsense")
    found = report(run(image_folder, tmp_path / "out", ["train/cat/000.png,drop"], max_bad_share=0.1))
    assert (found["bad"], found["corrections"]["left_out"]) == (1, 0)


def test_a_list_that_is_not_there_is_told(image_folder, tmp_path):
    with pytest.raises(UserError, match=r"none\.csv cannot be read: there is no such file"):
        run(image_folder, tmp_path / "out", corrections=str(tmp_path / "none.csv"))


def test_the_content_of_the_list_counts_for_the_cache_and_not_its_time(image_folder, tmp_path):
    file = tmp_path / "list.csv"
    seen = []
    for text in ("id,action\n", "id,action\na,keep\n", "id,action\n"):
        file.write_text(text)
        seen.append(fingerprint.data(Data(source=str(image_folder), corrections=str(file))))
    assert seen[0] == seen[2] != seen[1]
    assert seen[0].startswith(fingerprint.data(Data(source=str(image_folder))))
    own = Data(source=str(image_folder), corrections=str(file), version="7")
    assert fingerprint.data(own).startswith("7+")


def test_the_report_has_the_fingerprint_that_was_asked_for(image_folder, tmp_path):
    rows = ["train/cat/000.png,dog"]
    asked = run(image_folder, tmp_path / "asked", rows, version="abc+def")
    assert report(asked)["fingerprint"] == "abc+def"
    found = run(image_folder, tmp_path / "found", rows)
    data = Data(source=str(image_folder), corrections=str(tmp_path / "found.csv"))
    assert report(found)["fingerprint"] == fingerprint.data(data)
    assert artifact_utils.decode_split_names(found.split_names) == list(SPLITS)
