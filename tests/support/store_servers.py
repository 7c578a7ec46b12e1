"""Object stores to test against, each a process of its own on this machine.

    moto              S3's API as far as it goes; always there
    seaweedfs, minio  S3's API, real servers
    google            fake-gcs-server, the emulator of Google Cloud Storage
    azure             Azurite, Microsoft's own emulator of Azure Blob Storage

`.ci/stores` puts the last four into a cache folder. What is found neither there nor on the PATH is skipped; with its
program named in REQUIRE_STORES, it fails.
"""

import base64
import contextlib
import datetime
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import uuid

import gcs_front
import pytest
import requests
from ports import kept_ports

PROGRAMS = {"seaweedfs": "weed", "minio": "minio", "google": "fake-gcs-server", "azure": "azurite-blob"}
NAMES = ("moto", *PROGRAMS)
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "alexnet-pipeline/bin")
START = 180  # seconds until a server answers, at any load
KEY, SECRET = "tests-key", "tests-secret"
AZURE_KEY = base64.b64encode(b"secret of the tests of this account").decode()
WRONG_KEY = base64.b64encode(b"some other secret").decode()


def found(name):
    """The path of a server's program, None if it is not here."""
    return shutil.which(PROGRAMS[name], path=os.pathsep.join([os.environ.get("PATH", ""), str(CACHE)]))


def program(name):
    """The path of a server's program, or the test ends here."""
    if path := found(name):
        return path
    wanted = PROGRAMS[name]
    reason = f"{wanted} was found neither on the PATH nor in {CACHE}: .ci/stores puts it there"
    if wanted in os.environ.get("REQUIRE_STORES", "").split():
        pytest.fail(reason)
    pytest.skip(reason)


