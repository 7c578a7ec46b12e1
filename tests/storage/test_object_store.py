"""Object stores, each of those that are there: see `store_servers`."""

import concurrent.futures
import contextlib
import datetime
import hashlib
import http.server
import io
import ipaddress
import os
import socket
import ssl
import threading

import pytest
import store_servers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from ports import closed_port
from s3_objects import put

from storage import object_store, stores
from storage.object_store import ObjectStoreError

LARGE = 2 * object_store.RANGE + 12345  # comes in ranges, and goes in parts


def fill(bucket, **objects):
    for name, body in objects.items():
        object_store.write(body, f"{bucket}/{name}")


def names(uri):
    return sorted(one.name for one in object_store.listed(uri))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of several ranges, and its digest."""
    path = tmp_path_factory.mktemp("large") / "large"
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for number in range(LARGE // len(block) + 1):
            file.write(number.to_bytes(4, "big") + block[4:])
        file.truncate(LARGE)
    return path, digest(path)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_folder_and_a_single_object_are_found(bucket):
    fill(bucket, **{"pets/train/cat/1.png": b"1", "pets/none": b"", "pets2/x": b"other", "one.tar": b"archive"})
    found = object_store.find(f"{bucket}/pets")
    assert [(one.name, one.size) for one in found] == [("none", 0), ("train/cat/1.png", 1)]
    assert [one.uri for one in found] == [f"{bucket}/pets/none", f"{bucket}/pets/train/cat/1.png"]
    assert [one.name for one in object_store.find(f"{bucket}/one.tar")] == ["one.tar"]
    assert object_store.find(f"{bucket}/one.ta") == []
    assert object_store.find(f"{bucket}/nothing") == []
    assert len(object_store.find(bucket)) == 4
    assert object_store.children(f"{bucket}/pets") == (["train"], ["none"])
    assert object_store.children(bucket) == (["pets", "pets2"], ["one.tar"])


def test_a_listing_and_a_look_at_one_object_say_the_same(bucket):
    fill(bucket, **{"pets/one": b"1"})
    (listed,) = object_store.find(f"{bucket}/pets")
    seen = object_store.head(f"{bucket}/pets/one")
    assert (seen.uri, seen.name, seen.size, seen.etag) == (listed.uri, listed.name, listed.size, listed.etag)
    assert int(seen.modified) == int(listed.modified)  # some tell fractions of it in listings alone
    before = listed.etag
    fill(bucket, **{"pets/one": b"2"})
    (listed,) = object_store.find(f"{bucket}/pets")
    assert listed.etag != before


@pytest.mark.parametrize("name", ["sp ace", "100%.png", "%41", "a#b", "a?b", "a+b&c=d", "ü/ñ", "~q'\"*[x]", "😀"])
def test_names_stay_as_they_are(bucket, tmp_path, name):
    fill(bucket, **{f"odd/{name}": name.encode()})
    found = object_store.find(f"{bucket}/odd")
    assert [one.name for one in found] == [name]
    object_store.download(found, tmp_path)
    assert (tmp_path / name).read_bytes() == name.encode()
    object_store.remove(found[0].uri)
    assert names(bucket) == []


def test_large_objects_are_the_same_after_the_way_there_and_back(bucket, large, tmp_path):
    path, content = large
    object_store.upload(path, f"{bucket}/pets/large")
    fill(bucket, **{"pets/a/b/small": b"small", "pets/none": b""})
    told = []
    object_store.download(object_store.find(f"{bucket}/pets"), tmp_path / "out", told.append)
    assert digest(tmp_path / "out/large") == content
    assert (tmp_path / "out/a/b/small").read_bytes() == b"small"
    assert (tmp_path / "out/none").read_bytes() == b""
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "large", "none"]
    assert sum(told) == LARGE + 5
    assert len(told) > 10
    object_store.copy(f"{bucket}/pets/large", f"{bucket}/again")
    assert object_store.head(f"{bucket}/again").size == LARGE


def test_an_object_that_changes_meanwhile_is_named(bucket, tmp_path):
    fill(bucket, one=b"before")
    found = object_store.find(f"{bucket}/one")
    fill(bucket, one=b"after!")
    with pytest.raises(ObjectStoreError, match=rf"{bucket}/one was changed while it was read"):
        object_store.download(found, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("server", store_servers.PROGRAMS, indirect=True)
def test_ten_thousand_objects_are_listed_and_a_thousand_removed(bucket):
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda n: object_store.write(b"", f"{bucket}/many/{n % 7}/{n}"), range(10_000)))
    fill(bucket, other=b"")
    assert set(names(f"{bucket}/many")) == {f"{n % 7}/{n}" for n in range(10_000)}
    assert object_store.children(f"{bucket}/many") == ([str(n) for n in range(7)], [])
    there = len(range(0, 10_000, 7))
    assert len(object_store.children(f"{bucket}/many/0")[1]) == there
    object_store.remove_below(f"{bucket}/many/0")
    assert len(names(bucket)) == 10_001 - there


def test_only_one_of_many_creates_an_object(bucket):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for attempt in range(5):
            uri = f"{bucket}/{attempt}"
            won = list(pool.map(lambda number, uri=uri: object_store.create(uri, b"%d" % number), range(8)))
            assert sum(won) == 1
            assert object_store.read(uri) == b"%d" % won.index(True)


def test_a_store_is_tried_for_conditional_writes_and_nothing_is_left(bucket, monkeypatch):
    monkeypatch.setattr(object_store, "ROUNDS", 6)
    assert object_store.excludes(f"{bucket}/folder")
    assert names(bucket) == []


def test_what_is_not_there_can_be_removed(bucket):
    object_store.remove(f"{bucket}/nothing")
    object_store.remove_below(f"{bucket}/nothing")


def test_a_missing_bucket_is_named(server):
    uri = f"{server.scheme}://tests-elsewhere/pets"
    with pytest.raises(ObjectStoreError, match=rf"no (bucket|container) tests-elsewhere at {server.url}"):
        object_store.find(uri)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_bucket_that_cannot_exist_is_named(scheme):
    with pytest.raises(ObjectStoreError, match=rf"{scheme}://a b/pets cannot be used"):
        object_store.find(f"{scheme}://a b/pets")
    with pytest.raises(ObjectStoreError, match="names no bucket"):
        object_store.find(f"{scheme}:///pets")


@pytest.mark.parametrize("server", store_servers.PROGRAMS, indirect=True)  # moto takes any
@pytest.mark.parametrize("use", ["find", "read", "write", "create", "remove", "children"])
def test_wrong_credentials_are_named_and_not_shown(server, bucket, monkeypatch, use):
    fill(bucket, **{"pets": b"1"})
    for name, value in server.wrong.items():
        monkeypatch.setenv(name, value)
    stores.forget()
    given = {"write": (b"2", f"{bucket}/pets"), "create": (f"{bucket}/new", b"2")}.get(use, (f"{bucket}/pets",))
    with pytest.raises(ObjectStoreError, match=r"(refused to|no credentials for)") as caught:
        getattr(object_store, use)(*given)
    said = str(caught.value)
    assert f"{bucket}/" in said
    assert server.named in said
    assert "\n" not in said
    assert len(said) < 400
    for secret in (*server.wrong.values(), *server.environment.values()):
        assert secret not in said or secret.startswith(("http", "/")) or secret in ("true", "tests")
    stores.forget()
    monkeypatch.undo()


def test_moto_as_strict_as_aws_refuses_too(s3, s3_server):
    import requests

    requests.post(f"{s3_server}/moto-api/reset-auth", data=b"0", timeout=30)
    try:
        with pytest.raises(ObjectStoreError, match=r"refused to list s3://bucket/pets.*AWS_ACCESS_KEY_ID"):
            object_store.find("s3://bucket/pets")
    finally:
        requests.post(f"{s3_server}/moto-api/reset-auth", data=b"inf", timeout=30)


def test_absent_credentials_are_named(server, monkeypatch):
    for name in server.credentials:
        monkeypatch.delenv(name)
    stores.forget()
    with pytest.raises(ObjectStoreError, match=rf"no credentials for {server.scheme}://bucket.*: set {server.named}"):
        object_store.find(f"{server.scheme}://bucket/pets")


def test_credentials_of_a_profile_are_found(s3, s3_server, tmp_path, monkeypatch):
    (tmp_path / "config").write_text(f"[profile mine]\nendpoint_url = {s3_server}\nregion = eu-west-1\n")
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    put(s3, one=b"1")
    stores.forget()
    assert object_store.read("s3://bucket/one") == b"1"
    assert stores.store("s3://bucket").config["region"] == "eu-west-1"
    monkeypatch.setenv("AWS_PROFILE", "other")
    stores.forget()
    with pytest.raises(ObjectStoreError, match=r"s3://bucket/one cannot be used: .*profile.*other"):
        object_store.read("s3://bucket/one")


def test_an_unreachable_store_is_named(server, monkeypatch):
    with closed_port() as port:
        url = f"http://127.0.0.1:{port}"
        monkeypatch.setenv(server.endpoint, server.environment[server.endpoint].replace(server.url, url))
        stores.forget()
        said = rf"cannot be reached: {url}, Connection refused.*{server.endpoint}"
        with pytest.raises(ObjectStoreError, match=said):
            object_store.find(f"{server.scheme}://bucket/pets")


def test_an_endpoint_may_end_in_a_slash(server, bucket, monkeypatch):
    fill(bucket, one=b"1")
    monkeypatch.setenv(server.endpoint, f"{server.environment[server.endpoint]}/")
    stores.forget()
    assert names(bucket) == ["one"]
    assert object_store.read(f"{bucket}/one") == b"1"


def test_a_server_that_never_answers_is_told_as_such(s3, monkeypatch):
    monkeypatch.setattr(stores, "_client", lambda *_: {"allow_http": True, "read_timeout": "100ms"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        stores.forget()
        with pytest.raises(ObjectStoreError, match=f"cannot be reached: {url}, it does not answer in time"):
            object_store.find("s3://bucket/pets")


def test_a_password_in_an_endpoint_is_not_told(server, monkeypatch):
    with closed_port() as port:
        place = f"user:hunter2@127.0.0.1:{port}"
        monkeypatch.setenv(server.endpoint, f"http://{place}")
        stores.forget()
        with pytest.raises(ObjectStoreError) as told:
            object_store.find(f"{server.scheme}://bucket/pets")
    assert "hunter2" not in str(told.value)
    assert f"127.0.0.1:{port}" in str(told.value)


def test_a_line_break_at_the_end_of_a_credential_is_told(server, monkeypatch):
    """As a secret has it that was made of a file."""
    for name in server.environment.keys() & stores.KINDS[server.scheme].variables:
        with monkeypatch.context() as changed:
            changed.setenv(name, f"{server.environment[name]}\n")
            stores.forget()
            with pytest.raises(ObjectStoreError, match=f"the variable {name} begins or ends with"):
                object_store.find(f"{server.scheme}://{server.bucket}/pets")


class Dying(io.BytesIO):
    """Lets something happen in the middle of being read."""

    def __init__(self, size, at, then):
        super().__init__(bytes(size))
        self._at, self._then = at, then

    def read(self, size=-1):
        if self._then and self.tell() >= self._at:
            self._then()
            self._then = None
        return super().read(size)


@pytest.mark.parametrize(
    "name",
    # SeaweedFS takes a quarter of a minute to know after its end that it alone is its leader.
    ["moto", pytest.param("seaweedfs", marks=pytest.mark.slow), "minio", "google", "azure"],
)
def test_a_server_that_goes_in_mid_upload_is_named_and_leaves_nothing(name, tmp_path, monkeypatch):
    server = store_servers.start(name, tmp_path / "server")
    try:
        store_servers.lead_to(monkeypatch, server.environment)
        uri = f"{server.scheme}://{server.bucket}/large"
        size = 12 * object_store.PART
        with pytest.raises(ObjectStoreError, match=rf"{uri} cannot be reached: {server.url}.*{server.endpoint}"):
            object_store.write(Dying(size, size * 2 // 3, server.kill), uri)
        if server.keeps:
            server.start()
            assert object_store.find(uri) == []
            object_store.write(bytes(size), uri)
            assert object_store.head(uri).size == size
    finally:
        server.close()


@pytest.mark.parametrize("name", ["moto", "minio", "azure"])
def test_a_server_that_goes_in_mid_download_is_named(name, tmp_path, monkeypatch):
    server = store_servers.start(name, tmp_path / "server")
    try:
        store_servers.lead_to(monkeypatch, server.environment)
        uri = f"{server.scheme}://{server.bucket}/large"
        object_store.write(bytes(4 * object_store.RANGE), uri)
        with pytest.raises(ObjectStoreError, match=rf"{uri} cannot be reached: {server.url}.*{server.endpoint}"):
            object_store.download(object_store.find(uri), tmp_path / "out", lambda count: server.kill())
    finally:
        server.close()


def answering(status, body=b"", context=None):
    """A server that has one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return contextlib.closing(Stopping(server))


