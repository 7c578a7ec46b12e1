"""What KFP's driver asks Kubernetes for: the patch of a task's pod (extendPodSpecPatch of backend/src/v2/driver)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Fields of the platform spec that no driver from 2.5.0 to 2.17.0 reads, and what to use instead.
IGNORED = {
    "enabledSharedMemory": "emptyDirMounts with the medium Memory at /dev/shm",
    "podAffinity": "nodeAffinity (2.14) or nodeSelector",
}
FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
TOLERATION = ("key", "operator", "value", "effect")
# The fields that are done here; the others are refused rather than forgotten.
KNOWN = {
    "activeDeadlineSeconds", "emptyDirMounts", "fieldPathAsEnv", "imagePullPolicy", "imagePullSecret", "nodeSelector",
    "podMetadata", "pvcMount", "secretAsEnv", "secretAsVolume", "tolerations",
}  # fmt: skip


def patch(container: Mapping[str, Any], platform: Mapping[str, Any]) -> dict[str, Any]:
    """The pod of a task, as a patch in the form of Kubernetes' PodSpec; podMetadata goes another way, see `metadata`.

    Args:
        container: of the pipeline spec, with image, env and resources.
        platform: KubernetesExecutorConfig of the executor, with fields in KNOWN alone.
    """
    main: dict[str, Any] = {"name": "main", "image": container["image"]}
    pod: dict[str, Any] = {"containers": [main]}
    mounts: list[dict] = []
    volumes: list[dict] = []

    def mount(name: str, source: dict, **place: str) -> None:
        if name not in {volume["name"] for volume in volumes}:
            volumes.append({"name": name, **source})
        mounts.append({"name": name, **{key: value for key, value in place.items() if value}})

    for one in platform.get("pvcMount", ()):
        claim = one["constant"]
        source = {"persistentVolumeClaim": {"claimName": claim}}
        mount(claim, source, mountPath=one["mountPath"], subPath=one.get("subPath", ""))
    for one in platform.get("secretAsVolume", ()):
        secret = {"secretName": one["secretName"], "optional": one.get("optional", False)}
        mount(one["secretName"], {"secret": secret}, mountPath=one["mountPath"])
    for one in platform.get("emptyDirMounts", ()):
        empty = {key: one[key] for key in ("medium", "sizeLimit") if key in one}
        mount(one["volumeName"], {"emptyDir": empty}, mountPath=one["mountPath"])
    env = [dict(one) for one in container.get("env", ())]
    for one in platform.get("secretAsEnv", ()):
        for pair in one["keyToEnv"]:
            key = {"name": one["secretName"], "key": pair["secretKey"]}
            env.append({"name": pair["envVar"], "valueFrom": {"secretKeyRef": key}})
    for one in platform.get("fieldPathAsEnv", ()):
        env.append({"name": one["name"], "valueFrom": {"fieldRef": {"fieldPath": one["fieldPath"]}}})
    main |= {key: value for key, value in (("env", env), ("volumeMounts", mounts)) if value}
    if resources := _resources(container.get("resources", {})):
        main["resources"] = resources
    if volumes:
        pod["volumes"] = volumes
    if "imagePullPolicy" in platform:
        main["imagePullPolicy"] = platform["imagePullPolicy"]
    if "activeDeadlineSeconds" in platform:
        pod["activeDeadlineSeconds"] = int(platform["activeDeadlineSeconds"])
    if "nodeSelector" in platform:
        pod["nodeSelector"] = dict(platform["nodeSelector"]["labels"])
    if "imagePullSecret" in platform:
        pod["imagePullSecrets"] = [{"name": one["secretName"]} for one in platform["imagePullSecret"]]
    if "tolerations" in platform:
        pod["tolerations"] = [_toleration(one) for one in platform["tolerations"]]
    return pod


def metadata(platform: Mapping[str, Any], version: tuple[int, int]) -> dict[str, dict[str, str]]:
    """Labels and annotations of a task's pod.

    The Argo compiler makes them part of a template. Before 2.14 that was one for all tasks, with what the first of
    them had.
    """
    return dict(platform.get("podMetadata", {})) if version >= (2, 14) else {}


def from_fields(pod: Mapping[str, Any], metadata: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The environment variables that Kubernetes takes from the pod's own labels and annotations."""
    found = {}
    for one in pod["containers"][0].get("env", ()):
        if path := one.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath"):
            known = FIELD.fullmatch(path)
            if not known:
                raise ValueError(f"the field {path} of a pod is not known here")
            found[one["name"]] = metadata.get(known[1], {}).get(known[2], "")
    return found


def _resources(wanted: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Requests and limits; KFP's numbers are CPUs and billions of bytes, Kubernetes' quantities say so themselves."""
    found: dict[str, dict[str, str]] = {"limits": {}, "requests": {}}
    for kind, end in (("requests", "Request"), ("limits", "Limit")):
        for resource, unit in (("cpu", ""), ("memory", "G")):
            if value := wanted.get(f"{resource}{end}"):
                found[kind][resource] = f"{value:.12g}{unit}"
    if accelerator := wanted.get("accelerator"):
        found["limits"][accelerator["type"]] = str(accelerator["count"])
    return {kind: values for kind, values in found.items() if values}


def _toleration(one: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: one[name] for name in TOLERATION if name in one}
    if "tolerationSeconds" in one:
        found["tolerationSeconds"] = int(one["tolerationSeconds"])
    return found
