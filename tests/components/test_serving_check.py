"""The serving check: what it asks, and what it objects to."""

import base64
import copy
import io

import PIL.Image
import pytest
from image_data import encoded, picture

from components import ingest, serving_check


@pytest.fixture
def examples():
    return [ingest.make_example(encoded(picture(seed)), seed, "cat", str(seed)) for seed in range(3)]


def answer(*probabilities):
    label = probabilities.index(max(probabilities))
    return {"probabilities": list(probabilities), "class_id": label, "class_name": ("cat", "dog")[label]}


GOOD = {
    "load_seconds": 1.0,
    "latency_ms": 5.0,
    "responses": {"test image 0": answer(0.75, 0.25), "a JPEG": answer(0.4, 0.6)},
    "examples": {"test image 0": [0.75, 0.25]},
}


def changed(**changes):
    result = copy.deepcopy(GOOD)
    for name, value in changes.items():
        result[name] = value
    return result


def test_every_form_of_image_is_asked(examples):
    requests = serving_check.make_requests(examples)
    decoded = {
        name: PIL.Image.open(io.BytesIO(base64.b64decode(value))) for name, value in requests["images"].items()
    }
    assert {image.format for image in decoded.values()} == {"PNG", "JPEG"}
    assert {image.mode for image in decoded.values()} == {"RGB", "L"}
    assert {image.size for image in decoded.values()} == {(32, 32), (300, 200), (17, 23)}
    assert len(requests["examples"]) == 3


def test_good_answers_pass():
    assert serving_check.judge(GOOD, max_latency_ms=10) == []


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (changed(latency_ms=50.0), "a request takes 50 ms, more than serving.max_latency_ms=10"),
        (changed(examples={"test image 0": [0.7, 0.3]}), "the two signatures disagree on test image 0"),
        (changed(responses={"a": answer(0.9, 0.3)}, examples={}), "probabilities that add up to 1.200"),
        (changed(responses={"a": answer(float("nan"), 0.3)}, examples={}), "numbers that are no probabilities"),
        (changed(responses={"a": answer(1.5, -0.5)}, examples={}), "numbers that are no probabilities"),
        (changed(responses={"a": {**answer(0.9, 0.1), "class_id": 1}}, examples={}), "not the most probable"),
        (changed(responses={"a": {**answer(0.9, 0.1), "class_name": ""}}, examples={}), "not the most probable"),
        (changed(responses={"a": answer(0.9, 0.1), "b": answer(1.0)}, examples={}), "different numbers of classes"),
    ],
)
def test_what_is_wrong_is_said(result, said):
    (problem,) = serving_check.judge(result, max_latency_ms=10)
    assert said in problem


def test_a_model_that_does_not_load_is_a_problem_not_a_crash(examples, tmp_path, capsys, monkeypatch):
    (tmp_path / "saved_model.pb").write_bytes(b"damaged")
    (tmp_path / "queue.py").write_text("raise SystemExit('a module of the user in the current folder')")
    monkeypatch.chdir(tmp_path)
    result, (problem,) = serving_check.run_probe(str(tmp_path), serving_check.make_requests(examples))
    assert result == {}
    assert problem.startswith("the model does not load or answer: ")
    assert "current folder" not in problem
    assert "Traceback" in capsys.readouterr().err  # for the log
