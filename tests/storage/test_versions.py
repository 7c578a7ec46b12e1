"""Folders of versions on a volume and in object stores, each of those that are there: see `store_servers`."""

import collections
import concurrent.futures
import contextlib
import http.server
import os
import threading
import time

import pytest
import requests
import store_servers

from storage import object_store, object_versions, retention, versions
from storage.object_store import ObjectStoreError


def names(uri):
    return sorted(one.name for one in object_store.listed(uri))


def put(folder, **objects):
    for name, body in objects.items():
        object_store.write(body, f"{folder}/{name}")


def test_the_same_is_not_recorded_twice(tmp_path, made):
    history = str(tmp_path / "history")
    for _ in range(2):
        versions.record(str(made), history)
    assert len(versions.versions(history)) == 1
    (made / "Split-train/stats.pb").write_text("two")
    versions.record(str(made), history)
    assert len(versions.versions(history)) == 2


def test_old_versions_go_with_what_lies_beside_them(tmp_path, made):
    history = tmp_path / "history"
    for number in range(5):
        (made / "Split-train/stats.pb").write_text(str(number))
        versions.record(str(made), str(history), {"span": number})
        retention.prune(str(history), 2)
    numbers = versions.versions(str(history))
    assert len(numbers) == 2
    assert sorted(path.name for path in history.iterdir()) == sorted(
        [".lock"] + [str(n) for n in numbers] + [f"{n}.json" for n in numbers]
    )


def test_a_copy_that_fails_leaves_nothing_behind(tmp_path, made, monkeypatch):
    def fail(source, target):
        os.makedirs(target)
        raise OSError("no space left on device")

    monkeypatch.setattr(versions.io_utils, "copy_dir", fail)
    with pytest.raises(OSError, match="no space"):
        versions.record(str(made), str(tmp_path / "history"))
    assert [path.name for path in (tmp_path / "history").iterdir()] == [".lock"]


