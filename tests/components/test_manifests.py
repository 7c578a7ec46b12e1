"""Manifests: tables that name pictures, their classes, splits and more."""

import collections
import csv
import os
import shutil
import unicodedata

import pandas
import pytest
from archive_data import files, write
from image_data import encoded, picture

from components.sources import BadRecord, Record, fingerprint, manifests, open_source
from core import events
from core.errors import UserError
from core.settings import Data


def read(path, scratch, **options):
    """The source, and (split, record) of all records."""
    source = open_source(Data(source=str(path), **options), scratch)
    return source, [(shard.split, record) for shard in source.shards() for record in source.read(shard)]


def refused(path, scratch, match, **options):
    with pytest.raises(UserError, match=match) as caught:
        read(path, scratch, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(count=20):
    """Of two classes by turns, in two folders, four of five for training."""
    return [
        {
            "path": f"images/{number % 3}/{number:03d}.png",
            "label": ("cat", "dog")[number % 2],
            "split": "test" if number % 5 == 4 else "train",
            "camera": ("A", "B", "")[number % 3],
        }
        for number in range(count)
    ]


def store(root, found, form="csv", without=()):
    """Writes the pictures that do not exist yet, and the manifest; returns its path."""
    for number, row in enumerate(found):
        file = root / row["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(encoded(picture(number, (8, 8))))
    kept = [{key: value for key, value in row.items() if key not in without} for row in found]
    if form == "parquet":
        pandas.DataFrame(kept).to_parquet(root / "labels.parquet")
    else:
        delimiter = {"csv": ",", "semicolons": ";", "tsv": "\t"}[form]
        suffix = "tsv" if form == "tsv" else "csv"
        with open(root / f"labels.{suffix}", "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, [*kept[0]], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(kept)
    return next(root.glob("labels.*"))


def text(root, content):
    (root / "labels.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return root / "labels.csv"


@pytest.mark.parametrize("form", ["csv", "semicolons", "tsv", "parquet"])
def test_every_form_of_a_manifest_holds_the_same(form, tmp_path, scratch):
    found = rows()
    source, records = read(store(tmp_path, found, form), scratch, features=("camera",))
    assert source.class_names == ("cat", "dog")
    assert not source.own_validation
    assert [split for split, _ in records] == ["train"] * 16 + ["test"] * 4
    for split in ("train", "test"):
        expected = [row for row in found if row["split"] == split]
        assert [record for of, record in records if of == split] == [
            Record(
                (tmp_path / row["path"]).read_bytes(),
                ("cat", "dog").index(row["label"]),
                row["path"],
                {"camera": row["camera"] or "(none)"},
            )
            for row in expected
        ]


@pytest.mark.parametrize("where", ["folder", "zip", "tar.gz", "zip in a folder"])
def test_a_folder_and_an_archive_with_a_manifest_hold_the_same(where, tmp_path, scratch):
    root = tmp_path / "pets"
    manifest = store(root, rows())
    (root / "images" / "more.png").write_bytes(encoded(picture(900, (8, 8))))
    (root / "images" / "notes.txt").write_text("")
    _, expected = read(manifest, scratch)
    top = "pets/" if where == "zip in a folder" else ""
    place = root if where == "folder" else write(tmp_path / f"pets.{where.split()[0]}", files(root, top))
    source, records = read(place, scratch)
    assert records == expected
    assert source.ignored() == {"not named in labels.csv": 1, "not an image file (.txt)": 1}


def test_shards_are_pieces_of_a_long_manifest(tmp_path, scratch, monkeypatch):
    manifest = store(tmp_path, rows(25))
    _, whole = read(manifest, scratch)
    monkeypatch.setattr(manifests, "ROWS", 7)
    source, records = read(manifest, scratch)
    assert len(source.shards()) == 8
    assert records == whole


def test_without_a_split_the_ids_split(tmp_path, scratch):
    manifest = store(tmp_path, rows(100), without=("split",))
    _, records = read(manifest, scratch, test_share=0.4)
    counts = collections.Counter(split for split, _ in records)
    assert 20 < counts["test"] < 60
    assert sum(counts.values()) == len({record.id for _, record in records}) == 100
    before = {record.id: split for split, record in records}
    store(tmp_path, rows(150), without=("split",))
    _, records = read(manifest, scratch, test_share=0.4)
    after = {record.id: split for split, record in records}
    assert {id: after[id] for id in before} == before


def test_a_validation_split_of_its_own(tmp_path, scratch):
    found = [{**row, "split": ("Training", "VAL", "testing")[n % 3]} for n, row in enumerate(rows(30))]
    source, records = read(store(tmp_path, found), scratch)
    assert source.own_validation
    assert [split for split, _ in records] == ["train"] * 10 + ["validation"] * 10 + ["test"] * 10


def test_columns_by_other_names_and_labels_that_are_numbers(tmp_path, scratch):
    found = [
        {"File_Name": row["path"], "Class": number % 11, "Subset": row["split"]}
        for number, row in enumerate(rows(55))
    ]
    for row in rows(55):
        (tmp_path / row["path"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / row["path"]).write_bytes(encoded(picture(1, (8, 8))))
    pandas.DataFrame(found).to_parquet(tmp_path / "x.parquet")
    source, _ = read(tmp_path / "x.parquet", scratch)
    assert source.class_names == tuple(map(str, range(11)))
    frame = pandas.DataFrame(found)
    frame["Class"] = frame["Class"].astype(float)  # as pandas does where a value is missing
    frame.loc[3, "Class"] = float("nan")
    frame.to_parquet(tmp_path / "x.parquet")
    source, records = read(tmp_path / "x.parquet", scratch)
    assert source.class_names == tuple(map(str, range(11)))
    assert [record for _, record in records if isinstance(record, BadRecord)] == [
        BadRecord("images/0/003.png", "no class (row 4 of x.parquet)")
    ]


def test_rows_that_cannot_be_used_are_named(tmp_path, scratch):
    found = rows(10)
    manifest = store(tmp_path, found)
    (tmp_path / found[2]["path"]).unlink()
    (tmp_path / found[3]["path"]).unlink()
    (tmp_path / found[3]["path"]).mkdir()
    content = manifest.read_text(encoding="utf-8-sig").replace("001.png,dog", "001.png,")
    manifest.write_text(f"{content}\n,cat,train,A\n")
    _, records = read(manifest, scratch)
    assert {record.where: record.why for _, record in records if isinstance(record, BadRecord)} == {
        "images/1/001.png": "no class (line 3 of labels.csv)",
        "images/2/002.png": "no such file or directory (line 4 of labels.csv)",
        "images/0/003.png": "is a directory (line 5 of labels.csv)",
        "line 13 of labels.csv": "the row names no file",
    }
    assert len(records) == 11


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("a,b\n1,2\n", r"labels\.csv is no manifest: a manifest has the columns path and label.*; it has a, b\.$"),
        ("", r"labels\.csv is no manifest.*it has none"),
        ("<!DOCTYPE html>\n", r"labels\.csv is a web page"),
        ("path,label\n", r"labels\.csv has no rows"),
        ("path,label\n1.png,\n", r"labels\.csv: the column label is empty in all rows"),
        (
            "path,label\n1.png,cat,x\n",
            r"labels\.csv, line 2: the row has 3 values, and the first line 2 columns; put",
        ),
        ('path,label\n"1.png,cat\n', r"labels\.csv is no CSV file that can be read \(line 2: unexpected end"),
        (b"path,label\n1.png,cat\n\xff.png,dog\n", r"labels\.csv is no CSV file .*\(line 3 is not in UTF-8\): save"),
        (b"\xff\xfep\0a\0", r"labels\.csv is no CSV file .*not in UTF-8"),
        ("path,label,path\n1.png,cat,2.png\n", r"labels\.csv has two columns path: rename one"),
        (
            "path,label\na/1.png,cat\na/./1.png,dog\n",
            r"line 3 of labels\.csv: a/\./1\.png has a row already, line 2; each picture has one class",
        ),
        (
            "path,label,split\n1.png,cat,train\n2.png,cat,hold\n",
            r"line 3 of labels\.csv: split is hold; write train,",
        ),
        (
            "path,label,split\n1.png,cat,train\n2.png,cat,\n",
            r"line 3 of labels\.csv: split has no value; write train",
        ),
        (
            "path,label,split\n1.png,cat,train\n",
            r"labels\.csv has no row whose split is test: add some, or leave the",
        ),
        ("path,label,split\n1.png,cat,test\n", r"labels\.csv has no row whose split is train"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(content, match, tmp_path, scratch):
    refused(text(tmp_path, content), scratch, match)


def test_a_parquet_file_that_is_damaged_or_holds_something_else(tmp_path, scratch):
    manifest = store(tmp_path, rows(), "parquet")
    content = manifest.read_bytes()
    manifest.write_bytes(content[:-40])
    refused(manifest, scratch, r"labels\.parquet is no Parquet table, or damaged .*: get it again")
    pandas.DataFrame([{"image": {"bytes": b"x", "path": "1.png"}, "label": 1}]).to_parquet(manifest)
    refused(manifest, scratch, r"labels\.parquet: the column image holds no text but struct.*: write its pictures as")


@pytest.mark.parametrize("hostile", ["../outside.png", "/etc/passwd", "..\\outside.png", "images/../../outside.png"])
@pytest.mark.parametrize("where", ["folder", "zip"])
def test_nothing_outside_of_a_folder_or_an_archive_is_read(where, hostile, tmp_path, scratch):
    root = tmp_path / "pets"
    found = rows()
    store(root, found)
    store(root, [*found, {**found[0], "path": "x.png"}])
    manifest = root / "labels.csv"
    manifest.write_text(manifest.read_text(encoding="utf-8-sig").replace("x.png", hostile))
    (tmp_path / "outside.png").write_bytes(encoded(picture(1, (8, 8))))
    place = root if where == "folder" else write(tmp_path / "pets.zip", files(root))
    refused(place, scratch, r"line 22 of labels\.csv was refused: .*(outside|passwd).* lies outside of the folder")


def test_a_manifest_that_is_given_itself_may_lead_elsewhere(tmp_path, scratch):
    found = rows()
    store(tmp_path / "pictures", found)
    for number, row in enumerate(found):
        place = tmp_path / "pictures" / row["path"]
        row["path"] = str(place) if number % 2 else os.path.relpath(place, tmp_path / "lists")
    (tmp_path / "lists").mkdir()
    _, records = read(store(tmp_path / "lists", found), scratch)
    assert all(isinstance(record, Record) for _, record in records)
    assert {record.id for _, record in records} == {str(tmp_path / "pictures" / row["path"]) for row in rows()}


def test_paths_as_windows_writes_them_and_names_in_two_forms(tmp_path, scratch):
    store(tmp_path, [{"path": f"K\u00e4se/{n}.png", "label": "ab"[n % 2]} for n in range(20)])
    content = (tmp_path / "labels.csv").read_text().replace("/", "\\")
    (tmp_path / "labels.csv").write_text(content)
    os.rename(tmp_path / "K\u00e4se", tmp_path / unicodedata.normalize("NFD", "K\u00e4se"))
    source, records = read(tmp_path, scratch)
    assert {record.id for _, record in records} == {f"K\u00e4se/{n}.png" for n in range(20)}
    assert all(isinstance(record, Record) for _, record in records)
    assert source.ignored() == {}


def test_further_columns_are_told_of_and_unknown_ones_refused(tmp_path, scratch, monkeypatch):
    manifest = store(tmp_path, [{**row, "size": "1", "two words": "x"} for row in rows()])
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    read(manifest, scratch)
    assert [one["text"] for one in events.Reader(tmp_path / "events").new()] == [
        "labels.csv also has camera: data.features keeps such columns, to slice by"
    ]
    refused(
        manifest, scratch, r"data\.features names lens, but labels\.csv has camera, size, two", features=("lens",)
    )


def test_several_manifests_in_a_folder_are_refused(tmp_path, scratch):
    manifest = store(tmp_path, rows())
    shutil.copy(manifest, tmp_path / "other.csv")
    refused(tmp_path, scratch, r"holds several manifests \(labels\.csv, other\.csv\): give one of them")
    (tmp_path / "other.csv").write_text("name,price\n")
    read(tmp_path, scratch)


def test_folders_of_splits_go_before_a_manifest(image_folder, scratch):
    text(image_folder, "path,label\ntrain/cat/000.png,dog\n")
    source, records = read(image_folder, scratch)
    assert len(records) == 52
    assert source.ignored() == {"outside train/ and test/": 1}


def test_the_fingerprint_is_that_of_the_manifest_and_of_its_pictures(tmp_path):
    found = rows()
    manifest = store(tmp_path, found)
    data = Data(source=str(manifest))
    seen = [fingerprint.data(data)]
    (tmp_path / "images" / "not listed.png").write_bytes(b"x")
    assert fingerprint.data(data) == seen[0]
    os.utime(tmp_path / found[3]["path"], ns=(0, 1))
    seen.append(fingerprint.data(data))
    (tmp_path / found[4]["path"]).unlink()
    seen.append(fingerprint.data(data))
    manifest.write_text(manifest.read_text(encoding="utf-8-sig").replace("cat", "Cat", 1))
    seen.append(fingerprint.data(data))
    assert len(set(seen)) == 4


def test_a_manifest_in_an_object_store(tmp_path, scratch, s3):
    root = tmp_path / "pets"
    found = rows()
    manifest = store(root, found)
    _, expected = read(manifest, scratch)
    for file in [*root.rglob("*.png"), manifest]:
        s3.upload_file(str(file), "bucket", f"data/{file.relative_to(root).as_posix()}")
    s3.put_object(Bucket="bucket", Key="data/images/not listed.png", Body=b"x")
    data = Data(source="s3://bucket/data/labels.csv")
    before = fingerprint.data(data)
    assert read(data.source, scratch)[1] == expected
    assert not list(scratch.rglob("not listed.png"))
    s3.put_object(Bucket="bucket", Key=f"data/{found[0]['path']}", Body=b"changed")
    assert fingerprint.data(data) != before
    s3.put_object(Bucket="bucket", Key="data/labels.csv", Body=b"path,label\n../../x.png,cat\n")
    (tmp_path / "again").mkdir()
    with pytest.raises(UserError, match=r"line 2 of labels\.csv was refused") as caught:
        read(data.source, tmp_path / "again")
    assert str(tmp_path) not in str(caught.value)
