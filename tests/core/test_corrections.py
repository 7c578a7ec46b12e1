"""The list of corrected labels: what is written is read back, and what is wrong with a list is one sentence."""

import re

import pytest

from core import corrections
from core.corrections import Correction
from core.errors import UserError

CLASSES = ("cat", "dog", "Drop-off", "=1+1")


def parse(text, encoding="utf-8"):
    return corrections.parse(text.encode(encoding), "list.csv", CLASSES)


def test_rows_with_an_action_are_read():
    found = parse("id,action\na,keep\nb,\nc,DROP\n d ,dog\n\ne, Drop-off \n")
    assert found == [
        Correction(2, "a", "", "keep"),
        Correction(4, "c", "", "drop"),
        Correction(5, " d ", "", "dog"),  # the name of a file may begin with a space
        Correction(7, "e", "", "Drop-off"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_spreadsheets_make_of_it_is_read(delimiter, encoding, newline):
    lines = [["id", "label", "action", "digest"], ['"a, b; c"', "cat", "dog", "AB"], ["ü", "dog", "keep", ""]]
    text = newline.join(delimiter.join(line) for line in lines) + newline
    assert parse(text, encoding) == [Correction(2, "a, b; c", "ab", "dog"), Correction(3, "ü", "", "keep")]


def test_what_is_written_is_read_back():
    rows = [
        {"id": 'a "quoted", id', "label": "cat", "action": "dog", "digest": "0f", "file": "not a column"},
        {"id": "b", "label": "dog", "label_probability": 0.25},
    ]
    text = corrections.text(rows)
    assert text.splitlines()[0] == ",".join(corrections.COLUMNS)
    assert parse(text) == [Correction(2, 'a "quoted", id', "0f", "dog")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "list.csv has no column id and no column action, but nothing: start from what"),
        ("id,label\na,cat\n", "list.csv has no column action, but id, label: start"),
        ("action\nkeep\n", "list.csv has no column id, but action: start"),
        ('{"id": "a"}', "has no column id and no column action, but"),
        (
            "id,action\na,dig\n",
            "line 2: the action dig is neither keep nor drop nor a class of the data; did you mean",
        ),
        ("id,action\na,zebra\n", "write keep, drop, or one of cat, dog, Drop-off, =1+1."),
        ("id,action\na,CAT\n", "line 2: the action CAT is neither"),
        (
            "id,action\na,keep\na,drop\n",
            "line 3: a shall be drop here, and keep in line 2; leave one of the two rows",
        ),
        ("id,action\n,keep\n", "line 2: the row has an action and no id"),
        ("id,action\na,b,keep\n", "line 2: the row has more values than the first line has columns"),
        ('id,action\n"a,keep\n', r"line \d: this is no CSV \(unexpected end of data\)"),
    ],
)
def test_a_mistake_is_one_sentence(text, said):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert re.search(said.replace("+", r"\+"), str(caught.value)), caught.value
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_refused():
    with pytest.raises(UserError, match=r"list\.csv is no CSV file in UTF-8"):
        corrections.parse(b"PK\3\4\xff\xfe", "list.csv", CLASSES)


@pytest.mark.parametrize("rows", ["a,keep\na,keep\n", "a,keep\n\na,keep\n"])
def test_the_same_row_twice_counts_once(rows):
    assert parse(f"id,action\n{rows}") == [Correction(2, "a", "", "keep")]


def test_pictures_that_share_an_id_have_corrections_of_their_own():
    found = parse("id,digest,action\na,01,keep\na,02,drop\n")
    assert [(each.digest, each.action) for each in found] == [("01", "keep"), ("02", "drop")]


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv cannot be read: there is no such file"):
        corrections.read(str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match="it is a folder"):
        corrections.read(str(tmp_path))


def test_a_list_in_an_object_store(s3):
    s3.put_object(Bucket="bucket", Key="list.csv", Body=b"id,action\n")
    assert corrections.read("s3://bucket/list.csv") == b"id,action\n"
    with pytest.raises(UserError, match=r"data\.corrections: .*none\.csv"):
        corrections.read("s3://bucket/none.csv")


def test_work_that_was_done_stays_when_new_suspects_are_added():
    before = corrections.text(
        [
            {"id": "a", "digest": "01", "action": "dog", "label": "cat"},
            {"id": "b", "digest": "02"},  # nobody has decided
            {"id": "c", "action": "keep"},
        ]
    )
    new = [{"id": id, "digest": digest, "action": ""} for id, digest in (("a", "01"), ("b", "02"), ("c", "3"))]
    found = corrections.merged(before.encode(), "list.csv", [*new, {"id": "a", "digest": "09", "action": ""}])
    assert [(row["id"], row["digest"], row["action"]) for row in found] == [
        ("a", "01", "dog"),
        ("c", "", "keep"),
        ("b", "02", ""),
        ("a", "09", ""),
    ]
    assert found[0]["label"] == "cat"