def test_a_removed_version_stops_counting_before_its_files_go(tmp_path, made, monkeypatch):
    history = str(tmp_path / "history")
    number = versions.publish(str(made), history, "one", properties={"span": 1})
    other = versions.publish(str(made), history, "two")

    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as while_killed:
        while_killed.setattr(versions, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            versions.remove(history, number)
    assert versions.versions(history) == [other]
    versions.remove(history, number)  # is there no longer, and clears up
    assert sorted(os.listdir(history)) == [".lock", str(other)]
    versions.remove(str(tmp_path / "nowhere"), 1)


# In object stores


def watch(monkeypatch, tell):
    """Calls `tell` with the URI of each object before it is written."""
    write, create = object_store.write, object_store.create
    monkeypatch.setattr(object_store, "write", lambda content, uri: (tell(uri), write(content, uri)))
    monkeypatch.setattr(object_store, "create", lambda uri, body: (tell(uri), create(uri, body))[1])


@pytest.fixture
def serving(bucket):
    return f"{bucket}/serving/pets"


def test_a_version_is_a_complete_copy_and_says_so_last(serving, model, monkeypatch):
    written = []
    watch(monkeypatch, written.append)
    version = versions.publish(str(model), serving, "digest", {"assets.extra/pushed.json": b"{}"})
    (turn,) = [name for name in names(serving) if name.startswith(".claims/0-")]
    assert object_store.read(f"{serving}/{turn}") == str(version).encode()
    assert set(names(serving)) == {
        turn,
        ".claims/tried",
        f".claims/{version}",
        f"{version}.json",
        f"{version}/assets.extra/pushed.json",
        f"{version}/saved_model.pb",
        f"{version}/variables/variables.index",
    }
    assert written[-2:] == [f"{serving}/{version}/saved_model.pb", f"{serving}/{version}.json"]
    assert versions.versions(serving) == [version]
    assert versions.versions(f"{serving}2") == []


def test_the_same_is_published_once_and_another_is_a_higher_version(serving, model):
    first = versions.publish(str(model), serving, "one")
    assert versions.publish(str(model), serving, "one") == first
    second = versions.publish(str(model), serving, "two")
    third = versions.publish(str(model), serving, "one")
    assert versions.versions(serving) == [first, second, third]


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.index", ".json"])
def test_a_push_that_dies_leaves_nothing_that_counts_and_is_taken_up_again(serving, model, monkeypatch, file):
    class Killed(BaseException):
        pass

    def die(uri):
        if uri.endswith(file):
            raise Killed

    versions.publish(str(model), serving, "before")
    before = versions.versions(serving)
    with monkeypatch.context() as dying:
        watch(dying, die)
        with pytest.raises(Killed):
            versions.publish(str(model), serving, "digest")
    assert versions.versions(serving) == before
    (abandoned,) = {int(name) for name in names(f"{serving}/.claims") if name.isdecimal()} - set(before)
    assert versions.publish(str(model), serving, "digest") == abandoned
    assert versions.versions(serving) == [*before, abandoned]


def test_another_content_does_not_take_up_what_is_under_way(serving, model):
    later = int(time.time()) + 100
    put(serving, **{f".claims/{later}": b"another", f"{later}/saved_model.pb": b"half"})
    version = versions.publish(str(model), serving, "digest")
    assert version > later
    assert versions.versions(serving) == [version]
    assert f"{later}/saved_model.pb" in names(serving)


def test_what_died_long_ago_is_removed_by_the_next_push(serving, model, monkeypatch):
    put(serving, **{".claims/7": b"digest", "7/saved_model.pb": b"half", ".claims/probe-7": b""})
    now = time.time()
    monkeypatch.setattr(object_versions.time, "time", lambda: now + 3 * object_versions.DAY)
    version = versions.publish(str(model), serving, "digest")
    assert version != 7
    assert not [name for name in names(serving) if "7" in name.split("/")[-1].split("-") or name.startswith("7")]


def test_a_version_that_somebody_removed_does_not_count(serving, model):
    version = versions.publish(str(model), serving, "digest")
    object_store.remove_below(f"{serving}/{version}")
    assert versions.versions(serving) == []
    assert versions.publish(str(model), serving, "digest") > version


def test_a_removed_version_is_gone_with_all_that_belongs_to_it(serving, model, monkeypatch):
    first, second = (versions.publish(str(model), serving, digest) for digest in ("one", "two"))

    def killed(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as while_killed:
        while_killed.setattr(object_store, "remove_below", killed)
        with pytest.raises(KeyboardInterrupt):
            versions.remove(serving, first)
    assert versions.versions(serving) == [second]
    versions.remove(serving, first)
    gone = (f".claims/{first}", f"{first}.json")
    assert not [name for name in names(serving) if name in gone or name.startswith(f"{first}/")]
    assert versions.versions(serving) == [second]
    versions.remove(serving, first)


def test_pushes_of_one_model_that_claim_different_numbers_make_one_version(serving, model, monkeypatch):
    """Both see an empty folder, and the second before the clock goes on between them."""
    create, made = object_store.create, []

    def meanwhile(uri, body):
        if uri.rpartition("/")[2].isdecimal() and not made:
            made.append(0)
            monkeypatch.setattr(object_versions.time, "time", lambda: now + 1)
            made[0] = versions.publish(str(model), serving, "digest")
            monkeypatch.setattr(object_versions.time, "time", lambda: now)
        return create(uri, body)

    now = time.time()
    monkeypatch.setattr(object_versions.time, "time", lambda: now)
    monkeypatch.setattr(object_store, "create", meanwhile)
    assert versions.publish(str(model), serving, "digest") == made[0]
    assert versions.versions(serving) == made


def test_what_was_removed_can_be_pushed_again(serving, model):
    first = versions.publish(str(model), serving, "digest")
    versions.remove(serving, first)
    second = versions.publish(str(model), serving, "digest")
    assert versions.versions(serving) == [second]


@pytest.mark.parametrize("same", [True, False])
def test_pushes_at_once(serving, tmp_path, same):
    models = []
    for number in range(8):
        folder = tmp_path / str(number)
        (folder / "variables").mkdir(parents=True)
        content = b"same" if same else b"%d" % number
        (folder / "saved_model.pb").write_bytes(content)
        (folder / "variables" / "variables.index").write_bytes(content)
        models.append(str(folder))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda one: versions.publish(one, serving, versions.fingerprint(one)), models))
    assert versions.versions(serving) == sorted(set(made))
    assert len(set(made)) == (1 if same else 8)
    contents = collections.defaultdict(set)
    for number in made:
        for one in object_store.find(f"{serving}/{number}"):
            contents[number].add(object_store.read(one.uri))
    assert all(len(found) == 1 for found in contents.values())


def test_records_keep_their_properties_and_old_ones_go(bucket, tmp_path):
    history = f"{bucket}/history"
    folder = tmp_path / "made" / "Split-train"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / "stats.pb").write_text(str(number))
        properties = {"split_names": '["train"]', "span": number}
        versions.record(str(folder.parent), history, properties)
        retention.prune(history, 2)
    numbers = versions.versions(history)
    assert len(numbers) == 2
    left = {name.split("/")[0].removesuffix(".json") for name in names(history) if ".claims" not in name}
    assert left == {str(number) for number in numbers}


def test_a_version_that_is_removed_while_another_push_completes_it_is_made_anew(serving, model, monkeypatch):
    """Two pushes of one model; the first is done, and its version already old, when the second uploads."""
    upload, first = object_store.upload, []

    def late(file, uri):
        if uri.endswith("saved_model.pb") and not first:
            monkeypatch.setattr(object_store, "upload", upload)
            first.append(versions.publish(str(model), serving, "digest"))
            versions.publish(str(model), serving, "newer")
            versions.remove(serving, first[0])
        upload(file, uri)

    monkeypatch.setattr(object_store, "upload", late)
    second = versions.publish(str(model), serving, "digest")
    assert second > first[0]
    assert first[0] not in versions.versions(serving)
    for number in versions.versions(serving):
        assert {f"{number}/saved_model.pb", f"{number}/variables/variables.index"} <= set(names(serving))
    assert not [name for name in names(serving) if name.startswith(f"{first[0]}/")]


