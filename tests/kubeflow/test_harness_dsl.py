"""The harness runs what kfp's own SDK writes: conditions, loops, pipelines in pipelines, exit handlers, in parallel.

The containers need a shell and nothing else, so that each takes a moment.
"""

import json
import subprocess
import sys
import threading

import pytest
import yaml
from kfp import compiler, dsl

from kubeflow.harness import Cluster, Refused, cel, spec

WRITE = 'mkdir -p "$(dirname "$1")"; printf %s "$0" > "$1"'


@dsl.container_component
def say(text: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="i", command=["sh", "-c", WRITE], args=[text, out])


@dsl.container_component
def make(text: str, thing: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(image="i", command=["sh", "-c", WRITE], args=[text, thing.path])


@dsl.container_component
def show(text: str):
    return dsl.ContainerSpec(image="i", command=["echo"], args=[text])


@dsl.container_component
def show_all(texts: list):
    return dsl.ContainerSpec(image="i", command=["echo"], args=[texts])


@dsl.container_component
def show_file(thing: dsl.Input[dsl.Artifact]):
    return dsl.ContainerSpec(image="i", command=["cat"], args=[thing.path])


@dsl.container_component
def end(code: int):
    return dsl.ContainerSpec(image="i", command=["sh", "-c", 'exit "$0"'], args=[code])


@dsl.container_component
def tell(status: dsl.PipelineTaskFinalStatus):
    return dsl.ContainerSpec(image="i", command=["echo"], args=[status])


def compiled(pipeline, folder):
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return path.read_text()


def states(run):
    return {name: task.state for name, task in run.tasks.items()}


def log(run, name):
    return run.tasks[name].log.strip()


@dsl.pipeline
def branches(n: int, coin: str = "heads"):
    with dsl.If(n > 5, "big"):
        big = say(text="big")
    with dsl.Elif(coin == "heads", "mid"):
        mid = say(text="mid")
    with dsl.Else("small"):
        small = say(text="small")
    show(text=dsl.OneOf(big.outputs["out"], mid.outputs["out"], small.outputs["out"])).set_display_name("chosen")
    with dsl.If(n == 7, "seven"):
        first = say(text="seven")
        show(text=first.outputs["out"])


@pytest.mark.parametrize(("n", "coin", "chosen"), [(7, "heads", "big"), (1, "heads", "mid"), (1, "tails", "small")])
def test_the_branch_whose_condition_holds_is_run(tmp_path, n, coin, chosen):
    run = Cluster(tmp_path).run(compiled(branches, tmp_path), {"n": n, "coin": coin})
    assert run.state == "succeeded", run.tasks
    assert log(run, "show") == chosen
    ran = [name for name in run.tasks if name.startswith("condition-branches-1/") and name.count("/") == 2]
    assert len(ran) == 1
    skipped = [task.error for task in run.tasks.values() if task.state == "skipped"]
    assert len(skipped) == (2 if n == 7 else 3)
    assert all(error.startswith("the condition is false: ") for error in skipped)
    assert any(name.endswith("show-2") for name in run.tasks) is (n == 7)


@dsl.pipeline
def loops(more: list[dict[str, str]]):
    with dsl.ParallelFor(["a", "b", "c"], parallelism=2) as item:
        said = say(text=item)
        show(text=said.outputs["out"])
    show_all(texts=dsl.Collected(said.outputs["out"]))
    with dsl.ParallelFor(more) as one:
        show(text=one.word)
        with dsl.If(one.word == "y"):
            show(text="it is y")


def test_loops_run_once_for_each_item_and_their_outputs_are_collected(tmp_path):
    text = compiled(loops, tmp_path)
    run = Cluster(tmp_path).run(text, {"more": [{"word": "x"}, {"word": "y"}]})
    assert run.state == "succeeded", run.tasks
    assert [log(run, f"for-loop-2[{n}]/show") for n in range(3)] == ["a", "b", "c"]
    assert json.loads(log(run, "show-all")) == ["a", "b", "c"]
    (other,) = {name.split("[")[0] for name in run.tasks if "[" in name} - {"for-loop-2"}
    assert [log(run, f"{other}[{n}]/show-2") for n in range(2)] == ["x", "y"]
    conditions = [task.state for name, task in run.tasks.items() if name.split("/")[-1].startswith("condition")]
    assert conditions == ["skipped", "succeeded"]


def test_the_order_of_the_tasks_does_not_depend_on_who_is_faster(tmp_path):
    text = compiled(loops, tmp_path)
    orders = {
        tuple(Cluster(tmp_path / str(parallel), parallel=parallel).run(text, {"more": []}).tasks)
        for parallel in (1, 9)
    }
    assert len(orders) == 1


@pytest.mark.parametrize(("items", "error"), [("no list", "json"), ({"a": 1}, "more is {'a': 1}, not LIST")])
def test_what_is_no_list_is_not_looped_over(tmp_path, items, error):
    with pytest.raises(Refused, match="more is"):
        Cluster(tmp_path).run(compiled(loops, tmp_path), {"more": items})


@dsl.pipeline
def inner(text: str, mark: str = "!") -> dsl.Artifact:
    say(text=mark)
    return make(text=text).outputs["thing"]


@dsl.pipeline
def nested():
    made = inner(text="deep")
    show_file(thing=made.output)
    with dsl.ParallelFor(["x"]) as item:
        passed = inner(text=item, mark="?")
        show_file(thing=passed.output)


def test_pipelines_in_pipelines_hand_over_artifacts_and_have_defaults(tmp_path):
    cluster = Cluster(tmp_path)
    run = cluster.run(compiled(nested, tmp_path))
    assert run.state == "succeeded", run.tasks
    assert (log(run, "show-file"), log(run, "for-loop-2[0]/show-file-2")) == ("deep", "x")
    assert run.tasks["inner/say"].parameters == {"out": "!"}
    assert run.tasks["for-loop-2[0]/inner-2/say"].parameters == {"out": "?"}


@dsl.pipeline
def handled(code: int, word: str = "w"):
    last = tell()
    with dsl.ExitHandler(last):
        first = end(code=code)
        show(text=word).after(first)


@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETE"), (3, "FAILED")])
def test_an_exit_handler_is_told_how_its_tasks_ended(tmp_path, code, state):
    run = Cluster(tmp_path).run(compiled(handled, tmp_path), {"code": code})
    assert run.state == ("failed" if code else "succeeded")
    told = json.loads(log(run, "tell"))
    assert (told["state"], told["pipelineTaskName"]) == (state, "exit-handler-1")
    assert run.tasks["exit-handler-1/show"].state == ("skipped" if code else "succeeded")
    assert list(run.tasks)[-1] == "tell"


def test_a_dag_whose_last_task_came_from_the_cache_is_still_running_for_the_exit_handler(tmp_path):
    cluster, text = Cluster(tmp_path), compiled(handled, tmp_path)
    runs = [cluster.run(text, {"code": 0}) for _ in range(2)]
    assert states(runs[1])["exit-handler-1/show"] == "cached"
    assert [json.loads(log(run, "tell"))["state"] for run in runs] == ["COMPLETE", "RUNNING"]


def test_an_exit_task_of_several_tasks_is_refused(tmp_path):
    first = yaml.safe_load(compiled(handled, tmp_path))
    first["root"]["dag"]["tasks"]["tell"]["dependentTasks"] = []
    with pytest.raises(Refused, match="tell: an exit task that waits for several tasks, or for none"):
        spec.load(yaml.safe_dump(first))


@dsl.pipeline
def many():
    with dsl.ParallelFor(["a", "b", "c", "d"]) as item:
        show(text=item)


@pytest.mark.parametrize("parallel", [1, 2])
def test_no_more_tasks_run_at_once_than_allowed(tmp_path, parallel):
    running, most, lock = set(), [], threading.Lock()
    together = threading.Barrier(parallel)

    def started(name, attempt, process):
        with lock:
            running.add(name)
            most.append(len(running))
        together.wait(timeout=60)  # passes only if that many are started
        process.wait()
        with lock:
            running.remove(name)

    run = Cluster(tmp_path, parallel=parallel).run(compiled(many, tmp_path), started=started)
    assert run.state == "succeeded"
    assert max(most) == parallel


ARTIFACTS = {"model": {"artifacts": [{"uri": "minio://b/m", "metadata": {"blessed": 1.0, "name": "x"}}]}}
NAMES = {"inputs": {"parameter_values": {"n": 3.0, "s": "it's && !", "t": True}, "artifacts": ARTIFACTS}}


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("int(inputs.parameter_values['n']) > 2", True),
        ("inputs.parameter_values['n'] == 3", True),
        ("inputs.parameter_values['s'] == 'it\\'s && !'", True),
        ("!(inputs.parameter_values['t'] == true) || 1 < 2", True),
        ("!inputs.parameter_values['t'] && inputs.parameter_values['none'] == 1", False),
        ("inputs.artifacts['model'].artifacts[0].metadata['blessed'] == 1.0", True),
        ("(inputs.artifacts['model'].artifacts[0].uri + '/x') == 'minio://b/m/x'", True),
        ("inputs.parameter_values['s'] == 1", False),
        ("inputs.parameter_values['s'] != 1", True),
        ("double(inputs.parameter_values['n']) >= 2.5", True),
        ("string(inputs.parameter_values['t']) == 'true'", True),
        ("-1 < 0", True),
    ],
)
def test_conditions_have_the_value_that_cel_gives_them(condition, value):
    assert cel.evaluate(condition, NAMES) is value


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("inputs.parameter_values['none'] == 1", "no such key: none"),
        ("int(inputs.parameter_values['n']) == 3.0", "no matching overload"),
        ("inputs.parameter_values['s'] < 1", "cannot be compared"),
        ("int(inputs.parameter_values['s']) == 1", "cannot be converted"),
        ("inputs.parameter_values['n'] && true", "not true or false"),
        ("size(inputs.parameter_values) == 1", "is not known here"),
        ("1 < 2 < 3", "is not known here"),
        ("__import__('os')", "is not known here"),
        ("True", "is not known here"),
        ("1 =", "cannot be read"),
    ],
)
def test_conditions_without_a_value_say_why(condition, words):
    with pytest.raises(cel.CelError, match=words):
        cel.evaluate(condition, NAMES)


SIDE_BY_SIDE = """
import gc, threading, time
from kubeflow.harness import cel

gc.set_threshold(1)
gc.callbacks.append(lambda *_: time.sleep(1e-5))  # lets another thread in, in the middle of an expression
failed = []

def parse():
    for _ in range(600):
        try:
            cel.parse("!(int(inputs.n) > 5) && inputs.coin == 'heads'")
        except SystemError as problem:
            failed.append(problem)

threads = [threading.Thread(target=parse) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(failed)
"""


def test_conditions_are_parsed_side_by_side():
    done = subprocess.run([sys.executable, "-c", SIDE_BY_SIDE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
