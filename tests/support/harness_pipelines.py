"""A compiled pipeline of two containers that need no TFX."""

import yaml

THING = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
WRITE = """
import json, os, sys
given = json.loads(sys.argv[1])
one = given["outputs"]["artifacts"]["thing"]["artifacts"][0]
path = os.environ["KUBEFLOW_STAGING_ROOT"] + "/" + one["uri"].replace("://", "/")
open(path, "w").write(str(given["inputs"].get("parameterValues")))
metadata = {"whole": 3, "yes": True, "list": [1], "dict": {"a": 1}, "text": "x"}
os.makedirs(os.path.dirname(given["outputs"]["outputFile"]), exist_ok=True)
json.dump(
    {"artifacts": {"thing": {"artifacts": [{"metadata": metadata}]}}}, open(given["outputs"]["outputFile"], "w")
)
"""
READ = """
import json, os, sys
given = json.loads(sys.argv[1])
one = given["inputs"]["artifacts"]["thing"]["artifacts"][0]
assert one["metadata"]["whole"] == 3, one
path = os.environ["KUBEFLOW_STAGING_ROOT"] + "/" + one["uri"].replace("://", "/")
print("read", open(path).read())
"""


def pipeline(**changes):
    """Write -> Read; `changes` are made to the task Write, its component or its container."""
    write = {
        "componentRef": {"name": "Write"},
        "taskInfo": {"name": "Write"},
        "cachingOptions": {"enableCache": True},
        "inputs": {"parameters": {"n": {"componentInputParameter": "n"}}},
    } | changes.get("task", {})
    read = {
        "componentRef": {"name": "Read"},
        "taskInfo": {"name": "Read"},
        "dependentTasks": ["Write"],
        "inputs": {
            "artifacts": {"thing": {"taskOutputArtifact": {"producerTask": "Write", "outputArtifactKey": "thing"}}}
        },
    }
    number = {"parameters": {"n": {"parameterType": "NUMBER_INTEGER"}}}
    component = {
        "executorLabel": "w",
        "inputDefinitions": number,
        "outputDefinitions": {"artifacts": {"thing": THING}},
    } | changes.get("component", {})
    container = {"image": "i", "command": ["python", "-c", WRITE], "args": ["{{$}}"]} | changes.get("container", {})
    spec = {
        "pipelineInfo": {"name": "two"},
        "schemaVersion": "2.1.0",
        "root": {
            "dag": {"tasks": {"Write": write, "Read": read}},
            "inputDefinitions": {"parameters": {"n": {"parameterType": "NUMBER_INTEGER", "defaultValue": 1}}},
        },
        "components": {
            "Write": component,
            "Read": {"executorLabel": "r", "inputDefinitions": {"artifacts": {"thing": THING}}},
        },
        "deploymentSpec": {
            "executors": {
                "w": {"container": container},
                "r": {"container": {"image": "i", "command": ["python", "-c", READ], "args": ["{{$}}"]}},
            }
        },
    } | changes.get("spec", {})
    return yaml.safe_dump_all([spec, *changes.get("more", [])])
