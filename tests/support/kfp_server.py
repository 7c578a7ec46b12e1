"""A server of Kubeflow Pipelines' v2beta1 API for tests: real HTTP, in memory, as strict as KFP's own.

Paths, field names and error bodies are those of kubeflow/pipelines' OpenAPI and Go sources (2.5 to 2.17). Bodies are
checked against kfp-server-api's models and pipelines against KFP's protobuf, unknown fields refused, as KFP does. The
user interface's part answers beside it: ML Metadata as gRPC-web from a real store, files, logs of pods.
"""

import base64
import binascii
import contextlib
import datetime
import email
import graphlib
import json
import re
import ssl
import struct
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

from kubeflow import cron

API = "/apis/v2beta1"
HTTP = {3: 400, 5: 404, 6: 409, 7: 403, 13: 500, 16: 401}  # of the codes of gRPC
NUMBER = (int, float)
KINDS = {"STRING": (str,), "NUMBER_INTEGER": NUMBER, "NUMBER_DOUBLE": NUMBER, "BOOLEAN": (bool,), "LIST": (list,)}
NEWER = {"name", "tags", "plugins_input", "plugins_output"}  # fields that 2.5 does not know
INT64 = {"max_concurrency", "interval_second", "execution_id", "long_value"}
KEYS = {
    "pipelines": {"display_name", "name", "pipeline_id", "created_at", "description", "namespace"},
    "pipeline_versions": {"display_name", "name", "pipeline_version_id", "created_at", "description"},
    "experiments": {"display_name", "name", "experiment_id", "created_at", "namespace"},
    "recurringRuns": {"display_name", "name", "recurring_run_id", "created_at", "updated_at", "description"},
    "runs": {
        "display_name",
        "name",
        "run_id",
        "created_at",
        "finished_at",
        "state",
        "experiment_id",
        "storage_state",
    },
}


