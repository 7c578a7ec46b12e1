"""What a user does with an object store, in each of those that are there: see `store_servers`."""

import json
import pathlib

import keras
import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner
from image_data import pack, write_folder

from components import pushing
from components.sources import fingerprint, open_source
from core import events, settings
from core.errors import UserError
from core.settings import Data
from core.workdir import Workdir
from pipeline import run
from pipeline.cli import main
from storage import object_store, versions
from trainer import export
from trainer.summary import DataSummary


def upload(folder, uri):
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            object_store.upload(file, f"{uri}/{file.relative_to(folder).as_posix()}")


def read(source, scratch, **options):
    found = open_source(Data(source=str(source), **options), scratch)
    return [record for shard in found.shards() for record in found.read(shard)]


def test_a_folder_of_images_holds_the_same(bucket, image_folder, tmp_path, scratch, monkeypatch):
    upload(image_folder, f"{bucket}/pets")
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    assert read(f"{bucket}/pets", scratch) == read(image_folder, scratch)
    told = next(events.Reader(tmp_path / "events").new())
    assert (told["kind"], told["name"]) == ("download", f"{bucket}/pets")


def test_an_archive_holds_the_same(bucket, binary_folder, tmp_path, scratch):
    uri = f"{bucket}/cifar-10-binary.tar.gz"
    object_store.upload(pack(binary_folder, tmp_path / "a.tar.gz"), uri)
    assert [one.id for one in read(uri, scratch)] == [one.id for one in read(binary_folder, scratch)]


def test_of_spans_the_newest_are_taken(bucket, tmp_path, scratch):
    for number in (1, 2, 10):
        write_folder(tmp_path / "rolling" / f"span-{number:06d}", train=2, test=1, seed=100 * number)
    upload(tmp_path / "rolling", f"{bucket}/rolling")
    records = read(f"{bucket}/rolling", scratch, newest_spans=2)
    assert {pathlib.PurePath(one.id).parts[0] for one in records} == {"span-000002", "span-000010"}
    assert not list(scratch.rglob("span-000001"))


def test_data_that_changed_are_seen_to_have_changed(bucket):
    def put(name, body):
        object_store.write(body, f"{bucket}/{name}")
        return fingerprint.data(Data(source=f"{bucket}/pets"))

    first = put("pets/train/cat/1.png", b"1")
    assert fingerprint.data(Data(source=f"{bucket}/pets")) == first
    assert put("pets2/train/cat/1.png", b"1") == first
    second = put("pets/train/cat/1.png", b"2")
    third = put("pets/train/cat/2.png", b"2")
    assert len({first, second, third}) == 3


def test_what_is_not_there_is_the_users_mistake(server, bucket, model, scratch, tmp_path):
    elsewhere = f"{server.scheme}://tests-elsewhere/pets"
    with pytest.raises(UserError, match=f"{bucket}/nothing does not exist"):
        read(f"{bucket}/nothing", scratch)
    with pytest.raises(UserError, match=r"no (bucket|container) tests-elsewhere"):
        read(elsewhere, scratch)
    with pytest.raises(UserError, match=f"no model at {bucket}/serving/1"):
        Workdir(tmp_path).model(f"{bucket}/serving/1")
    if server.scheme != "s3":  # SeaweedFS makes it
        with pytest.raises(UserError, match=r"no (bucket|container) tests-elsewhere"):
            pushing.push(str(model), elsewhere)


def test_a_destination_is_looked_at_before_the_run(server, bucket):
    for place in (f"{bucket}/serving", f"{server.scheme}://{server.bucket}"):
        run.localised(settings.load(**{"push.destination": place}))
    with pytest.raises(UserError, match=r"push\.destination: .* no (bucket|container) tests-elsewhere"):
        run.localised(settings.load(**{"push.destination": f"{server.scheme}://tests-elsewhere/pets"}))


@pytest.mark.parametrize("place", ["S3://bucket/x", "hdfs://server/x", "minio://bucket/x"])
def test_a_destination_in_no_store_that_is_known_is_refused(place):
    with pytest.raises(UserError, match=r"push\.destination=.*: name a folder, or write s3://BUCKET/FOLDER"):
        run.localised(settings.load(**{"push.destination": place}))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported model that names the strongest colour."""
    layers = [keras.Input([8, 8, 3], dtype="uint8"), keras.layers.Rescaling(5 / 255, dtype="float32")]
    network = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D()])
    folder = tmp_path_factory.mktemp("exported") / "model"
    colours = DataSummary(("red", "green", "blue"), (1, 1, 1), (0.0,) * 3, (1.0,) * 3, 8)
    export.export(network, colours, folder)
    return folder


def test_a_model_is_pushed_once_and_predicts_from_there(bucket, exported, tmp_path, monkeypatch):
    (tmp_path / "card.md").write_text("# Card")
    path, version = pushing.push(str(exported), f"{bucket}/serving", str(tmp_path / "card.md"))
    assert path == f"{bucket}/serving/{version}"
    assert object_store.read(f"{path}/{pushing.CARD}") == b"# Card"
    assert pushing.pushed_fingerprint(path) == versions.fingerprint(str(exported))
    assert pushing.push(str(exported), f"{bucket}/serving") == (path, version)
    assert versions.versions(f"{bucket}/serving") == [int(version)]

    PIL.Image.fromarray(np.full((16, 16, 3), (10, 200, 30), "uint8")).save(tmp_path / "leaf.png")
    arguments = ["predict", str(tmp_path / "leaf.png"), "--model", path, "--workdir", str(tmp_path / "work")]
    done = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["class_name"] == "green"
