"""Archives damaged at random, always in the same ways: read as they were made, or refused in one sentence."""

import collections
import random
import shutil

import numpy as np
import pytest
from archive_data import FORMS, class_folders, damage, files, write
from image_data import batches, write_binary, write_python

from components.sources import BadRecord, open_source
from core.errors import UserError
from core.settings import Data

TRIES = 100  # of each form with each kind of data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Kind of data -> members of an archive of it."""
    folder, made = tmp_path_factory.mktemp("data"), batches(3)
    return {
        "python": files(write_python(folder / "python", made), "cifar-10-batches-py/"),
        "binary": files(write_binary(folder / "binary", made), "cifar-10-batches-bin/"),
        "folders": class_folders(),
    }


def read(path, scratch):
    """Id -> label and image of all records, None for a bad one; and how many members were passed over."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    source = open_source(Data(source=str(path)), scratch)
    records = [record for shard in source.shards() for record in source.read(shard)]
    found = {}
    for record in records:
        if isinstance(record, BadRecord):
            found[record.where] = None
        else:
            image = record.image.tobytes() if isinstance(record.image, np.ndarray) else record.image
            found[record.id] = record.label, image
    assert len(found) == len(records)
    return found, sum(source.ignored().values())


@pytest.mark.parametrize("kind", ["python", "binary", "folders"])
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_archive_is_read_as_it_was_or_refused(form, kind, data, tmp_path):
    path = write(tmp_path / "data.archive", data[kind], form)
    whole, content = path.read_bytes(), read(path, tmp_path / "scratch")
    assert content[0]
    assert None not in content[0].values()
    assert content[1] == 0
    drawn, became = random.Random(f"{form} {kind}"), collections.Counter()
    for _ in range(TRIES):
        damaged, how = damage(whole, drawn)
        path.write_bytes(damaged)
        text = ""
        try:
            found = read(path, tmp_path / "scratch")
        except UserError as problem:
            text = str(problem)
        if text:
            assert "data.archive" in text
            assert str(tmp_path / "scratch") not in text
            assert "\n" not in text
            became["refused"] += 1
        elif found == content:
            became["the same"] += 1
        elif form == "tar":  # has no checksum of the contents: those of the images, if any, are left
            assert found[0].keys() == content[0].keys(), how
            became["with other contents"] += 1
        else:
            assert found[0].items() <= content[0].items(), how
            assert len(found[0]) + found[1] == len(content[0]), how
            became["with members passed over"] += 1
    print(f"{form} of {kind}: {dict(became)}")
    assert became["refused"] > TRIES / 10


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_damaged_pickle_is_read_with_as_many_records_or_refused(protocol, tmp_path):
    folder = write_python(tmp_path / "py", batches(3), protocol)
    path, scratch = folder / "data_batch_2", tmp_path / "scratch"
    whole, content = path.read_bytes(), read(folder, scratch)
    drawn, became = random.Random(protocol), collections.Counter()
    for _ in range(TRIES):
        path.write_bytes(damage(whole, drawn)[0])
        text = ""
        try:
            source = open_source(Data(source=str(folder)), scratch)
            records = [record for shard in source.shards() for record in source.read(shard)]
        except UserError as problem:
            text = str(problem)
        became["refused" if text else "read"] += 1
        assert "data_batch_2" in text if text else len(records) == len(content[0])
    print(f"pickle of protocol {protocol}: {dict(became)}")
    assert became["refused"] > TRIES / 10
