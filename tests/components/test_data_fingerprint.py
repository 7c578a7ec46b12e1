"""The fingerprint of data changes when, and only when, the data do."""

import os
import shutil

import pytest
from image_data import write_folder

from components.sources import fingerprint
from core.errors import UserError
from core.settings import Data


def test_a_folder_of_images(tmp_path):
    root = write_folder(tmp_path / "pets")
    data = Data(source=str(root))
    before = fingerprint.data(data)
    assert fingerprint.data(data) == before
    file = root / "train" / "cat" / "000.png"
    os.utime(file, ns=(0, 1))
    touched = fingerprint.data(data)
    file.rename(file.with_name("renamed.png"))
    renamed = fingerprint.data(data)
    file.with_name("renamed.png").unlink()
    assert len({before, touched, renamed, fingerprint.data(data)}) == 4


def test_what_links_lead_to_counts(tmp_path):
    root = write_folder(tmp_path / "pets")
    data = Data(source=str(root))
    (root / "train" / "cat").rename(tmp_path / "cats")
    (root / "train" / "cat").symlink_to(tmp_path / "cats")
    (root / "train" / "cat" / "back").symlink_to(root)
    seen = [fingerprint.data(data)]
    shutil.copy(tmp_path / "cats" / "000.png", tmp_path / "cats" / "new.png")
    seen.append(fingerprint.data(data))
    (root / "train" / "dog" / "gone.png").symlink_to("/nowhere/1.png")
    seen.append(fingerprint.data(data))
    os.rename(tmp_path / "cats" / "new.png", os.fsencode(tmp_path / "cats") + b"/\xb1\xed.png")
    seen.append(fingerprint.data(data))
    assert len(set(seen)) == 4


def test_a_version_of_the_users_own_is_taken_as_it_is(tmp_path):
    assert fingerprint.data(Data(source=str(tmp_path), version="2026-01")) == "2026-01"


def test_objects_count_by_their_names_sizes_and_etags(s3):
    def put(key, body):
        s3.put_object(Bucket="bucket", Key=key, Body=body)
        return fingerprint.data(Data(source="s3://bucket/pets"))

    first = put("pets/train/cat/1.png", b"1")
    assert put("pets/train/cat/1.png", b"1") == first
    assert put("pets2/train/cat/1.png", b"1") == first
    second = put("pets/train/cat/1.png", b"2")
    third = put("pets/train/cat/2.png", b"2")
    assert len({first, second, third}) == 3


def test_of_spans_of_objects_the_newest_count(s3):
    def put(key):
        s3.put_object(Bucket="bucket", Key=key, Body=b"")
        return fingerprint.data(Data(source="s3://bucket/rolling", newest_spans=1))

    assert put("rolling/span-2/x") == put("rolling/span-1/x")
    assert put("rolling/span-2/x") != put("rolling/span-10/x")


def test_objects_that_cannot_be_listed_are_the_users_mistake(s3):
    with pytest.raises(UserError, match="no bucket elsewhere"):
        fingerprint.data(Data(source="s3://elsewhere/pets"))
