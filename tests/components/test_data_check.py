"""Schemas, anomalies, skew and drift: the first half of the real pipeline on real folders."""

import shutil

import pytest
from google.protobuf import text_format
from image_data import write_folder

from components import data_check, schemas, stored_schema
from core import settings
from core.errors import UserError
from core.repeated import Member, Repeated
from core.workdir import Workdir
from pipeline import local_runner
from pipeline import run as runner


def check(root, workdir, *changes):
    """Runs the pipeline to DataCheck in this process, as the worker of `alexnet run` does."""
    chosen = settings.load(overrides=["data.validation_share=0.3", *changes], **{"data.source": str(root)})
    workdir = Workdir(workdir)
    run_id = workdir.new_run()
    request = runner.write_request(runner.Request(chosen, to_node="DataCheck"), workdir, run_id)
    local_runner.run(chosen, workdir, workdir.run(run_id), request)
    return workdir


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A folder of two classes and a working directory that has seen it."""
    base = tmp_path_factory.mktemp("checked")
    root = write_folder(base / "pets")
    check(root, base / "work")
    return base


@pytest.fixture
def seen(checked, tmp_path):
    """A copy of it: the folder, and its working directory."""
    root = shutil.copytree(checked / "pets", tmp_path / "pets")
    workdir = tmp_path / "work"
    shutil.copytree(checked / "work", workdir)
    return root, workdir


def test_the_schema_of_own_data_is_inferred_and_stored(checked):
    stored = Workdir(checked / "work").schema("pets")
    schema = schemas.read(stored.read_text(), "stored")
    features = {feature.name: feature for feature in schema.feature}
    assert set(features) == set(schemas.FEATURES)
    assert list(features["class_name"].string_domain.value) == ["cat", "dog"]
    assert features["label"].int_domain.max == 1
    assert features["image"].HasField("image_domain")
    assert all(feature.presence.min_fraction == 1 for feature in schema.feature)
    assert stored_schema.version(stored) == ""


def test_a_new_class_is_refused_in_words_and_accepted_on_request(seen):
    root, workdir = seen
    for split in ("train", "test"):
        shutil.copytree(root / split / "cat", root / split / "yak")
    limits = ["data.max_label_drift=1", "data.max_label_skew=1"]
    with pytest.raises(UserError, match=r"does not fit the schema: class_name: .*yak.*data\.update_schema=true"):
        check(root, workdir, *limits)
    check(root, workdir, *limits, "data.update_schema=true")
    stored = Workdir(workdir).schema("pets")
    assert "yak" in stored.read_text()


def test_an_edited_schema_is_used(seen):
    root, workdir = seen
    stored = Workdir(workdir).schema("pets")
    stored.write_text(stored.read_text().replace('value: "dog"', 'value: "wolf"'))
    assert stored_schema.version(stored) != ""
    with pytest.raises(UserError, match=r"class_name: .*dog"):
        check(root, workdir)


def test_a_damaged_schema_is_named(seen):
    root, workdir = seen
    Workdir(workdir).schema("pets").write_text("feature {")
    with pytest.raises(UserError, match=rf"^{workdir}/schemas/pets\.pbtxt is not a schema"):
        check(root, workdir)


def test_skew_between_train_and_test_is_refused(tmp_path):
    root = write_folder(tmp_path / "pets")
    for file in list((root / "test" / "cat").iterdir())[1:]:
        file.unlink()
    with pytest.raises(UserError, match=r"max_label_skew.*class_name: .*train"):
        check(root, tmp_path / "work", "data.max_label_skew=0.2")
    check(root, tmp_path / "work", "data.max_label_skew=0.5")


def test_drift_since_the_last_run_is_refused(seen):
    root, workdir = seen
    for split, keep in (("train", 4), ("test", 1)):
        for file in sorted((root / split / "cat").iterdir())[keep:]:
            file.unlink()
    for _ in range(2):  # what was refused once is not what the next run is compared with
        with pytest.raises(UserError, match=r"max_label_drift.*class_name"):
            check(root, workdir, "data.max_label_skew=1")
        next(root.glob("train/cat/*")).unlink()


def test_data_that_do_not_fit_a_curated_schema_are_refused(image_folder, tmp_path):
    with pytest.raises(UserError, match=r"class_name: .*cat"):
        check(image_folder, tmp_path / "work", "data.name=shapes10")


LEAKED = {
    "counts": {"train": {"cat": 9}, "test": {"cat": 6, "dog": 4}},
    "duplicates": {"leaked": {"validation": 0, "test": 3}},
}
PICTURES = [
    Repeated("0", (Member("train", "cat", "1"), Member("validation", "cat", "2"))),
    Repeated("1", (Member("validation", "cat", "train/cat/1.png"), Member("test", "dog", "a\nb.png"))),
]


def test_more_leaked_test_examples_than_allowed_are_refused_with_an_example_of_both():
    with pytest.raises(UserError) as refused:
        data_check.refuse_leaks(LEAKED, PICTURES, 0.29)
    assert str(refused.value) == (
        "3 of 10 test examples (30.00%) are duplicates of training or validation pictures, more than "
        "data.max_leaked_share=0.29 allows; a b.png (test) is the same picture as train/cat/1.png (validation). "
        "Remove them from one of the splits, or allow more with --set data.max_leaked_share=..."
    )
    data_check.refuse_leaks(LEAKED, PICTURES, 0.3)
    data_check.refuse_leaks({**LEAKED, "duplicates": {"leaked": {"validation": 3, "test": 0}}}, [], 0)


def test_a_changed_limit_of_leaks_ingests_nothing_anew(seen):
    root, workdir = seen
    shutil.copy(root / "train" / "cat" / "000.png", root / "test" / "cat" / "000.png")
    check(root, workdir)
    examples = sorted((workdir / "artifacts" / "pets" / "ImageExampleGen" / "examples").iterdir())
    with pytest.raises(UserError, match=r"1 of 12 test examples.*test/cat/000.png.*train/cat/000.png"):
        check(root, workdir, "data.max_leaked_share=0.08")
    check(root, workdir, "data.max_leaked_share=0.09")
    assert sorted((workdir / "artifacts" / "pets" / "ImageExampleGen" / "examples").iterdir()) == examples


def test_a_limit_cannot_be_kept_where_nobody_looked_for_duplicates():
    with pytest.raises(UserError, match=r"data\.max_leaked_share cannot be kept.*--fresh"):
        data_check.refuse_leaks({"counts": LEAKED["counts"]}, [], 0.5)


@pytest.mark.parametrize("name", ["cifar10", "shapes10"])
def test_curated_schemas_are_complete(name):
    schema = schemas.curated(name)
    assert len(next(f for f in schema.feature if f.name == "class_name").string_domain.value) == 10


def test_there_is_no_curated_schema_for_other_data():
    assert schemas.curated("pets") is None


def test_a_stored_schema_has_no_version_until_it_is_edited(tmp_path):
    path = tmp_path / "pets.pbtxt"
    assert stored_schema.version(path) == ""
    path.write_text(stored_schema.with_header(text_format.MessageToString(schemas.minimal())))
    assert stored_schema.version(path) == ""
    path.write_text(path.read_text() + "\n")
    assert stored_schema.version(path) != ""


def test_a_test_split_that_the_ingest_held_out_may_have_other_shares(tmp_path):
    """Whatever their hash does to a few pictures: what is at fault is chance, and nobody can mend it."""
    root = write_folder(tmp_path / "made", train=12, test=1) / "train"
    for number in range(2, 12):
        (root / "dog" / f"{number:03d}.{('png', 'jpeg')[number % 2]}").unlink()
    check(root, tmp_path / "work", "data.max_label_skew=0", "data.test_share=0.5")
    for split in ("train", "test"):
        shutil.copytree(root / "cat", tmp_path / "own" / split / "cat")
    shutil.copytree(root / "dog", tmp_path / "own" / "train" / "dog")
    shutil.copytree(root / "cat", tmp_path / "own" / "test" / "dog")
    with pytest.raises(UserError, match=r"distribution of labels changed more than data\.max_label_skew"):
        check(tmp_path / "own", tmp_path / "other", "data.max_label_skew=0")