def test_a_store_is_tried_once_for_each_folder(serving, model, monkeypatch):
    tried = []
    monkeypatch.setattr(object_store, "excludes", lambda folder: not tried.append(folder))
    for digest in ("one", "two"):
        versions.publish(str(model), serving, digest)
    versions.publish(str(model), f"{serving}2", "one")
    assert tried == [f"{serving}/.claims", f"{serving}2/.claims"]


class Hasty(http.server.BaseHTTPRequestHandler):
    """A store that looks whether an object is there and then writes it, as SeaweedFS did before 4.18."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        there = self.path in self.server.objects
        if not there:
            with contextlib.suppress(threading.BrokenBarrierError):
                self.server.together.wait(5)  # until a second writer has looked as well
            self.server.objects[self.path] = body
        self.answer(412 if there else 200)

    def do_DELETE(self):
        self.server.objects.pop(self.path, None)
        self.answer(204)

    def do_HEAD(self):
        self.answer(404)

    def answer(self, status):
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_a_store_that_looks_before_it_writes_is_refused_at_the_first_push(s3, model, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hasty) as server:
        server.objects, server.together = {}, threading.Barrier(2)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
            store_servers.forget()
            with pytest.raises(ObjectStoreError, match=r"SeaweedFS does from 4\.18 on"):
                versions.publish(str(model), "s3://bucket/x", "digest")
            assert server.objects == {}
        finally:
            server.shutdown()


class PassingOn(http.server.BaseHTTPRequestHandler):
    """A store that asks another one."""

    protocol_version = "HTTP/1.1"
    behind = ""

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        got = requests.request(self.command, self.behind + self.path, headers=self.asked(), data=body, timeout=30)
        if not self.answers():
            self.close_connection = True
            return
        self.send_response(got.status_code)
        for name in ("ETag", "Last-Modified", "Content-Range"):
            if name in got.headers:
                self.send_header(name, got.headers[name])
        length = got.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(got.content))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(got.content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def asked(self):
        return dict(self.headers.items())

    def answers(self):
        return True

    def log_message(self, *arguments):
        pass


class Ignorant(PassingOn):
    """One that does not know conditional writes."""

    def asked(self):
        return {name: value for name, value in self.headers.items() if name.lower() != "if-none-match"}


class Breaking(PassingOn):
    """One whose connection breaks after each object was written under a condition, or removed, for the first time."""

    broken = set()

    def answers(self):
        what = self.command, self.path
        if what in self.broken or not (self.command == "DELETE" or "if-none-match" in self.headers):
            return True
        self.broken.add(what)
        return False


@contextlib.contextmanager
def in_front(kind, behind, monkeypatch):
    handler = type("Handler", (kind,), {"behind": behind, "broken": set()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        store_servers.forget()
        yield handler
        server.shutdown()


def test_a_store_without_conditional_writes_is_refused_at_the_first_push(s3, s3_server, model, monkeypatch):
    with in_front(Ignorant, s3_server, monkeypatch):
        with pytest.raises(ObjectStoreError, match=r"store of s3://bucket/x does not know conditional writes"):
            versions.publish(str(model), "s3://bucket/x", "digest")
        assert names("s3://bucket") == []


def test_answers_that_are_lost_make_no_second_version(s3, s3_server, model, monkeypatch):
    with in_front(Breaking, s3_server, monkeypatch) as handler:
        number = versions.publish(str(model), "s3://bucket/x", "digest")
        # Each object of the trial was written and removed; then come what says that it was, the claim, whose turn it
        # is and the marker.
        assert len(handler.broken) == 2 * object_store.ROUNDS + 4
        assert versions.versions("s3://bucket/x") == [number]
        assert versions.publish(str(model), "s3://bucket/x", "digest") == number
    turn, *others = sorted(names("s3://bucket/x/.claims"))
    assert (turn.startswith("0-"), others) == (True, [str(number), "tried"])


@pytest.mark.parametrize("name", ["minio", pytest.param("seaweedfs", marks=pytest.mark.slow)])
def test_a_server_that_is_killed_in_mid_push_leaves_nothing_that_counts(tmp_path, model, monkeypatch, name):
    server = store_servers.start(name, tmp_path / "server")
    try:
        store_servers.lead_to(monkeypatch, server.environment)
        serving = f"s3://{server.bucket}/serving"
        first = versions.publish(str(model), serving, "one")
        upload = object_store.upload

        def dying(file, uri):
            if uri.endswith("saved_model.pb"):
                server.kill()
            upload(file, uri)

        with monkeypatch.context() as while_dying:
            while_dying.setattr(object_store, "upload", dying)
            with pytest.raises(ObjectStoreError, match="cannot be reached"):
                versions.publish(str(model), serving, "two")
        server.start()
        assert versions.versions(serving) == [first]
        second = versions.publish(str(model), serving, "two")
        assert versions.versions(serving) == [first, second]
    finally:
        server.close()
