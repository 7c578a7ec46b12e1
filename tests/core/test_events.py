"""Events on their way from the worker to whoever shows them."""

from core import events


def test_what_is_no_event_is_passed_over(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(events.VARIABLE, str(path))
    reader = events.Reader(path)
    assert list(reader.new()) == []
    events.emit("note", text="first")
    with open(path, "ab") as file:
        file.write(b'{"time": 1, "ki\n\0\0\0\n[]\n{}\n"text"\n\xff\xfe\n\n')
    events.emit("note", text="second")
    assert [event["text"] for event in reader.new()] == ["first", "second"]
    with open(path, "ab") as file:
        file.write(b'{"time": 1, "kind": "note", "text": "half')
    assert list(reader.new()) == []
    with open(path, "ab") as file:
        file.write(b' of it"}\n')
    assert [event["text"] for event in reader.new()] == ["half of it"]