class Server:
    """One that runs; `kill` and `start` may follow each other, with what was stored if `keeps`.

    Attributes:
        bucket: one that it has.
        scheme: of its URIs.
        environment: what leads to it, with the right credentials.
        wrong: the variables that differ with wrong credentials.
        credentials: the variables without which there are none.
        endpoint: the variable that says where it is.
        url: what a sentence names as its place.
        named: what of `environment` a sentence on credentials names.
    """

    keeps = True
    bucket = "tests-bucket"
    scheme = "s3"
    wrong = {"AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    credentials = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    endpoint = "AWS_ENDPOINT_URL"
    named = "AWS_ACCESS_KEY_ID"

    def __init__(self, folder):
        self.folder = folder
        self._ports = contextlib.ExitStack()
        self.port, *self.others = self._ports.enter_context(kept_ports(8))
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = None
        self.start()
        self.make_bucket(self.bucket)

    @property
    def environment(self):
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | self.settings(),
                start_new_session=True,
            )
        until = time.monotonic() + START
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                pytest.fail(f"{type(self).__name__} does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self):
        """Ends it at once, as a power cut does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self):
        self.kill()
        self._ports.close()

    def settings(self):
        return {}

    def answers(self):
        return status(self.url + self.health) == 200

    def make_bucket(self, name):
        import boto3

        boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        ).create_bucket(Bucket=name)


class Moto(Server):
    keeps = False
    health = "/moto-api/"

    def command(self):
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]


class SeaweedFS(Server):
    health = "/healthz"

    def command(self):
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        (self.folder / "data").mkdir(exist_ok=True)
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port")
        places = dict(zip((*names, "filer.port.grpc", "s3.port.grpc"), self.others, strict=True))
        ports = [f"-{name}={port}" for name, port in places.items()]
        alone = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        small = ["-volume.max=30", "-master.volumeSizeLimitMB=64"]
        others = ["-master.electionTimeout=1s", "-master.telemetry=false"]
        s3 = ["-s3", "-s3.config=s3.json", f"-s3.port={self.port}"]
        start = [program("seaweedfs"), "-logtostderr=true", "server", "-dir=data"]
        return [*start, *alone, *small, *others, *s3, *ports]

    def answers(self):
        """Also that there is a place for what is written, which takes some seconds longer."""
        with contextlib.suppress(requests.RequestException, ValueError):
            place = requests.get(f"http://127.0.0.1:{self.others[0]}/dir/assign", timeout=5).json()
            return "fid" in place and super().answers()
        return False


class MinIO(Server):
    health = "/minio/health/ready"

    def command(self):
        console = f"127.0.0.1:{self.others[0]}"
        return [
            program("minio"), "server", "data", "--address", f"127.0.0.1:{self.port}", "--console-address", console
        ]  # fmt: skip

    def settings(self):
        return {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET}

    def answers(self):
        # It says that it is ready before it takes requests; then it refuses this one, which is not signed.
        return super().answers() and status(self.url) == 403


class Google(Server):
    scheme = "gs"
    credentials = ("GOOGLE_APPLICATION_CREDENTIALS",)
    endpoint = "GOOGLE_BASE_URL"
    named = "GOOGLE_APPLICATION_CREDENTIALS"
    health = "/_internal/healthcheck"

    def __init__(self, folder):
        super().__init__(folder)
        key = gcs_front.new_key()
        self._front = gcs_front.Front(self.url, key)
        self.url = self._front.url
        self._key = gcs_front.key_file(folder / "key.json", key, f"{self.url}/token")
        other = gcs_front.key_file(folder / "other.json", gcs_front.new_key(), f"{self.url}/token")
        self.wrong = {"GOOGLE_APPLICATION_CREDENTIALS": other}

    @property
    def environment(self):
        return {
            "GOOGLE_APPLICATION_CREDENTIALS": self._key,
            "GOOGLE_BASE_URL": self.url,
            "CLOUDSDK_CONFIG": str(self.folder),  # no credentials of whoever runs the tests
            "NO_GCE_CHECK": "true",
        }

    def command(self):
        (self.folder / "data").mkdir(exist_ok=True)
        return [
            program("google"), "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port),
            "-public-host", f"127.0.0.1:{self.port}", "-backend", "filesystem", "-filesystem-root", "data",
            "-log-level", "error",
        ]  # fmt: skip

    def answers(self):
        return status(f"http://127.0.0.1:{self.port}{self.health}") == 200

    def make_bucket(self, name):
        buckets = f"http://127.0.0.1:{self.port}/storage/v1/b"
        requests.post(buckets, json={"name": name}, timeout=30).raise_for_status()

    def close(self):
        super().close()
        self._front.close()


class Azure(Server):
    keeps = False  # what it knows of its blobs reaches the disk some time later
    scheme = "az"
    wrong = {"AZURE_STORAGE_ACCOUNT_KEY": WRONG_KEY}
    credentials = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY")
    endpoint = "AZURE_STORAGE_ENDPOINT"
    named = "AZURE_STORAGE_ACCOUNT_NAME"

    @property
    def environment(self):
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": "tests",
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "AZURE_STORAGE_ENDPOINT": f"{self.url}/tests",
        }

    def command(self):
        return [
            program("azure"), "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", "data",
            "--disableTelemetry", "--skipApiVersionCheck", "--silent",
        ]  # fmt: skip

    def settings(self):
        return {"AZURITE_ACCOUNTS": f"tests:{AZURE_KEY}"}

    def answers(self):
        return status(f"{self.url}/tests?comp=list") == 403

    def make_bucket(self, name):
        url = f"{self.url}/tests/{name}"
        date = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        # Shared Key: the method, eleven headers that are empty here, those of x-ms, the resource and its query.
        path = urllib.parse.urlparse(url).path
        signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/tests{path}\nrestype:container"
        digest = hmac.new(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey tests:{base64.b64encode(digest).decode()}",
        }
        requests.put(url, params={"restype": "container"}, headers=headers, timeout=30).raise_for_status()


KINDS = {"moto": Moto, "seaweedfs": SeaweedFS, "minio": MinIO, "google": Google, "azure": Azure}


def start(name, folder):
    """A server that runs, with its data in a folder; the test ends here where its program is missing."""
    if name in PROGRAMS:
        program(name)
    folder.mkdir(parents=True, exist_ok=True)
    return KINDS[name](folder)


def status(url):
    """What a server answers to GET; None if it does not yet."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(url, timeout=5).status_code
    return None


def lead_to(monkeypatch, environment):
    """Makes the variables of object stores those of `environment`, and no others."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "CLOUDSDK_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    forget()


def try_briefly(monkeypatch):
    """Gives the trial of conditional writes in each new folder one round; SeaweedFS needs a second for it."""
    from storage import object_store

    monkeypatch.setattr(object_store, "ROUNDS", 1)


@contextlib.contextmanager
def new_folder(server, monkeypatch):
    """The URI of a folder of its own in a server that runs, to which the environment leads."""
    lead_to(monkeypatch, server.environment)
    try_briefly(monkeypatch)
    yield f"{server.scheme}://{server.bucket}/{uuid.uuid4().hex}"
    forget()


def forget():
    """Lets the next use of an object store look at the environment anew."""
    from storage import stores

    stores.forget()