class Refusal(Exception):
    """An error of the server: the code of gRPC and what it says."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class KfpServer:
    """Starts when entered. Everything it holds is in plain dictionaries, in the JSON form of the API.

    Attributes:
        version: what it says it is.
        multi_user: whether there are namespaces, each for those whose tokens are let in.
        tokens: token -> the namespaces it may use; empty: no token is asked for.
        ui: whether it is the user interface, which passes API calls on, or the API server alone.
        requests: "METHOD /path" of all requests, in order.
        failing: nodes that fail in runs.
        waits: node -> what Argo says while its pod does not start, one for each look at the run; the node's name may
            be "root-driver".
        reasons: node -> what Argo says of its failure.
        outputs: node -> {name: (type, content)}; content is bytes for a file, or {file name: bytes} for a folder.
        cached: nodes whose results come from the cache.
    """

    def __init__(self, version="2.17.0", multi_user=False, tokens=None, ui=True, tls=None, prefix=""):
        self.version, self.multi_user, self.tokens, self.ui, self.prefix = (
            version,
            multi_user,
            tokens or {},
            ui,
            prefix,
        )
        self.pipelines, self.versions, self.experiments, self.recurring, self.runs = {}, {}, {}, {}, {}
        self.requests, self.failing, self.outputs, self.cached = [], set(), {}, set()
        self.objects, self.logs, self.waits, self.reasons = {}, {}, {}, {}
        self.breaks, self.answers, self.tokens_seen = [], [], set()
        self.fewest = 200  # largest page it gives
        self.clock = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        self.lock = threading.RLock()
        connection = metadata_store_pb2.ConnectionConfig()
        connection.fake_database.SetInParent()
        self.metadata = metadata_store.MetadataStore(connection)
        self.tls = tls

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # an answer in one packet

            def handle_one_request(self):
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    super().handle_one_request()

            def log_message(self, *_):
                pass

            def do_GET(self):
                server.answer(self)

            do_POST = do_DELETE = do_PATCH = do_GET

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        scheme = "http"
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.tls)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://localhost:{self.http.server_port}{self.prefix}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def break_before(self, request):
        """The connection breaks, once, at this request ("METHOD /path", a regular expression); nothing is done."""
        self.breaks.append((re.compile(request), False))

    def break_after(self, request):
        """What is asked for is done, once, but the connection breaks before the answer."""
        self.breaks.append((re.compile(request), True))

    def say(self, request, status, body, **headers):
        """Answers a request so, once."""
        self.answers.append((re.compile(request), status, body, headers))

    def count(self, request):
        """How many requests there were like this."""
        return sum(bool(re.fullmatch(request, one)) for one in self.requests)

    # From here on: what the server does.

    def answer(self, handler):
        size = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(size)
        parts = urllib.parse.urlsplit(handler.path)
        path = parts.path.removeprefix(self.prefix)
        line = f"{handler.command} {path}"
        with self.lock:
            self.requests.append(line)
            self.tokens_seen.add(handler.headers.get("authorization"))
            broken = next((one for one in self.breaks if one[0].fullmatch(line)), None)
            if broken:
                self.breaks.remove(broken)
                if not broken[1]:
                    return self.drop(handler)
            scripted = next((one for one in self.answers if one[0].fullmatch(line)), None)
            if scripted:
                self.answers.remove(scripted)
                return self.send(handler, *scripted[1:])
            query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
            try:
                self.namespaces = self.let_in(handler)
                status, made = 200, self.serve(handler, handler.command, path, query, body)
            except Refusal as refusal:
                status, made = HTTP[refusal.code], self.error(path, refusal)
            if broken:
                return self.drop(handler)
        return self.send(handler, status, made)

    def drop(self, handler):
        handler.close_connection = True
        handler.connection.close()

    def send(self, handler, status, made, headers=()):
        content = made if isinstance(made, bytes) else json.dumps(made).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json" if not isinstance(made, bytes) else "text/plain")
        handler.send_header("Content-Length", str(len(content)))
        for key, value in dict(headers).items():
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(content)

    def error(self, path, refusal):
        if "/upload" in path:
            return {"error_message": str(refusal), "error_details": str(refusal)}
        status = {"@type": "type.googleapis.com/google.rpc.Status", "code": refusal.code, "message": str(refusal)}
        return {"error": str(refusal), "code": refusal.code, "message": str(refusal), "details": [status]}

    def let_in(self, handler):
        if not self.tokens:
            return None
        said = handler.headers.get("authorization", "")
        if said.removeprefix("Bearer ") not in self.tokens:
            raise Refusal(16, f"Request header error: there is no user identity for {said!r}")
        return self.tokens[said.removeprefix("Bearer ")]

    def allow(self, namespace, what):
        """As IsAuthorized of the resource manager."""
        if not self.multi_user:
            return
        if not namespace:
            raise Refusal(3, f"A {what} cannot have an empty namespace in multi-user mode")
        if self.namespaces is not None and namespace not in self.namespaces:
            raise Refusal(7, f"User is not authorized with reason: (request: namespace {namespace!r})")

    def now(self):
        self.clock += datetime.timedelta(seconds=1)
        return self.clock.strftime("%Y-%m-%dT%H:%M:%SZ")

    def serve(self, handler, method, path, query, body):
        if self.ui and path.startswith("/ml_metadata."):
            return self.grpc(path, body)
        if self.ui and path.startswith("/artifacts/"):
            return self.file(path, query)
        if self.ui and path == "/k8s/pod/logs":
            if query["podname"] not in self.logs:
                raise Refusal(13, "Could not get main container logs: Error: pod not found")
            return self.logs[query["podname"]]
        if log := re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", path):
            if self.ui:  # which passes on v1beta1 and v2beta1 alone
                raise Refusal(5, "Not Found")
            # The server answers 200 before it looks.
            gone = b'{"error_message":"Failed to read logs"}'
            return self.logs.get(urllib.parse.unquote(log[2]), gone)
        if old := re.fullmatch(r"/apis/v1beta1/runs/([0-9a-f-]{36})", path):
            return self.workflow(self.find(self.runs, old[1], "Run"))
        if not path.startswith(API):
            raise Refusal(5, "Not Found")
        path = path.removeprefix(API)
        if (method, path) == ("GET", "/healthz"):
            if self.ui:
                return {"apiServerTagName": self.version, "apiServerReady": True, "multi_user": self.multi_user}
            return {"commit_sha": "unknown", "tag_name": self.version, "multi_user": self.multi_user}
        if (method, path) == ("POST", "/pipelines/upload"):
            made = self.create_pipeline({"display_name": query["name"], "namespace": query.get("namespace", "")})
            self.upload_version(handler, query | {"pipelineid": made["pipeline_id"]}, body)
            return made
        if (method, path) == ("POST", "/pipelines/upload_version"):
            return self.upload_version(handler, query, body)
        routes = {
            "GET /pipelines": lambda: self.list("pipelines", self.mine(self.pipelines, query), query),
            "POST /pipelines": lambda: self.create_pipeline(self.read(body, "V2beta1Pipeline")),
            "GET /pipelines/ID/versions": lambda: self.list("pipeline_versions", self.of_pipeline(ids[0]), query),
            "GET /pipelines/ID/versions/ID": lambda: self.find(self.versions, ids[1], "PipelineVersion"),
            "GET /experiments": lambda: self.list("experiments", self.mine(self.experiments, query), query),
            "POST /experiments": lambda: self.create_experiment(self.read(body, "V2beta1Experiment")),
            "GET /runs": lambda: self.list("runs", self.mine(self.runs, query), query),
            "POST /runs": lambda: self.create_run(self.read(body, "V2beta1Run")),
            "GET /runs/ID": lambda: self.advance(self.find(self.runs, ids[0], "Run")),
            "GET /recurringruns": lambda: self.list("recurringRuns", self.mine(self.recurring, query), query),
            "POST /recurringruns": lambda: self.create_recurring(self.read(body, "V2beta1RecurringRun")),
            "GET /recurringruns/ID": lambda: self.find(self.recurring, ids[0], "Job"),
            "DELETE /recurringruns/ID": lambda: self.delete_recurring(ids[0]),
            "POST /recurringruns/ID:enable": lambda: self.switch(ids[0], "ENABLED"),
            "POST /recurringruns/ID:disable": lambda: self.switch(ids[0], "DISABLED"),
        }
        shape, ids = path, [urllib.parse.unquote(part) for part in re.findall(r"/([0-9a-f-]{36})", path)]
        for one in ids:
            shape = shape.replace(one, "ID")
        unknown = re.fullmatch(r"/(pipelines|runs|recurringruns|experiments)/[^/]+", path)
        if f"{method} {shape}" not in routes:
            raise Refusal(5, f"{path.split('/')[1]} {path.split('/')[-1]} not found" if unknown else "Not Found")
        return routes[f"{method} {shape}"]()

    # Requests are read as protojson does it, lists are cut into pages as the server's list.go does it.

    def read(self, body, model):
        try:
            tree = json.loads(body)
        except ValueError:
            raise Refusal(3, "proto: syntax error (line 1:1): unexpected token") from None
        return self.message(tree, model)

    def message(self, tree, kind):
        """The tree, checked against a model of kfp-server-api, with the names of the API's own fields."""
        if kind in ("str", "bool", "int", "datetime", "float"):
            fits = {
                "str": isinstance(tree, str),
                "bool": isinstance(tree, bool),
                "int": isinstance(tree, int),
                "float": isinstance(tree, float | int),
                "datetime": isinstance(tree, str)
                and bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-].*)", tree)),
            }
            if not fits[kind]:
                raise Refusal(3, f"proto: (line 1:1): invalid value for {kind} type: {json.dumps(tree)}")
            return tree
        if inner := re.fullmatch(r"list\[(.*)\]", kind):
            return [self.message(one, inner[1]) for one in tree]
        if inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
            return {key: self.message(one, inner[1]) for key, one in tree.items()}
        if kind == "object":
            return tree
        model = getattr(kfp_server_api.models, kind)
        values = getattr(model, "allowable_values", None)
        if not model.openapi_types:
            values = [getattr(model, name) for name in dir(model) if name.isupper()] if values is None else values
            if kind == "V2beta1PredicateOperation":  # kfp's own client sends the numbers
                tree = {1: "EQUALS", 9: "IS_SUBSTRING"}.get(tree, tree)
            if tree not in values:
                raise Refusal(3, f"proto: (line 1:1): invalid value for enum type: {json.dumps(tree)}")
            return tree
        named = {name: field for field, name in model.attribute_map.items()}
        named |= {re.sub(r"_(\w)", lambda m: m[1].upper(), name): field for name, field in named.items()}
        made = {}
        for key, value in tree.items():
            field = named.get(key)
            old = self.version.startswith("2.5") and key in NEWER and kind != "V2beta1RuntimeConfig"
            if field is None or old:
                raise Refusal(3, f'proto: (line 1:2): unknown field "{key}"')
            if field in INT64 and type(value) is int:  # JSON may write it either way
                value = str(value)
            if value is not None:
                made[model.attribute_map[field]] = self.message(value, model.openapi_types[field])
        return made

    def find(self, table, key, what):
        found = table.get(key)
        if found is None:
            raise Refusal(5, f"{what} {key} not found")
        space = found.get("namespace") or self.experiments.get(found.get("experiment_id"), {}).get("namespace")
        if self.multi_user and space:
            self.allow(space, what)
        return found

    def mine(self, table, query):
        """What a list may show: of an experiment, else of the namespace."""
        experiment = query.get("experiment_id")
        if experiment:
            space = self.find(self.experiments, experiment, "Experiment").get("namespace")
            self.allow(space, "list")
            return [one for one in table.values() if one.get("experiment_id") == experiment]
        space = query.get("namespace", "") if self.multi_user else ""
        self.allow(space, "resource")
        return [one for one in table.values() if not space or one.get("namespace") == space]

    def of_pipeline(self, pipeline_id):
        self.find(self.pipelines, pipeline_id, "Pipeline")
        return [one for one in self.versions.values() if one["pipeline_id"] == pipeline_id]

    def list(self, field, found, query):
        size = int(query.get("page_size") or 20)
        if size < 0:
            raise Refusal(3, f"The page size should be greater than 0. Got {size}")
        size = min(size, self.fewest)
        asked = {key: query.get(key, "") for key in ("sort_by", "filter")}
        start = 0
        if query.get("page_token"):
            try:
                token = json.loads(base64.b64decode(query["page_token"], validate=True))
            except (ValueError, binascii.Error):
                raise Refusal(3, "Failed to parse the page token") from None
            if any(asked.values()) and token["asked"] != asked:
                raise Refusal(3, "page token does not match the supplied sort by and/or filtering criteria")
            start, asked = token["start"], token["asked"]
        found = [one for one in found if self.passes(one, asked["filter"], field)]
        order = asked["sort_by"].lower().split() or ["created_at"]
        if order[0] not in KEYS[field] or len(order) > 2 or order[1:] not in ([], ["asc"], ["desc"]):
            raise Refusal(3, f'Invalid sorting field: "{order[0]}"')
        found.sort(key=lambda one: str(one.get(order[0], "")), reverse=order[1:] == ["desc"])
        answer = {field: found[start : start + size], "total_size": len(found)}
        if field == "runs":  # of lists, the server leaves the details out
            answer[field] = [{key: one[key] for key in one if key != "run_details"} for one in answer[field]]
        if start + size < len(found):
            token = json.dumps({"start": start + size, "asked": asked}).encode()
            answer["next_page_token"] = base64.b64encode(token).decode()
        return answer if found else {}

    def passes(self, one, text, field):
        if not text:
            return True
        try:
            tree = json.loads(urllib.parse.unquote(text))
        except ValueError:
            raise Refusal(3, "failed to parse valid filter from") from None
        for predicate in self.message(tree, "V2beta1Filter").get("predicates", []):
            if predicate["key"] not in KEYS[field]:
                raise Refusal(3, f"no support for filtering on unrecognized field {predicate['key']!r}")
            value = str(one.get(predicate["key"], ""))
            wanted = predicate["string_value"]
            if not {"EQUALS": value == wanted, "IS_SUBSTRING": wanted in value}[predicate["operation"]]:
                return False
        return True

    # Resources.

    def create_pipeline(self, body):
        name, space = body.get("display_name") or body.get("name"), body.get("namespace", "")
        if not name:
            raise Refusal(3, "pipeline's name cannot be empty")
        if self.multi_user:
            self.allow(space, "pipeline")
        elif space:
            space = ""
        if any(one["display_name"] == name and one.get("namespace", "") == space for one in self.pipelines.values()):
            raise Refusal(6, f"Failed to create a new pipeline. The name {name} already exists.")
        made = {"pipeline_id": str(uuid.uuid4()), "display_name": name, "created_at": self.now()}
        made |= {"namespace": space} if space else {}
        return self.pipelines.setdefault(made["pipeline_id"], made)

    def upload_version(self, handler, query, body):
        header = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
        parts = email.message_from_bytes(header + body).get_payload()
        (file,) = [part for part in parts if part.get_param("name", header="content-disposition") == "uploadfile"]
        if not re.search(r"\.(yaml|yml|zip|tar\.gz)$", file.get_filename() or ""):
            raise Refusal(3, "Failed to read a pipeline spec file")
        pipeline = self.find(self.pipelines, query.get("pipelineid"), "Pipeline")
        spec = self.compiled(file.get_payload(decode=True))
        name = query.get("name") or file.get_filename()
        if len(name) > 127:
            raise Refusal(3, "PipelineVersion.Name length cannot exceed 127")
        if any(one["display_name"] == name for one in self.of_pipeline(pipeline["pipeline_id"])):
            raise Refusal(6, "Failed to create a pipeline version")
        made = {
            "pipeline_id": pipeline["pipeline_id"],
            "pipeline_version_id": str(uuid.uuid4()),
            "display_name": name,
            "created_at": self.now(),
            "pipeline_spec": spec,
        }
        return self.versions.setdefault(made["pipeline_version_id"], made)

    def compiled(self, content):
        """The spec in an uploaded file, as the server reads and stores it."""
        documents = list(yaml.safe_load_all(content))
        try:
            json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
            if len(documents) > 1:
                json_format.ParseDict(documents[1], pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as problem:
            raise Refusal(3, f"Failed to create a pipeline version: invalid v2 pipeline spec: {problem}") from None
        if documents[0].get("schemaVersion") != "2.1.0":
            raise Refusal(3, "Unsupported schema version")
        if len(documents) > 1:
            return {"pipeline_spec": documents[0], "platform_spec": documents[1]}
        return documents[0]

    def create_experiment(self, body):
        name, space = body.get("display_name"), body.get("namespace", "")
        if not name:
            raise Refusal(3, "Experiment name is empty. Please specify a valid experiment name")
        if not self.multi_user and space:
            raise Refusal(3, "In single-user mode, an experiment cannot have a namespace")
        self.allow(space, "experiment")
        if any(
            one["display_name"] == name and one.get("namespace", "") == space for one in self.experiments.values()
        ):
            raise Refusal(6, f"Experiment {name} already exists")
        made = {"experiment_id": str(uuid.uuid4()), "display_name": name, "created_at": self.now()}
        made |= {"namespace": space, "storage_state": "AVAILABLE"}
        return self.experiments.setdefault(made["experiment_id"], made)

    def checked(self, body, what):
        """What runs and schedules have in common. Returns the spec."""
        if not body.get("display_name"):
            raise Refusal(3, f"{what} name is empty. Please specify a valid name")
        experiment = self.find(self.experiments, body.get("experiment_id", ""), "Experiment")
        self.allow(experiment.get("namespace"), what)
        place = body.get("pipeline_version_reference", {})
        if not place.get("pipeline_id") or not place.get("pipeline_version_id"):
            raise Refusal(3, "Cannot create a job with an empty pipeline ID")
        version = self.find(self.versions, place["pipeline_version_id"], "PipelineVersion")
        if version["pipeline_id"] != place["pipeline_id"]:
            raise Refusal(3, f"Pipeline version {place['pipeline_version_id']} belongs to another pipeline")
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        values = body.get("runtime_config", {}).get("parameters", {})
        for name, about in known.items():
            if name not in values:
                if "defaultValue" not in about and not about.get("isOptional"):
                    raise Refusal(
                        3, f"parameter {name} is not optional, yet has neither default value nor user value"
                    )
            elif type(values[name]) not in KINDS[about["parameterType"]]:
                raise Refusal(3, f"input parameter {name} requires type {about['parameterType'].lower()}")
        if extra := values.keys() - known.keys():
            raise Refusal(3, f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")
        return spec

    def create_run(self, body):
        spec = self.checked(body, "Run")
        before = {name: task.get("dependentTasks", ()) for name, task in spec["root"]["dag"]["tasks"].items()}
        tasks = list(graphlib.TopologicalSorter(before).static_order())
        made = {**body, "run_id": str(uuid.uuid4()), "created_at": self.now(), "state": "PENDING", "pending": tasks}
        made["pipeline_name"] = spec["pipelineInfo"]["name"]
        self.runs[made["run_id"]] = made
        return self.shown(made)

    def shown(self, run):
        return {key: value for key, value in run.items() if key not in ("pending", "pipeline_name", "next", "held")}

    def advance(self, run):
        """One step of a run each time it is looked at: a node starts, or ends."""
        if run["state"] in ("PENDING", "RUNNING"):
            details = run.setdefault("run_details", {"task_details": []})["task_details"]
            running = [task for task in details if task["state"] == "RUNNING"]
            run["state"] = "RUNNING"
            name = running[0]["display_name"] if running else run["pending"][0]
            first = not details and bool(self.waits.get("root-driver"))
            if self.waits.get("root-driver" if first else name):
                self.wait_once(run, details, "root-driver" if first else name)
            elif running:
                run.pop("held", None)
                self.end(run, running[0])
            else:
                run.pop("held", None)
                details[:] = [task for task in details if task["state"] != "PENDING"]
                # As Argo's nodes come through: driver and executor beside the node itself, in no order.
                details[:0] = [
                    self.task(run, "executor", "SUCCEEDED"),
                    self.task(run, f"{name}-driver", "SUCCEEDED"),
                    self.task(run, name, "RUNNING", end="1970-01-01T00:00:00Z"),
                ]
        return self.shown(run)

    def wait_once(self, run, details, name):
        """A look at a run while a pod does not start. The API of today gives states, and no reasons."""
        run["held"] = {
            "name": name,
            "message": self.waits[name].pop(0),
            "since": run.get("held", {}).get("since") or self.now(),
        }
        if not details:
            details.append(self.task(run, name, "PENDING", end="1970-01-01T00:00:00Z"))

    def workflow(self, run):
        """What the API of KFP v1 says of a run: Argo's Workflow as text."""
        nodes = {}
        if held := run.get("held"):
            place = f"w-1.{held['name']}" if held["name"] == "root-driver" else f"w-1.root.{held['name']}.executor"
            pending = {"phase": "Pending", "message": held["message"], "startedAt": held["since"]}
            nodes["w-1-1"] = {"name": place, "type": "Pod", **pending}
        for task in run.get("run_details", {}).get("task_details", ()):
            if task["state"] == "FAILED":
                said = {"phase": "Failed", "message": self.reasons.get(task["display_name"], "Error (exit code 1)")}
                place = f"w-1.root.{task['display_name']}.executor(0)"
                nodes[task["task_id"]] = {"name": place, "type": "Pod", "startedAt": task["start_time"], **said}
        manifest = {"metadata": {"name": "w-1"}, "status": {"phase": run["state"].title(), "nodes": nodes}}
        return {"run": {"id": run["run_id"]}, "pipeline_runtime": {"workflow_manifest": json.dumps(manifest)}}

    def task(self, run, name, state, end=None):
        start = self.now()
        return {
            "run_id": run["run_id"],
            "task_id": str(uuid.uuid4()),
            "display_name": name,
            "start_time": start,
            "end_time": end or start,
            "state": state,
            "child_tasks": [{"pod_name": f"{run['display_name']}-123"}],
        }

    def end(self, run, task):
        name = task["display_name"]
        task["end_time"] = self.now()
        task["state"] = "FAILED" if name in self.failing else "SUCCEEDED"
        run["pending"].remove(name)
        self.record(run, name, task["state"])
        if task["state"] == "FAILED" or not run["pending"]:
            run["state"], run["finished_at"] = task["state"], self.now()
            if task["state"] == "FAILED":
                for omitted in run["pending"][:1]:  # Argo's phase, which is none of the API's states
                    end = "1970-01-01T00:00:00Z"
                    run["run_details"]["task_details"].append(
                        self.task(run, omitted, "RUNTIME_STATE_UNSPECIFIED", end=end)
                    )

    def create_recurring(self, body):
        self.checked(body, "Recurring run")
        trigger = body.get("trigger", {})
        if not trigger:
            raise Refusal(3, "Failed to convert a API recurring run due to trigger parsing error")
        words = trigger["cron_schedule"]["cron"]
        try:  # five fields are taken, and mean something else: the last is left out then
            cron.parse(words if len(words.split()) != 5 else f"{words} *")
        except cron.CronError as problem:
            raise Refusal(3, f"Schedule cron is not a supported format. Error: {problem}") from None
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise Refusal(3, "Max concurrency of a recurring run must be at least 1 and at most 10.")
        if body.get("mode") not in ("ENABLE", "DISABLE"):
            raise Refusal(3, "Recurring run mode is invalid")
        status = f"{body['mode']}D"
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "status": status, "created_at": self.now()}
        made["namespace"] = self.experiments[body["experiment_id"]].get("namespace") or "kubeflow"
        self.recurring[made["recurring_run_id"]] = made
        return made

    def delete_recurring(self, key):
        self.find(self.recurring, key, "Job")
        del self.recurring[key]
        return {}

    def switch(self, key, status):
        self.find(self.recurring, key, "Job").update(status=status, mode=status[:-1])
        return {}

    # The user interface.

    def record(self, run, node, state):
        """Writes what KFP's launcher writes of a node into ML Metadata and the object store."""
        store, proto = self.metadata, metadata_store_pb2
        run_type = store.put_context_type(proto.ContextType(name="system.PipelineRun"))
        node_type = store.put_execution_type(proto.ExecutionType(name="system.ContainerExecution"))
        context = store.get_context_by_type_and_name("system.PipelineRun", run["run_id"])
        if context is None:
            context = proto.Context(type_id=run_type, name=run["run_id"])
        cached = node in self.cached
        execution = proto.Execution(type_id=node_type)
        execution.last_known_state = getattr(
            proto.Execution, "CACHED" if cached else "FAILED" if state == "FAILED" else "COMPLETE"
        )
        said = {"task_name": node, "display_name": node, "namespace": run.get("namespace", "kubeflow")}
        if not cached:
            said["pod_name"] = f"{run['pipeline_name']}-x-system-container-impl-{len(self.requests)}"
            self.logs[said["pod_name"]] = f"{node} wrote this\n".encode()
        for key, value in said.items():
            execution.custom_properties[key].string_value = value
        pairs = []
        for name, (kind, content) in self.outputs.get(node, {}).items():
            folder = f"v2/artifacts/{run['pipeline_name']}/{run['run_id']}/{node}/{uuid.uuid4()}/{name}"
            artifact = proto.Artifact(
                type_id=store.put_artifact_type(proto.ArtifactType(name=kind)), uri=f"minio://mlpipeline/{folder}"
            )
            artifact.custom_properties["display_name"].string_value = name
            event = proto.Event(type=proto.Event.OUTPUT)
            pairs.append((artifact, event))
            files = {"": content} if isinstance(content, bytes) else {f"/{key}": content[key] for key in content}
            self.objects |= {f"mlpipeline/{folder}{key}": files[key] for key in files}
        store.put_execution(execution, pairs, [context])

    def grpc(self, path, body):
        method = path.rsplit("/", 1)[1]
        request = getattr(metadata_store_service_pb2, f"{method}Request")()
        request.ParseFromString(body[5 : 5 + struct.unpack(">BI", body[:5])[1]])
        answer = getattr(metadata_store_service_pb2, f"{method}Response")()
        self.metadata._call(method, request, answer)
        sent, trailer = answer.SerializeToString(), b"grpc-status:0\r\n"
        return struct.pack(">BI", 0, len(sent)) + sent + struct.pack(">BI", 0x80, len(trailer)) + trailer

    def file(self, path, query):
        _, _, source, rest = path.split("/", 3)
        if self.multi_user:
            if not query.get("namespace"):
                raise Refusal(3, "Namespace parameter is required when authentication is enabled")
            self.allow(query["namespace"], "artifact")
        found = self.objects.get(urllib.parse.unquote(rest)) if source == "minio" else None
        if found is None:
            raise Refusal(13, "Failed to get object in bucket: NoSuchKey")
        return found
