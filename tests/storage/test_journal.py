"""The log beside versions, on a volume and in object stores."""

import concurrent.futures
import os

import pytest

from storage import journal


@pytest.fixture(params=["volume", "store"])
def folder(request, tmp_path):
    if request.param == "volume":
        return str(tmp_path)
    request.getfixturevalue("s3")
    return "s3://bucket/serving"


def test_what_was_appended_is_read_in_its_order(folder):
    assert journal.read(folder) == []
    for number in range(12):
        journal.append(folder, {"number": number, "why": "Käse\n\u2028x"})
    assert [entry["number"] for entry in journal.read(folder)] == list(range(12))
    assert journal.read(folder)[0]["why"] == "Käse\n\u2028x"


def test_writers_at_once_lose_nothing(folder):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: journal.append(folder, {"number": number}), range(24)))
    assert sorted(entry["number"] for entry in journal.read(folder)) == list(range(24))


@pytest.mark.parametrize("torn", [b'{"number": 1, "wh', b"{", b"\xff\xfe", b"[1]", b'{"number": 1}\n{"numb'])
def test_a_torn_line_is_passed_over_and_the_next_begins_anew(tmp_path, torn):
    journal.append(str(tmp_path), {"number": 0})
    with open(tmp_path / journal.FILE, "ab") as file:
        file.write(torn)
    before = journal.read(str(tmp_path))
    journal.append(str(tmp_path), {"number": 2})
    assert journal.read(str(tmp_path)) == [*before, {"number": 2}]
    assert before[0] == {"number": 0}


def test_of_an_entry_that_does_not_fit_nothing_is_left(tmp_path, monkeypatch):
    journal.append(str(tmp_path), {"number": 0})
    before = (tmp_path / journal.FILE).read_bytes()
    write = os.write

    def full(descriptor, content):
        monkeypatch.setattr(os, "write", refuse)
        return write(descriptor, bytes(content)[:5])

    def refuse(descriptor, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        journal.append(str(tmp_path), {"number": 1})
    assert (tmp_path / journal.FILE).read_bytes() == before


def test_a_missing_folder_has_no_entries(tmp_path):
    assert journal.read(str(tmp_path / "none")) == []
    (tmp_path / "file").touch()
    assert journal.read(str(tmp_path / "file")) == []
