"""What a pipeline needs of the objects in Kubernetes."""

from __future__ import annotations

import base64
import binascii
import functools
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

from ..cluster_api import Api, Forbidden, NotFound
from ..connection import ClientError, clean
from ..findings import FINE, MISSING, NOTE, UNKNOWN, Finding
from . import capacity, fit
from .needs import Needs, Task

ACCOUNT, USERS_ACCOUNT = "pipeline-runner", "default-editor"  # KFP's own, with one user and with several
OURS = "alexnet"  # what the manifests beside this file call what they make
MANIFESTS = f"{__package__.rpartition('.')[0].replace('.', '/')}/manifests"
STORE_KEY = "mlpipeline-minio-artifact"
SERVING = "/apis/serving.kserve.io/v1beta1"
# What KFP's driver and launcher and Argo's executor do as the service account of a run: verbs, group, resource, name.
Right = tuple[tuple[str, ...], str, str, str]
RIGHTS: tuple[Right, ...] = (
    (("get",), "", "configmaps", "kfp-launcher"),
    (("get",), "", "secrets", STORE_KEY),
    (("get",), "", "pods", ""),
    (("create", "patch"), "argoproj.io", "workflowtaskresults", ""),
    (("get",), "argoproj.io", "workflows", ""),  # when a scheduled run was due
)
SERVES: Right = (("create", "patch"), "serving.kserve.io", "inferenceservices", "")
ELSEWHERE = "install Kubeflow Pipelines there, or say where it is with --namespace and --context"
PLACEHOLDER = b"REPLACE"  # of the template of secrets
DOCKER = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}


