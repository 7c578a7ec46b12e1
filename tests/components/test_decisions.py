"""Rollbacks, approvals and pushes by hand: on a volume, in object stores, twice at once, killed at every step."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil

import killed
import pytest
import store_servers
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components import decisions, pusher, pushing
from core.errors import UserError
from storage import journal, versions

ME, YOU = "ann@here", "bob@there"


# Real ones look at each new folder for seconds, whether they know conditional writes.
STORES = [pytest.param(name, marks=[pytest.mark.slow] * (name != "moto")) for name in store_servers.NAMES]


@pytest.fixture(params=["volume", *STORES])
def base(request, tmp_path, running_stores, monkeypatch):
    """A folder for versions, on a volume and in each kind of object store that is there."""
    if request.param == "volume":
        yield str(tmp_path / "serving")
        return
    with store_servers.new_folder(running_stores(request.param), monkeypatch) as folder:
        yield folder


@pytest.fixture
def volume(tmp_path):
    return str(tmp_path / "serving")


def made(folder, text):
    """A folder with the files of a SavedModel whose graph is `text`."""
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_text(text)
    (folder / "variables" / "variables.index").write_text(f"weights of {text}")
    return folder


def facts(run, **more):
    told = {"name": "pets", "accuracy": 0.9, "count": 100, "worst_class": "cat", "worst_recall": 0.8}
    return pushing.Facts(run=run, **{**told, **more})


def push(base, tmp_path, text, approval="none", blessed=True, keep=0):
    """What Pusher leaves of a run that is called as the model is; the artifact."""
    blessing, artifact = standard_artifacts.ModelBlessing(), standard_artifacts.PushedModel()
    blessing.uri = str(tmp_path / f"blessing-{blessed}")
    os.makedirs(blessing.uri, exist_ok=True)
    blessing.set_int_custom_property("blessed", int(blessed))
    pathlib.Path(blessing.uri, "BLESSED" if blessed else "NOT_BLESSED").touch()
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "artifacts" / text)
    made(pathlib.Path(model.uri, "Format-Serving"), text)
    destination = pusher_pb2.PushDestination(filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=base))
    pusher.Executor().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [artifact]},
        {
            "push_destination": proto_utils.proto_to_json(destination),
            pusher.KEEP: keep,
            pusher.APPROVAL: approval,
            pusher.RUN: text,
        },
    )
    return artifact


def content(base, version):
    with pushing.local(os.path.join(base, str(version))) as folder:
        return pathlib.Path(folder, "saved_model.pb").read_text()


def served(base):
    """The graphs of all versions, the oldest first."""
    return [content(base, number) for number in versions.versions(base)]


def kinds(base):
    return [(entry["kind"], entry["run"], entry["by"]) for entry in decisions.log(base)]


def states(base):
    return [(model.state, model.kind, model.run) for model in decisions.models(base)]


# What a run does


def test_a_push_is_logged_once(base, tmp_path):
    first, again = push(base, tmp_path, "a"), push(base, tmp_path, "a")
    assert first.get_string_custom_property("pushed_version") == again.get_string_custom_property("pushed_version")
    (entry,) = decisions.log(base)
    assert (entry["kind"], entry["run"], entry["reason"]) == ("pushed", "a", "")
    assert entry["version"] == first.get_string_custom_property("pushed_version")
    assert "@" in entry["by"]
    (model,) = decisions.models(base)
    assert (model.state, model.kind, model.by, model.whole) == ("serves", "pushed", entry["by"], True)


def test_who_decides_can_be_told(volume, tmp_path, monkeypatch):
    monkeypatch.setenv("ALEXNET_USER", "nightly")
    push(volume, tmp_path, "a")
    assert kinds(volume) == [("pushed", "a", "nightly")]


def test_a_model_waits_once_until_it_is_approved(base, tmp_path):
    push(base, tmp_path, "a")
    waiting = [push(base, tmp_path, "b", "manual") for _ in range(2)]
    assert {artifact.get_int_custom_property("pushed") for artifact in waiting} == {0}
    (place,) = {artifact.get_string_custom_property(pusher.WAITS_IN) for artifact in waiting}
    assert place.startswith(f"{base}/{decisions.WAITING}/")
    assert served(base) == ["a"]
    assert states(base) == [("waiting", "waiting", "b"), ("serves", "pushed", "a")]
    entry = decisions.approve(base, "b", ME, "looks fine")
    assert (entry["kind"], entry["by"], entry["reason"], entry["run"]) == ("approved", ME, "looks fine", "b")
    assert served(base) == ["a", "b"]
    assert states(base) == [("serves", "approved", "b"), ("earlier", "pushed", "a")]
    assert decisions.approve(base, "b", YOU, "me, too") == {**entry, "again": True}
    assert served(base) == ["a", "b"]
    # The run that is started once more finds it there.
    assert push(base, tmp_path, "b", "manual").get_int_custom_property("pushed") == 1
    assert served(base) == ["a", "b"]


def test_a_rejected_model_is_gone_and_no_run_brings_it_again(base, tmp_path):
    push(base, tmp_path, "a")
    push(base, tmp_path, "b", "manual")
    decisions.reject(base, "b", ME, "cats look odd")
    assert states(base) == [("serves", "pushed", "a")]
    for approval in ("manual", "none"):
        artifact = push(base, tmp_path, "b", approval)
        assert artifact.get_int_custom_property("pushed") == 0
        assert artifact.get_string_custom_property(pusher.HELD) == f"it was rejected by {ME}: cats look odd"
    assert served(base) == ["a"]
    assert kinds(base)[1:] == [("rejected", "b", ME)]
    with pytest.raises(UserError, match=f"does not wait: it was rejected by {ME}"):
        decisions.approve(base, "b", YOU, "no, fine")
    assert decisions.reject(base, "b", YOU, "me, too")["by"] == ME


def test_what_does_not_pass_its_gates_does_not_wait_either(volume, tmp_path):
    assert push(volume, tmp_path, "a", "manual", blessed=False).get_int_custom_property("pushed") == 0
    assert not os.path.exists(volume)


def test_a_run_that_does_not_wait_is_told_from_those_that_do(base, tmp_path):
    with pytest.raises(UserError, match=r"No model of run a waits for approval in .*, nor does any other"):
        decisions.approve(base, "a", ME, "x")
    for name in ("20260101-a", "20260101-b"):
        push(base, tmp_path, name, "manual")
    with pytest.raises(UserError, match="those that wait are 20260101-a, 20260101-b"):
        decisions.reject(base, "2025", ME, "x")
    with pytest.raises(UserError, match="several runs match"):
        decisions.reject(base, "2026", ME, "x")
    assert decisions.reject(base, "20260101-b", ME, "x")["run"] == "20260101-b"


def test_a_damaged_model_is_not_approved(volume, tmp_path):
    push(volume, tmp_path, "a")
    place = pathlib.Path(push(volume, tmp_path, "b", "manual").get_string_custom_property(pusher.WAITS_IN))
    (place / "saved_model.pb").write_text("c")  # of the same size
    with pytest.raises(UserError, match=f"The model in {place} is damaged .*other content"):
        decisions.approve(volume, "b", ME, "x")
    (place / "variables/variables.index").unlink()
    assert decisions.models(volume)[0].whole is False
    with pytest.raises(UserError, match=f"{place}/variables/variables.index is gone"):
        decisions.approve(volume, "b", ME, "x")
    assert served(volume) == ["a"]
    assert decisions.reject(volume, "b", ME, "x")


def test_the_card_in_the_version_says_who_approved(volume, tmp_path):
    record = pushing.record_of(str(made(tmp_path / "m", "a")), facts("a"))
    with decisions.turn(volume):
        decisions.wait(str(tmp_path / "m"), volume, record, b"# Model card: pets\n\n## Model details\n")
    version = decisions.approve(volume, "a", "ann_b@here", "fine *indeed*")["version"]
    card = pathlib.Path(volume, version, pushing.CARD).read_text()
    assert card.startswith("# Model card: pets\n\n**Approved by ann\\_b@here, ")
    assert card.splitlines()[2].endswith(": fine \\*indeed\\***")
    assert "\n\n## Model details\n" in card


# Rollback


def test_a_rollback_makes_the_earlier_model_the_newest(base, tmp_path):
    for text in "ab":
        push(base, tmp_path, text)
    first, second = map(str, versions.versions(base))
    entry = decisions.rollback(base, None, ME, "cats are taken for dogs")
    assert (entry["of"], entry["served"], entry["run"], entry["by"]) == (first, second, "a", ME)
    assert served(base) == ["a", "b", "a"]
    assert versions.versions(base)[-1] == int(entry["version"])
    assert states(base) == [("serves", "rolled back", "a"), ("earlier", "pushed", "b"), ("earlier", "pushed", "a")]
    newest = decisions.models(base)[0]
    assert (newest.of, newest.reason, newest.whole) == (first, "cats are taken for dogs", True)
    # No run brings back what was rolled back; that which serves is known.
    assert push(base, tmp_path, "b").get_string_custom_property(pusher.HELD).startswith("it was rolled back by ann@h")
    assert push(base, tmp_path, "a").get_string_custom_property("pushed_version") == entry["version"]
    assert served(base) == ["a", "b", "a"]
    with pytest.raises(UserError, match=r"serves since a rollback by ann@here .cats are taken for dogs.: to go back"):
        decisions.rollback(base, None, YOU, "x")
    with pytest.raises(UserError, match=f"has the model of version {first}, serves already"):
        decisions.rollback(base, first, ME, "x")
    # People may take it up again, and then runs may, too.
    decisions.rollback(base, second, YOU, "it was the camera")
    assert served(base) == ["a", "b", "a", "b"]
    assert push(base, tmp_path, "b").get_int_custom_property("pushed") == 1


def test_a_run_that_is_started_once_more_does_not_undo_what_people_decided(volume, tmp_path):
    push(volume, tmp_path, "a")
    push(volume, tmp_path, "b", "manual")
    version = decisions.approve(volume, "b", ME, "fine")["version"]
    said = push(volume, tmp_path, "a").get_string_custom_property(pusher.HELD)
    assert said == f"it was pushed before, and version {version} was approved since, by {ME}: fine"
    assert served(volume) == ["a", "b"]
    for text in "ca":  # nor where a run has brought a new model since
        push(volume, tmp_path, text)
    assert served(volume) == ["a", "b", "c"]
    decisions.rollback(volume, str(versions.versions(volume)[0]), ME, "x")
    assert served(volume)[-1] == "a"


def test_a_rollback_over_several_takes_them_all_out_of_service(volume, tmp_path):
    for text in "abc":
        push(volume, tmp_path, text)
    decisions.rollback(volume, str(versions.versions(volume)[0]), ME, "x")
    assert [push(volume, tmp_path, text).get_int_custom_property("pushed") for text in "bc"] == [0, 0]
    push(volume, tmp_path, "d")
    assert decisions.rollback(volume, None, ME, "d is worse")["run"] == "a"


def test_a_version_that_is_not_there_is_named(base, tmp_path):
    with pytest.raises(UserError, match=r"No model is in .*nothing to roll back to"):
        decisions.rollback(base, None, ME, "x")
    for text in "abc":
        push(base, tmp_path, text)
    first, second, third = map(str, versions.versions(base))
    versions.remove(base, int(first))
    with pytest.raises(UserError, match=f"--to {first}: that version was removed since .* {second}, {third}"):
        decisions.rollback(base, first, ME, "x")
    for strange in ("7", "x", f"0{second}", f"{second}/../{second}"):
        with pytest.raises(UserError, match="is not there"):
            decisions.rollback(base, strange, ME, "x")
    assert states(base)[-1] == ("removed", "pushed", "a")
    assert served(base) == ["b", "c"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda version: (version / "saved_model.pb").write_text("x"), "has other content than when it was pushed"),
        (lambda version: (version / "saved_model.pb").unlink(), "saved_model.pb is gone"),
        (lambda version: (version / "variables/variables.index").write_text(""), "has another size"),
        (lambda version: (version / pushing.RECORD).unlink(), "cannot be checked"),
        (lambda version: (version / pushing.RECORD).write_text("{"), "cannot be checked"),
        (lambda version: (version / pushing.RECORD).write_text("[]"), "cannot be checked"),
    ],
)
def test_a_damaged_version_is_not_taken(volume, tmp_path, damage, said):
    for text in "ab":
        push(volume, tmp_path, text)
    first = str(versions.versions(volume)[0])
    damage(pathlib.Path(volume, first))
    with pytest.raises(UserError, match=said):
        decisions.rollback(volume, first, ME, "x")
    assert len(versions.versions(volume)) == 2
    assert decisions.models(volume)[0].run == "b"


def test_a_damaged_object_is_not_taken(base, tmp_path):
    if "://" not in base:
        pytest.skip("on a volume the damages are those above")
    from storage import object_store

    for text in "ab":
        push(base, tmp_path, text)
    first = versions.versions(base)[0]
    object_store.write(b"x", f"{base}/{first}/saved_model.pb")
    with pytest.raises(UserError, match=f"The model in {base}/{first} is damaged"):
        decisions.rollback(base, str(first), ME, "x")
    assert served(base) == ["x", "b"]


def test_a_damaged_version_can_be_rolled_back_from(volume, tmp_path):
    for text in "ab":
        push(volume, tmp_path, text)
    shutil.rmtree(pathlib.Path(volume, str(versions.versions(volume)[1]), "assets.extra"))
    assert decisions.rollback(volume, None, ME, "x")["run"] == "a"


def test_a_serving_version_that_lost_files_can_be_replaced_by_its_own_model(volume, tmp_path):
    for text in "aba":
        push(volume, tmp_path, text)
    first, _, third = versions.versions(volume)
    pathlib.Path(volume, str(third), "saved_model.pb").unlink()
    assert decisions.rollback(volume, str(first), ME, "files were lost")["of"] == str(first)
    assert content(volume, versions.versions(volume)[-1]) == "a"


def test_what_others_put_into_a_version_goes_along_and_does_not_count(volume, tmp_path):
    for text in "ab":
        push(volume, tmp_path, text)
    warm = pathlib.Path("assets.extra", "tf_serving_warmup_requests")
    pathlib.Path(volume, str(versions.versions(volume)[0]), warm).write_bytes(b"x")
    version = decisions.rollback(volume, None, ME, "x")["version"]
    assert pathlib.Path(volume, version, warm).read_bytes() == b"x"


def test_versions_of_earlier_releases_can_be_rolled_back_to(volume, tmp_path):
    for text in "ab":
        push(volume, tmp_path, text)
    os.remove(os.path.join(volume, journal.FILE))
    for number in versions.versions(volume):
        path = pathlib.Path(volume, str(number), pushing.RECORD)
        record = json.loads(path.read_text())
        path.write_text(json.dumps({key: record[key] for key in ("fingerprint", "model")}))
    assert [(model.state, model.kind, model.by) for model in decisions.models(volume)] == [
        ("serves", "pushed", ""),
        ("earlier", "pushed", ""),
    ]
    version = decisions.rollback(volume, None, ME, "x")["version"]
    assert content(volume, version) == "a"
    assert decisions.models(volume)[0].whole


def test_a_model_that_does_not_serve_is_not_taken(volume, tmp_path):
    for text in "ab":
        push(volume, tmp_path, text)

    def refuse(folder):
        raise UserError(f"{pathlib.Path(folder, 'saved_model.pb').read_text()} does not serve")

    with pytest.raises(UserError, match="a does not serve"):
        decisions.rollback(volume, None, ME, "x", refuse)
    model = str(made(tmp_path / "c", "c"))
    with pytest.raises(UserError, match="c does not serve"):
        decisions.push_by_hand(volume, model, facts("c"), None, (), ME, "x", refuse)
    assert served(volume) == ["a", "b"]


# By hand


def test_a_model_that_failed_is_pushed_only_by_name_and_marked_for_ever(base, tmp_path):
    push(base, tmp_path, "a")
    failed = facts("f", failed=("accuracy", "recall of it's", "serving check"))
    model = str(made(tmp_path / "f", "f"))
    named = "--against 'accuracy' --against \"recall of it's\" --against 'serving check'"
    for accepted in ((), ("accuracy",), ("accuracy", "serving check")):
        with pytest.raises(UserError, match="Against run f stands") as told:
            decisions.push_by_hand(base, model, failed, None, accepted, ME, "x")
        assert named in str(told.value)
    with pytest.raises(UserError, match="nothing of that name speaks against run f"):
        decisions.push_by_hand(base, model, failed, None, (*failed.failed, "all"), ME, "x")
    assert served(base) == ["a"]
    entry = decisions.push_by_hand(base, model, failed, b"# Card\n", failed.failed, ME, "the demo is today")
    assert (entry["kind"], entry["against"]) == ("pushed by hand", list(failed.failed))
    push(base, tmp_path, "b")
    decisions.rollback(base, entry["version"], YOU, "b is worse still")
    for model in decisions.models(base)[0], decisions.models(base)[2]:
        assert model.against == failed.failed
        assert pushing.read(model.path)["against"] == list(failed.failed)
        with pushing.local(model.path) as folder:
            assert "Pushed by hand against accuracy, recall of it's, serving check by" in (
                pathlib.Path(folder, pushing.CARD).read_text()
            )
    with pytest.raises(UserError, match="serves already, as version"):
        decisions.push_by_hand(base, str(tmp_path / "f"), failed, None, failed.failed, ME, "x")


def test_what_people_decided_against_is_named_as_well(volume, tmp_path):
    push(volume, tmp_path, "a")
    push(volume, tmp_path, "b", "manual")
    model = str(tmp_path / "artifacts" / "b" / "Format-Serving")
    with pytest.raises(UserError, match="The model of run b waits for approval"):
        decisions.push_by_hand(volume, model, facts("b"), None, (), ME, "x")
    decisions.reject(volume, "b", ME, "x")
    with pytest.raises(UserError, match=r"Against run b stands: rejected\. .*--against 'rejected'"):
        decisions.push_by_hand(volume, model, facts("b"), None, (), ME, "x")
    decisions.push_by_hand(volume, model, facts("b"), None, ("rejected",), YOU, "it was the camera")
    assert served(volume) == ["a", "b"]
    decisions.rollback(volume, None, ME, "no")
    with pytest.raises(UserError, match="--against 'rolled back'"):
        decisions.push_by_hand(volume, model, facts("b"), None, ("rejected",), YOU, "x")
    other = str(made(tmp_path / "c", "c"))
    with pytest.raises(UserError, match=r"--against 'x': nothing of that name .* it passed all its gates"):
        decisions.push_by_hand(volume, other, facts("c"), None, ("x",), YOU, "x")


def test_the_report_of_a_run_tells_what_was_decided(volume, tmp_path):
    for text in "ab":
        push(volume, tmp_path, text)
    decisions.rollback(volume, None, ME, "worse")
    told = {run: [one.kind for one in decisions.of_run(decisions.log(volume), run)] for run in "abc"}
    assert told == {"a": ["rolled back"], "b": ["taken out of service"], "c": []}


def test_the_stamp_changes_with_what_people_decide_alone(volume, tmp_path):
    assert decisions.stamp(volume) == ""
    for text in "ab":
        push(volume, tmp_path, text)
    assert decisions.stamp(volume) == ""
    decisions.rollback(volume, None, ME, "x")
    first = decisions.stamp(volume)
    push(volume, tmp_path, "c")
    assert decisions.stamp(volume) == first != ""


def test_retention_keeps_what_was_rolled_back_to(volume, tmp_path):
    for text in "abc":
        push(volume, tmp_path, text)
    decisions.rollback(volume, str(versions.versions(volume)[0]), ME, "x")
    push(volume, tmp_path, "a", keep=1)
    assert served(volume) == ["a"]
    assert [model.state for model in decisions.models(volume)] == ["serves", "removed", "removed", "removed"]
    assert decisions.models(volume)[0].kind == "rolled back"


# At once


def test_of_two_at_once_one_decides(base, tmp_path, monkeypatch):
    for text in "abc":
        push(base, tmp_path, text)
    push(base, tmp_path, "d", "manual")

    def tried(call, *given):
        try:
            return call(base, *given)["kind"]
        except UserError as problem:
            return str(problem)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for text in ("first", "second"):
            made = [
                pool.submit(tried, call, *given)
                for call, given in (
                    (decisions.approve, ("d", ME, text)),
                    (decisions.reject, ("d", YOU, text)),
                    (decisions.rollback, (None, ME, text)),
                    (decisions.rollback, (None, YOU, text)),
                )
            ]
            [one.result() for one in made]
    while "d" in {model.run for model in decisions.models(base) if model.state == "waiting"}:
        decisions.approve(base, "d", ME, "at last")  # in a store all may have been refused for a turn of the others
    log = decisions.log(base)
    about_d = [entry for entry in log if entry["run"] == "d" and entry["kind"] in ("approved", "rejected")]
    assert len(about_d) == 1
    numbers = versions.versions(base)
    assert [int(entry["version"]) for entry in log if entry.get("version")] == numbers
    assert served(base)[:3] == ["a", "b", "c"]


def test_a_turn_in_a_store_that_was_not_given_back_blocks_for_a_while(s3, tmp_path, monkeypatch):
    base = "s3://bucket/serving"
    for text in "ab":
        push(base, tmp_path, text)
    s3.put_object(Bucket="bucket", Key="serving/.decisions/turn", Body=b"process 7 on far, since 12:00:00")
    with pytest.raises(UserError, match="is being decided about by process 7 on far"):
        decisions.rollback(base, None, ME, "x")
    push(base, tmp_path, "c")  # runs need no turn there
    assert served(base) == ["a", "b", "c"]
    monkeypatch.setattr(journal, "DEAD", -1)
    decisions.rollback(base, None, ME, "x")
    assert served(base) == ["a", "b", "c", "b"]


# Killed


def prepared(tmp_path):
    """A folder with two pushed models and one that waits."""
    base = str(tmp_path / "before")
    for text in "ab":
        push(base, tmp_path, text)
    push(base, tmp_path, "w", "manual")
    return base


def roll_back(base):
    """For `killed`."""
    decisions.rollback(base, None, ME, "x")


def approve(base):
    """For `killed`."""
    decisions.approve(base, "w", ME, "x")


def reject(base):
    """For `killed`."""
    decisions.reject(base, "w", ME, "x")


CALLS = {
    "rollback": (roll_back, ["a", "b", "a"], [("rolled back", "a", ME)], True),
    "approve": (approve, ["a", "b", "w"], [("approved", "w", ME)], False),
    "reject": (reject, ["a", "b"], [("rejected", "w", ME)], False),
}


@pytest.fixture(scope="module")
def tries(tmp_path_factory):
    """Every call, killed at each of its steps: name -> the tries."""
    place = tmp_path_factory.mktemp("killed")
    calls = {name: f"tests.components.test_decisions:{call.__name__}" for name, (call, *_) in CALLS.items()}
    return killed.everywhere(calls, prepared(place), place / "tries")


@pytest.mark.parametrize("name", CALLS)
def test_a_kill_at_any_step_leaves_what_the_same_call_completes(tries, tmp_path, name):
    call, after, logged, waits = CALLS[name]
    assert sum(one["killed"] for one in tries[name]) >= 10
    assert not tries[name][-1]["killed"]
    for one in tries[name]:
        base = one["folder"]
        found = decisions.models(base)  # whoever looks meanwhile
        assert [model.state for model in found if model.state != "waiting"].count("serves") == 1
        assert all(model.whole for model in found), one
        assert served(base) in (["a", "b"], after), one
        # What serves by a decision is never without it in the log.
        assert kinds(base)[2:] in ([logged] if served(base) != ["a", "b"] else [[], logged]), one
        # Once the entry is written, whoever asks again is told so, and nothing is done twice.
        with contextlib.suppress(UserError):
            call(base)
        assert served(base) == after, one
        assert kinds(base)[2:] == logged, one
        assert (len(versions.versions(os.path.join(base, decisions.WAITING))) == 1) == waits, one
        push(base, tmp_path, "z")  # and runs go on
        assert served(base)[-1] == "z"


class Dead(BaseException):
    """What every call of the store raises once a process in it has died."""


def dying(monkeypatch, at):
    """Lets changes of objects fail from the step `at` on; returns the count of steps."""
    from storage import object_store

    steps = []

    def watched(name):
        original = getattr(object_store, name)

        def step(*given, **options):
            steps.append(name)
            if len(steps) >= at:
                raise Dead
            return original(*given, **options)

        monkeypatch.setattr(object_store, name, step)

    for name in ("write", "create", "remove"):
        watched(name)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_a_death_at_any_step_in_a_store_leaves_what_the_same_call_completes(s3, tmp_path, monkeypatch, name):
    call, after, logged, waits = CALLS[name]
    monkeypatch.setattr(journal, "DEAD", -1)  # nobody waits for the turn of a dead one
    for at in range(1, 100):
        base = f"s3://bucket/{at}"
        for text in "ab":
            push(base, tmp_path, text)
        push(base, tmp_path, "w", "manual")
        died = False
        with monkeypatch.context() as while_dying:
            dying(while_dying, at)
            try:
                call(base)
            except Dead:
                died = True
        assert served(base) in (["a", "b"], after)
        assert kinds(base)[2:] in ([logged] if served(base) != ["a", "b"] else [[], logged])
        if died:
            with contextlib.suppress(UserError):  # as above
                call(base)
        assert served(base) == after
        assert kinds(base)[2:] == logged
        assert (len(versions.versions(f"{base}/{decisions.WAITING}")) == 1) == waits
        if not died:
            break
    assert at > 5