class Stopping:
    def __init__(self, server):
        self.port, self._server = server.server_port, server

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def test_a_bucket_in_another_region_is_named(s3, monkeypatch):
    with answering(301, b"<Error><Code>PermanentRedirect</Code></Error>") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        stores.forget()
        with pytest.raises(ObjectStoreError, match="s3://bucket/pets is in another region: set AWS_REGION"):
            object_store.find("s3://bucket/pets")


def test_certificates_are_checked_and_those_of_a_company_may_be_named(s3, tmp_path, monkeypatch):
    key, certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    missing = b"<Error><Code>NoSuchBucket</Code><Message>None.</Message></Error>"
    with answering(404, missing, context) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.port}")
        stores.forget()
        with pytest.raises(ObjectStoreError, match=r"cannot be reached.*certificate"):
            object_store.find("s3://bucket/pets")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        stores.forget()
        with pytest.raises(ObjectStoreError, match="no bucket bucket at https://127"):
            object_store.find("s3://bucket/pets")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    stores.forget()
    with pytest.raises(ObjectStoreError, match=r"s3://bucket/pets cannot be used: .*none\.pem"):
        object_store.find("s3://bucket/pets")


def self_signed(folder):
    """The paths of a key and of its certificate for 127.0.0.1, which is valid today."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    no = serialization.NoEncryption()
    paths = folder / "key.pem", folder / "certificate.pem"
    paths[0].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no))
    paths[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return paths


# What only moto lets one do


def test_what_stands_for_a_folder_is_no_object_of_it(s3, tmp_path):
    put(s3, **{"pets/train/cat/1.png": b"1", "pets/": b"", "pets/train/": b"", "pets/train/cat/": b""})
    found = object_store.find("s3://bucket/pets")
    assert [one.name for one in found] == ["train/cat/1.png"]
    object_store.download(found, tmp_path)
    assert (tmp_path / "train/cat/1.png").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", "./x", "a/..", "tab\tx"])
def test_no_name_leads_out_of_the_folder(s3, tmp_path, name):
    put(s3, **{"pets/good": b"1", f"pets/{name}": b"hostile"})
    with pytest.raises(ObjectStoreError, match=r"^'s3://bucket/pets/.*' cannot be a file, because of its name"):
        object_store.download(object_store.find("s3://bucket/pets"), tmp_path / "in" / "out")
    assert list(tmp_path.rglob("*")) == []


def test_objects_that_cannot_be_files_beside_each_other_are_named(s3, tmp_path):
    put(s3, **{"pets/cat": b"1", "pets/cat/1.png": b"1"})
    with pytest.raises(ObjectStoreError, match=r"s3://bucket/pets/cat.* cannot be written"):
        object_store.download(object_store.find("s3://bucket/pets"), tmp_path / "out")