class Cluster:
    """What is looked at in Kubernetes. Every check yields findings, or raises ClientError."""

    def __init__(self, api: Api, namespace: str, account: str, multi_user: bool = False) -> None:
        self._api = api
        self._namespace = namespace
        self._account = account
        self._multi_user = multi_user
        self._place = f"/api/v1/namespaces/{quote(namespace, safe='')}"
        self._kubectl = f"kubectl -n {shlex.quote(clean(namespace))}"
        self._known_nodes: list[dict] | ClientError | None = None

    def examine(self, needs: Needs) -> Iterator[Finding]:
        """All checks, each by itself: one that fails or is not allowed does not end the others."""
        claims = sorted({claim for task in needs.tasks for claim in task.claims})
        secrets = sorted({secret for task in needs.tasks for secret in task.secrets})
        pulls = sorted({secret for task in needs.tasks for secret in task.pull_secrets})
        rights = RIGHTS + ((SERVES,) if needs.serves else ())
        mend = f"an administrator may ask: {self.may_i(rights[-1])}"
        about = list(asking(f"namespace {self._namespace}", self.namespace))
        yield from about
        if any(one.state == MISSING for one in about):  # so is all that would be in it
            return
        yield from asking(f"service account {self._account}", self.account)
        yield from asking(f"rights of {self._account}", lambda: self.rights(rights), mend)
        yield from asking("store of Kubeflow Pipelines", self.store_key)
        for name in claims:
            yield from asking(f"volume claim {name}", functools.partial(self.claim, name, needs.tasks))
        for name in secrets:
            yield from asking(f"secret {name}", functools.partial(self.secret, name, needs.tasks))
        for name in pulls:
            yield from asking(f"pull secret {name}", functools.partial(self.pull_secret, name, needs.tasks))
        yield from capacity.about_images(needs.tasks)
        yield from asking("nodes", lambda: capacity.about_nodes(needs.tasks, self.nodes()))
        yield from asking("quota", lambda: self.quotas(needs.tasks))
        if needs.serves:
            yield from asking("KServe", self.serving)
        for service in sorted({task.flink for task in needs.tasks} - {""}):
            yield from asking(f"Flink {service}", functools.partial(self.flink, service))

    def nodes(self) -> list[dict]:
        """All nodes, asked for once."""
        if self._known_nodes is None:
            try:
                self._known_nodes = self._api.listed("/api/v1/nodes")
            except ClientError as problem:
                self._known_nodes = problem
        if isinstance(self._known_nodes, ClientError):
            raise self._known_nodes
        return self._known_nodes

    def namespace(self) -> Iterator[Finding]:
        """Whether it is there, and which pods it takes."""
        subject = f"namespace {clean(self._namespace)}"
        try:
            found = self._api.read(self._place)
        except NotFound:
            if self._multi_user:
                mend = f"kubectl create namespace {shlex.quote(clean(self._namespace))}"
            else:  # KFP makes it
                mend = ELSEWHERE
            yield Finding(subject, MISSING, "There is no such namespace in this cluster.", mend)
            return
        if (found.get("status") or {}).get("phase") == "Terminating":
            yield Finding(subject, MISSING, "It is being deleted.", f"{self._kubectl} get all")
            return
        labels = (found.get("metadata") or {}).get("labels") or {}
        level = labels.get("pod-security.kubernetes.io/enforce", "")
        if level == "restricted":
            text = "It takes only pods of the level restricted, which those of KFP and Argo need not be."
            yield Finding(subject, NOTE, text)
        else:
            yield Finding(subject, FINE, f"It is there{f', for pods of the level {clean(level)}' if level else ''}.")

    def account(self) -> Iterator[Finding]:
        """Whether it is there."""
        subject = f"service account {clean(self._account)}"
        try:
            self._api.read(f"{self._place}/serviceaccounts/{quote(self._account, safe='')}")
        except NotFound:
            mend = self._manifest("service-account.yaml")
            if self._account in (ACCOUNT, USERS_ACCOUNT):  # KFP makes these
                mend = f"name another with --service-account; to make one: {mend}"
            else:
                mend = self._manifest("service-account.yaml", self._account)
            yield Finding(subject, MISSING, f"There is none in {clean(self._namespace)}.", mend)
            return
        yield Finding(subject, FINE, "It is there.")

    def rights(self, rights: Iterable[Right]) -> Iterator[Finding]:
        """Whether the account may do what its pods do: asks Kubernetes, which takes the right to ask that."""
        user = f"system:serviceaccount:{self._namespace}:{self._account}"
        # What a service account belongs to, as its own requests would say.
        everybody = ["system:serviceaccounts", f"system:serviceaccounts:{self._namespace}", "system:authenticated"]
        lacking, asked = [], 0
        for verbs, group, resource, name in rights:
            without = []
            for verb in verbs:
                attributes = {"namespace": self._namespace, "verb": verb, "group": group, "resource": resource}
                attributes |= {"name": name} if name else {}
                spec = {"user": user, "groups": everybody, "resourceAttributes": attributes}
                asked += 1
                if not self._api.review("SubjectAccessReview", spec).get("allowed"):
                    without.append(verb)
            if without:
                lacking.append((tuple(without), group, resource, name))
        subject = f"rights of {clean(self._account)}"
        if not lacking:
            yield Finding(subject, FINE, f"It may do what its pods do ({asked} rights asked for).")
            return
        text = "; ".join(f"{'/'.join(verbs)} {_resource(one)}" for verbs, *one in lacking)
        if self._account == OURS:
            mend = self._manifest("service-account.yaml")
        else:
            mend = "\n".join(line for one in lacking for line in self._grant(one))
        yield Finding(subject, MISSING, f"It may not: {text}.", mend)

    def may_i(self, right: Right) -> str:
        """The command for those who may ask."""
        verbs, group, resource, name = right
        who = shlex.quote(f"system:serviceaccount:{clean(self._namespace)}:{clean(self._account)}")
        what = f"{resource}.{group}" if group else resource
        return f"{self._kubectl} auth can-i {verbs[0]} {what}{f'/{name}' if name else ''} --as {who}"

    def store_key(self) -> Iterator[Finding]:
        """The secret with which KFP's launcher opens its store, unless it is configured otherwise."""
        subject = "store of Kubeflow Pipelines"
        try:
            told = self._api.read(f"{self._place}/configmaps/kfp-launcher").get("data") or {}
        except (NotFound, Forbidden):
            told = {}
        if told.get("providers"):
            yield Finding(
                subject, NOTE, "The config map kfp-launcher names stores of its own; see the secrets there."
            )
            return
        try:
            self._api.read(f"{self._place}/secrets/{STORE_KEY}")
        except NotFound:
            mend = ELSEWHERE
            if self._multi_user:
                namespace = shlex.quote(clean(self._namespace))
                mend = f"kubectl label namespace {namespace} pipelines.kubeflow.org/enabled=true"
            yield Finding(subject, MISSING, f"Its secret {STORE_KEY} is not in {clean(self._namespace)}.", mend)
            return
        yield Finding(subject, FINE, f"Its secret {STORE_KEY} is there.")

    def claim(self, name: str, tasks: Sequence[Task]) -> Iterator[Finding]:
        """Whether a volume claim is there and bound, and whether all tasks can mount it at once."""
        subject = f"volume claim {clean(name)}"
        try:
            claim = self._api.read(f"{self._place}/persistentvolumeclaims/{quote(name, safe='')}")
        except NotFound:
            text = f"There is none in {clean(self._namespace)}."
            yield Finding(subject, MISSING, text, self._manifest("volume-claim.yaml", name))
            return
        status, spec = claim.get("status") or {}, claim.get("spec") or {}
        look = f"{self._kubectl} describe persistentvolumeclaim {shlex.quote(clean(name))}"
        phase = status.get("phase") or "Pending"
        size = (status.get("capacity") or {}).get("storage") or "unknown size"
        text = f"Bound, {clean(size)}"
        if phase != "Bound":
            if phase != "Pending" or not self._waits(spec.get("storageClassName")):
                yield Finding(subject, MISSING, f"It is {clean(phase)}: no volume has been bound to it.", look)
                return
            text = "Bound as soon as the first pod wants it"
        modes = set(status.get("accessModes") or spec.get("accessModes") or [])
        text += f", {clean(', '.join(sorted(modes)) or 'without an access mode')}."
        if "ReadWriteMany" in modes:
            yield Finding(subject, FINE, text)
            return
        if "ReadWriteOnce" not in modes:
            yield Finding(subject, MISSING, f"{text} Several pods have to write to it.", self._another(name))
            return
        users = [task for task in tasks if name in task.claims]
        if any(task.flink for task in users):
            yield Finding(subject, NOTE, f"{text} Flink's workers mount it, too: that is enough on one node only.")
            return
        try:
            places = fit.taking(users, self.nodes())
        except ClientError:
            places = []
        if not places:
            yield Finding(subject, NOTE, f"{text} That is enough if all its tasks run on one node.")
        elif len(places) > 1:
            text += f" Its {len(users)} tasks fit on {len(places)} nodes, and one of these at a time can mount it."
            yield Finding(subject, MISSING, text, self._another(name))
        else:
            yield Finding(subject, FINE, f"{text} That is enough, as its tasks fit on one node only.")

    def secret(self, name: str, tasks: Iterable[Task]) -> Iterator[Finding]:
        """Whether a secret has the keys that tasks want, with something in them. No value is ever told."""
        subject = f"secret {clean(name)}"
        users = [task for task in tasks if name in task.secrets]
        keys = sorted(set().union(*(task.secrets[name] for task in users)))
        lines = f"--from-env-file=FILE  # with lines {clean(', '.join(f'{key}=...' for key in keys))}"
        make = f"create secret generic {shlex.quote(clean(name))}"
        try:
            data = self._api.read(f"{self._place}/secrets/{quote(name, safe='')}").get("data") or {}
        except NotFound:
            if all(name in task.optional for task in users):
                yield Finding(subject, NOTE, "There is none, and it need not be there.")
            else:
                text = f"There is none in {clean(self._namespace)}; {_names(users)} would not start."
                mend = f"{self._kubectl} {make} {lines if keys else '--from-file=FILE'}"
                yield Finding(subject, MISSING, text, mend)
            return
        file, _, comment = lines.partition("  ")
        anew = f"{self._kubectl} {make} {file} --dry-run=client -o yaml | {self._kubectl} apply -f -  {comment}"
        wrong, odd = [], []
        for key in keys:
            try:
                value = base64.b64decode(data[key] or "")
            except KeyError:
                wrong.append(f"no key {clean(key)}")
            except (binascii.Error, TypeError):
                wrong.append(f"a key {clean(key)} that cannot be read")
            else:
                if value.strip() in (b"", PLACEHOLDER):
                    wrong.append(f"nothing in {clean(key)}" if not value.strip() else f"the template's {clean(key)}")
                elif value != value.strip():
                    odd.append(clean(key))
        if wrong:
            yield Finding(subject, MISSING, f"It has {'; '.join(wrong)}.", anew)
        elif odd:
            text = f"A line break or blank is around what is in {', '.join(odd)}, which not everybody takes off."
            yield Finding(subject, NOTE, text, anew)
        else:
            has = f"with {', '.join(clean(key) for key in keys)}" if keys else "as files"
            yield Finding(subject, FINE, f"It is there, {has}.")

    def pull_secret(self, name: str, tasks: Iterable[Task]) -> Iterator[Finding]:
        """Whether a secret can be used to pull, and is for the registry of the images."""
        subject = f"pull secret {clean(name)}"
        hosts = sorted({_registry(task.image) for task in tasks if name in task.pull_secrets} - {""})
        host = shlex.quote(clean(hosts[0])) if hosts else "HOST"
        make = f"{self._kubectl} create secret docker-registry {shlex.quote(clean(name))} --docker-server={host}"
        make += " --docker-username=NAME --docker-password=..."
        try:
            secret = self._api.read(f"{self._place}/secrets/{quote(name, safe='')}")
        except NotFound:
            yield Finding(subject, MISSING, f"There is none in {clean(self._namespace)}.", make)
            return
        kind = secret.get("type") or "Opaque"
        if kind not in DOCKER:
            text = f"It is of the type {clean(kind)}, not {next(iter(DOCKER))}."
            again = f"{self._kubectl} delete secret {shlex.quote(clean(name))}"
            yield Finding(subject, MISSING, text, f"{again}\n{make}")
            return
        known = _registries((secret.get("data") or {}).get(DOCKER[kind]))
        without = [host for host in hosts if host not in known]
        if without:
            text = f"It is not for {clean(', '.join(without))}, where the image is."
            yield Finding(subject, MISSING, text, f"{self._kubectl} delete secret {shlex.quote(clean(name))}\n{make}")
        else:
            yield Finding(subject, FINE, f"It is there{f', for {clean(hosts[0])}' if hosts else ''}.")

    def quotas(self, tasks: Sequence[Task]) -> Iterator[Finding]:
        """Quotas and limits of the namespace, against each task by itself."""
        quotas = self._api.listed(f"{self._place}/resourcequotas")
        ranges = self._api.listed(f"{self._place}/limitranges")
        if not quotas and not ranges:
            yield Finding("quota", FINE, f"{clean(self._namespace)} has none.")
        for quota in quotas:
            yield from capacity.about_quota(quota, tasks, self._kubectl)
        for limit_range in ranges:
            yield from capacity.about_limits(limit_range, tasks)
        demanded = fit.unlimited((one for one in quotas if not capacity.scoped(one)), ranges, tasks)
        if demanded:
            parts = [
                f"{name} ({names[0]}{f' and {len(names) - 1} more' if names[1:] else ''})"
                for name, names in demanded.items()
            ]
            text = f"The quota demands of each container what tasks leave out: {', '.join(parts)}."
            yield Finding("quota", MISSING, text, f"{self._kubectl} apply -f {MANIFESTS}/own-namespace/quota.yaml")

    def serving(self) -> Iterator[Finding]:
        """Whether KServe's kind of object is known."""
        try:
            known = self._api.read(SERVING).get("resources") or []
        except NotFound:
            known = []
        if any(one.get("name") == "inferenceservices" for one in known):
            yield Finding("KServe", FINE, "InferenceServices are known (serving.kserve.io/v1beta1).")
        else:
            mend = "install KServe, or compile without the InferenceService"
            yield Finding(
                "KServe", MISSING, "This cluster knows no InferenceService (serving.kserve.io/v1beta1).", mend
            )

    def flink(self, address: str) -> Iterator[Finding]:
        """Whether a service is Flink's REST interface and has TaskManagers, through Kubernetes' proxy."""
        host, _, port = address.rpartition(":")
        name, *rest = host.split(".")
        subject, namespace = f"Flink {clean(address)}", rest[0] if rest else self._namespace
        if rest[1:] not in ([], ["svc"], ["svc", "cluster", "local"]):
            yield Finding(subject, UNKNOWN, "It is no service of this cluster, and was not asked.")
            return
        place = f"/api/v1/namespaces/{quote(namespace, safe='')}/services/{quote(name, safe='')}"
        look = f"kubectl -n {shlex.quote(clean(namespace))} get flinkdeployments,services,pods"
        try:
            self._api.read(place)
        except NotFound:
            text = f"There is no service {clean(name)} in {clean(namespace)}."
            yield Finding(subject, MISSING, text, f"kubectl apply -k {MANIFESTS}/flink")
            return
        try:
            told = self._api.read(f"{place}:{quote(port, safe='')}/proxy/overview")
        except Forbidden:
            yield Finding(subject, UNKNOWN, "Its service is there; to ask it takes the right to get services/proxy.")
            return
        except ClientError as problem:
            yield Finding(subject, UNKNOWN, f"Its service is there, but does not answer. {problem}", look)
            return
        managers, slots = told.get("taskmanagers"), told.get("slots-total")
        if not isinstance(managers, int) or not isinstance(slots, int):
            yield Finding(subject, MISSING, "What answers is not Flink.", look)
        elif not managers:
            yield Finding(subject, MISSING, "It has no TaskManager.", look)
        else:
            version = clean(told.get("flink-version"))
            number = f"{managers} TaskManager{'s' if managers > 1 else ''}"
            yield Finding(subject, FINE, f"Flink {version} with {number} and {slots} slots.")

    def _waits(self, storage_class: str | None) -> bool:
        """Whether claims of a class wait for their first pod."""
        path = "/apis/storage.k8s.io/v1/storageclasses"
        try:
            if storage_class:
                found = [self._api.read(f"{path}/{quote(storage_class, safe='')}")]
            else:
                default = "storageclass.kubernetes.io/is-default-class"
                found = [one for one in self._api.listed(path) if _annotation(one, default) == "true"]
        except ClientError:
            return False
        return any(one.get("volumeBindingMode") == "WaitForFirstConsumer" for one in found)

    def _manifest(self, file: str, name: str = OURS) -> str:
        path = f"{MANIFESTS}/base/{file}"
        if name == OURS:
            return f"{self._kubectl} apply -f {path}"
        return f"sed {shlex.quote(f's/{OURS}/{clean(name)}/')} {path} | {self._kubectl} apply -f -"

    def _another(self, name: str) -> str:
        return f"make {clean(name)} anew with ReadWriteMany, or keep its tasks on one node with a node selector"

    def _grant(self, right: Right) -> tuple[str, str]:
        verbs, group, resource, name = right
        account, namespace = clean(self._account), clean(self._namespace)
        role = shlex.quote(f"{account}-{resource}")
        what = f"--verb={','.join(verbs)} --resource={resource}{f'.{group}' if group else ''}"
        what += f" --resource-name={name}" if name else ""
        who = shlex.quote(f"{namespace}:{account}")
        return (
            f"{self._kubectl} create role {role} {what}",
            f"{self._kubectl} create rolebinding {role} --role={role} --serviceaccount={who}",
        )


def asking(subject: str, check: Callable[[], Iterable[Finding]], mend: str = "") -> Iterator[Finding]:
    try:
        yield from check()
    except ClientError as problem:
        yield Finding(clean(subject), UNKNOWN, str(problem), mend if isinstance(problem, Forbidden) else "")


def _resource(right: Sequence[str]) -> str:
    group, resource, name = right
    return f"{resource}{f'.{group}' if group else ''}{f' {name}' if name else ''}"


def _names(tasks: Sequence[Task]) -> str:
    return clean(fit.Group(tuple(tasks)).names)


def _annotation(found: Mapping, name: str) -> str:
    return ((found.get("metadata") or {}).get("annotations") or {}).get(name, "")


def _registry(image: str) -> str:
    """The host of an image; "" for Docker's own registry, which has many names."""
    host, slash, _ = image.partition("/")
    return host if slash and ("." in host or ":" in host or host == "localhost") else ""


def _registries(encoded: object) -> set[str]:
    """The hosts that a Docker configuration has credentials for."""
    try:
        told = json.loads(base64.b64decode(str(encoded)))
        return {key.partition("://")[2].partition("/")[0] or key.partition("/")[0] for key in told.get("auths", told)}
    except (ValueError, AttributeError, TypeError):
        return set()
