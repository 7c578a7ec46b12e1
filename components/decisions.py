"""Decisions about what serves: rollbacks, approvals, pushes by hand; and what they left.

A decision appears with the version that it makes, at once, in that version's own record; the log (`storage.journal`)
gets its entry right after. What a killed one left undone - the entry, a waiting model that is waiting no longer - the
next decision, push or look does (`settle`). A rejection makes no version: it is its entry in the log.

    BASE/VERSION/                     what servers take; the highest number serves
    BASE/VERSION/assets.extra/pushed.json   its record: `pushing.record_of`, and "decision"
    BASE/.waiting/NUMBER/             a model that waits for approval, with the same record
    BASE/decisions.jsonl              the log, in an object store BASE/.decisions/
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from components import pushing
from core import walk
from core.errors import UserError
from review import notes
from review.report import card as cards
from review.report import schema
from storage import journal, schemes, versions

WAITING = ".waiting"
# Kinds of entries in the log.
PUSHED, APPROVED, REJECTED, ROLLED_BACK, BY_HAND = "pushed", "approved", "rejected", "rolled back", "pushed by hand"
MADE_VERSIONS = (PUSHED, APPROVED, ROLLED_BACK, BY_HAND)
BY_PEOPLE = (APPROVED, REJECTED, ROLLED_BACK, BY_HAND)
Entry = dict[str, Any]
Check = Callable[[str], None]  # raises UserError for the folder of a model that does not serve


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that was pushed, or waits.

    Attributes:
        version: its number; of one that waits, that below `.waiting`.
        state: "serves", "earlier", "waiting" or "removed".
        kind: of the entry in the log that made it; "waiting"; "pushed" where no log tells.
        at: local time, ISO 8601 with the offset.
        by: "" where that is not known.
        reason: of the decision, or "".
        of: of a rollback, the version that it took up again; or "".
        against: what spoke against the model and was overruled, for ever.
        whole: whether all of its files are there with their sizes; None if that cannot be told.
    """

    version: str
    state: str
    kind: str
    run: str
    name: str
    accuracy: float | None
    count: int | None
    worst_class: str | None
    worst_recall: float | None
    at: str
    by: str
    reason: str
    of: str
    against: tuple[str, ...]
    whole: bool | None
    path: str


def now() -> str:
    """Local time, ISO 8601 to the second, with the offset."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


@contextlib.contextmanager
def turn(base: str, of_run: bool = False) -> Iterator[None]:
    """Lets one at a time decide about a folder of versions.

    Args:
        base: the folder.
        of_run: it is a run that pushes. In an object store it waits for nobody: pushes at once are safe there.

    Raises:
        UserError: in an object store, somebody else decides just now.
    """
    if not schemes.is_uri(base):
        os.makedirs(base, exist_ok=True)
    elif of_run:
        yield
        return
    with pushing.told():
        try:
            with journal.turn(base):
                yield
        except journal.BusyError as problem:
            raise UserError(str(problem)) from None


def log(base: str) -> list[Entry]:
    """All decisions and pushes, the oldest first; also those whose entry a killed process did not write."""
    with pushing.told():
        entries: list[Entry] = []
        for entry in journal.read(base):
            if entry not in entries:  # two runs at once may write the same
                entries.append(entry)
        return [*entries, *_missing(base, entries)]


def settle(base: str) -> list[Entry]:
    """Does what a killed process left undone; returns the entries that lacked in the log. Only in one's `turn`."""
    with pushing.told():
        entries = journal.read(base)
        missing = _missing(base, entries)
        for entry in missing:
            journal.append(base, entry)
            entries.append(entry)
        for number, record in _waiting(base):
            if _decided(entries, number, record):
                versions.remove(os.path.join(base, WAITING), number)
    return missing


def stamp(base: str) -> str:
    """Changes with every decision of people about a folder; "" while there is none. Pusher's cache counts by it."""
    made = [entry for entry in log(base) if entry.get("kind") in BY_PEOPLE]
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16] if made else ""


def standing(entries: Sequence[Entry]) -> dict[str, Entry]:
    """The models that people have taken out of service or rejected: fingerprint -> the entry that did.

    No run pushes these again; what people push, approve or roll back to afterwards counts no longer as such.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.get("kind") == REJECTED:
            found[entry["fingerprint"]] = entry
        elif entry.get("kind") in MADE_VERSIONS:
            for one in entry.get("withdrawn", ()):
                found[one["fingerprint"]] = entry
            found.pop(entry.get("fingerprint", ""), None)
    return found


def held(base: str, digest: str) -> str | None:
    """Why a run must not push a model, for people; None if it may.

    That is what people rejected or rolled back, and what was pushed before a version that serves by their decision:
    or a run that is started once more would undo it.
    """
    entries = log(base)
    if entry := standing(entries).get(digest):
        what = "it was rejected" if entry["kind"] == REJECTED else "it was rolled back"
        return f"{what} by {entry['by']}: {entry['reason']}"
    made = [entry for entry in entries if entry.get("kind") in MADE_VERSIONS]
    places = [place for place, entry in enumerate(made) if entry.get("fingerprint") == digest]
    later = [entry for entry in made[places[-1] :] if entry["kind"] in BY_PEOPLE] if places else []
    if later and later[-1]["fingerprint"] != digest:
        last = later[-1]
        how = "came by a rollback" if last["kind"] == ROLLED_BACK else f"was {last['kind']}"
        return f"it was pushed before, and version {last['version']} {how} since, by {last['by']}: {last['reason']}"
    return None


def of_run(
    entries: Sequence[Entry], run: str, version: str | None = None, waiting: str | None = None
) -> list[schema.Decision]:
    """What people have decided about the model of a run, the oldest first.

    Args:
        entries: the log.
        run: its id.
        version: that it pushed, which another run may have made, where this one took it from the cache.
        waiting: likewise the number below `.waiting`.
    """
    found = []

    def about_it(one: Entry) -> bool:
        return one.get("run") == run or (version is not None and version in (one.get("version"), one.get("of")))

    for entry in entries:
        if entry.get("kind") not in BY_PEOPLE:
            continue
        about = {key: entry.get(key, "") for key in ("at", "by", "reason")}
        if about_it(entry) or (waiting is not None and entry.get("waiting") == waiting):
            overruled = entry.get("against", []) if entry["kind"] == BY_HAND else []
            serves_as = str(entry.get("version") or "") or None
            found.append(schema.Decision(kind=entry["kind"], version=serves_as, against=overruled, **about))
        elif any(map(about_it, entry.get("withdrawn", ()))):
            found.append(schema.Decision(kind="taken out of service", version=str(entry["version"]), **about))
    return found


# What a run does


def wait(model: str, base: str, record: Mapping[str, Any], card: bytes | None) -> str:
    """Lets a model wait for approval, once; returns the path where it does. Only in one's `turn`."""
    for number, known in _waiting(base):
        if known["fingerprint"] == record["fingerprint"]:
            return os.path.join(base, WAITING, str(number))
    path, _ = pushing.publish(model, os.path.join(base, WAITING), {**record, "at": now()}, card)
    return path


def serving_fingerprint(base: str) -> str:
    """Of the model in the newest version; "" if there is none, or its record is gone."""
    with pushing.told():
        numbers = versions.versions(base)
        return pushing.pushed_fingerprint(os.path.join(base, str(numbers[-1]))) if numbers else ""


def decide(model: str, base: str, record: Mapping[str, Any], card: bytes | None, entry: Entry) -> tuple[str, str]:
    """Makes a model the newest version by a decision, and puts that into the log. Only in one's `turn`.

    Args:
        model, base, card: as for `pushing.publish`.
        record: likewise; "against" of it stays with the model.
        entry: kind, by, reason and what else the decision tells.

    Returns:
        The path of the version, and its number as text.
    """
    entry = {"at": now(), **entry, "run": record.get("run", ""), "name": record.get("name", "")}
    entry |= {key: record[key] for key in ("fingerprint", "model")}
    if entry["kind"] in BY_PEOPLE and card is not None:
        card = cards.stamped(card.decode("utf-8", "replace"), _sentence(entry)).encode()
    path, version = pushing.publish(model, base, {**record, "decision": entry}, card)
    settle(base)
    if entry["kind"] in BY_PEOPLE and entry | {"version": version} not in log(base):  # that model served already
        with pushing.told():
            journal.append(base, {**entry, "version": version})
        settle(base)
    return path, version


# What people do


def approve(base: str, run: str, by: str, note: str) -> Entry:
    """Lets a model that waits serve; returns the entry in the log, an earlier one if that was done already.

    Args:
        base: the folder that servers watch.
        run: the run whose model it is, or the beginning of its id.
        by, note: who decides, and why.

    Raises:
        UserError: nothing of that run waits, or it is damaged.
    """
    with turn(base):
        settle(base)
        if done := _done(base, run, APPROVED):
            return done
        number, record = _find_waiting(base, run)
        place = os.path.join(base, WAITING, str(number))
        with pushing.told(), pushing.local(place) as folder:
            _ensure_whole(folder, record, place)
            entry = {"kind": APPROVED, "by": by, "reason": note, "waiting": str(number)}
            decide(folder, base, _without(record, "decision", "at"), _card(folder), entry)
        return _last(base, record["fingerprint"])


def reject(base: str, run: str, by: str, note: str) -> Entry:
    """Refuses a model that waits, and removes it; as `approve`."""
    with turn(base):
        settle(base)
        if done := _done(base, run, REJECTED):
            return done
        number, record = _find_waiting(base, run)
        entry = {"at": now(), "kind": REJECTED, "by": by, "reason": note, "waiting": str(number)}
        entry |= {key: record.get(key, "") for key in ("run", "name", "fingerprint", "model")}
        with pushing.told():
            journal.append(base, entry)
        settle(base)
        return entry


def rollback(base: str, to: str | None, by: str, reason: str, check: Check = lambda folder: None) -> Entry:
    """Makes an earlier version the newest once more; returns the entry in the log.

    Args:
        base: the folder that servers watch.
        to: a version; None for the one that served before and was not taken out of service, unless what serves
            now comes from a rollback itself.
        by, reason: who decides, and why.
        check: called with the folder of the model, before it becomes the newest.

    Raises:
        UserError: there is no such version, it is damaged, it serves already, or another version came meanwhile.
    """
    with pushing.told():
        seen = versions.versions(base)[-1:]
    with turn(base), pushing.told():
        finished = [entry for entry in settle(base) if entry["kind"] == ROLLED_BACK]
        if finished and to in (None, finished[-1]["of"]):  # by one that was killed, and is asked for once more
            return {**finished[-1], "again": True}
        numbers = versions.versions(base)
        if not numbers:
            raise UserError(f"No model is in {base}: there is nothing to roll back to.")
        if numbers[-1:] != seen:
            raise UserError(
                f"Version {numbers[-1]} came into {base} meanwhile: look at it with `alexnet models`, and ask again."
            )
        entries = log(base)
        newest = numbers[-1]
        records = {newest: pushing.read(os.path.join(base, str(newest)))}
        serving = (records[newest] or {}).get("fingerprint", "")
        last = next((one for one in reversed(entries) if one.get("version") == str(newest)), {})
        if to is None and last.get("kind") == ROLLED_BACK:  # or two people who do the same would go back twice
            raise UserError(
                f"Version {newest} in {base} serves since a rollback by {last['by']} ({last['reason']}): to go back "
                "further, name the version with --to."
            )
        target = _earlier(base, numbers, serving, entries) if to is None else _named(base, numbers, to, entries)
        place = os.path.join(base, str(target))
        record = pushing.read(place)
        if record is None:
            raise UserError(
                f"Version {target} in {base} cannot be checked, for {pushing.RECORD} is missing or damaged: name "
                "another one with --to."
            )
        with pushing.local(place) as folder:
            if target == newest or (record["fingerprint"] == serving and _is_whole(base, newest, records[newest])):
                same = "" if target == newest else f", which has the model of version {target}"
                raise UserError(f"Version {newest} in {base}{same}, serves already: name another one with --to.")
            _ensure_whole(folder, record, place)
            check(folder)
            if "files" not in record:  # of an earlier release
                contents = walk.contents(pathlib.Path(folder))
                record["files"] = {name: size for name, size in contents.items() if name not in pushing.OURS}
            withdrawn = {}
            for number in (number for number in numbers if number > target):
                other = pushing.read(os.path.join(base, str(number)))
                if other and other["fingerprint"] != record["fingerprint"]:
                    told = {key: other.get(key, "") for key in ("fingerprint", "run", "model")}
                    withdrawn[other["fingerprint"]] = {**told, "version": str(number)}
            entry = {
                "kind": ROLLED_BACK, "by": by, "reason": reason, "of": str(target), "served": str(newest),
                "withdrawn": list(withdrawn.values()),
            }  # fmt: skip
            _, version = decide(folder, base, _without(record, "decision"), _card(folder), entry)
        return _of_version(base, version)


def push_by_hand(
    base: str,
    model: str,
    facts: pushing.Facts,
    card: bytes | None,
    accepted: Collection[str],
    by: str,
    reason: str,
    check: Check = lambda folder: None,
) -> Entry:
    """Pushes the model of a run, whatever its gates said; returns the entry in the log.

    Args:
        base: the folder that servers watch.
        model: the exported model, a folder.
        facts, card: of its evaluation.
        accepted: what speaks against it and is overruled: all of `facts.failed`, and what people decided before.
        by, reason: who decides, and why.
        check: called with the model, before it becomes the newest.

    Raises:
        UserError: what speaks against it is not named, or something else is; it serves already, or it waits.
    """
    with turn(base):
        settle(base)
        record = pushing.record_of(model, facts)
        digest = record["fingerprint"]
        if digest == serving_fingerprint(base):
            number = versions.versions(base)[-1]
            raise UserError(f"The model of run {facts.run} serves already, as version {number} in {base}.")
        if any(known["fingerprint"] == digest for _, known in _waiting(base)):
            raise UserError(
                f"The model of run {facts.run} waits for approval: decide with `alexnet approve {facts.run}` or "
                f"`alexnet reject {facts.run}`."
            )
        objections = list(facts.failed)
        if entry := standing(log(base)).get(digest):
            objections.append("rejected" if entry["kind"] == REJECTED else "rolled back")
        _ensure_accepted(facts.run, objections, accepted)
        check(model)
        record["against"] = objections
        entry = {"kind": BY_HAND, "by": by, "reason": reason, "against": objections}
        _, version = decide(model, base, record, card, entry)
        return _of_version(base, version)


def _ensure_accepted(run: str, objections: Sequence[str], accepted: Collection[str]) -> None:
    if missing := [one for one in objections if one not in accepted]:
        options = " ".join(f"--against {_quoted(one)}" for one in objections)
        raise UserError(
            f"Against run {run} stands: {_listed(missing)}. To push its model all the same, for ever marked so, name "
            f"what it goes against: {options}"
        )
    if strange := [one for one in accepted if one not in objections]:
        known = f"what it did not pass is {_listed(objections)}" if objections else "it passed all its gates"
        raise UserError(f"--against {_quoted(strange[0])}: nothing of that name speaks against run {run}; {known}.")


def _quoted(text: str) -> str:
    return f"'{text}'" if "'" not in text else json.dumps(text, ensure_ascii=False)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


# What is there


def models(base: str) -> list[Model]:
    """What waits, and what was pushed, the newest first."""
    with pushing.told():
        entries = log(base)
        numbers = versions.versions(base)
        found = [_waiting_model(base, number, record) for number, record in _waiting(base)
                 if not _decided(entries, number, record)]  # fmt: skip
        told = {str(entry["version"]): entry for entry in entries if entry.get("version")}
        gone = {int(version) for version in told if version.isdecimal()} - set(numbers)
        pushed = [_model(base, number, told.get(str(number), {}), numbers) for number in sorted({*numbers, *gone})]
    return [*found[::-1], *pushed[::-1]]


def _waiting_model(base: str, number: int, record: Entry) -> Model:
    place = os.path.join(base, WAITING, str(number))
    return Model(
        version=str(number), state="waiting", kind="waiting", **_facts(record), at=record.get("at", ""), by="",
        reason="", of="", against=tuple(record.get("failed", ())), whole=_is_whole(place, None, record), path=place,
    )  # fmt: skip


def _model(base: str, number: int, entry: Entry, numbers: Sequence[int]) -> Model:
    place = os.path.join(base, str(number))
    there = number in numbers
    record = (pushing.read(place) if there else None) or {}
    state = "removed" if not there else "serves" if number == numbers[-1] else "earlier"
    moment = datetime.datetime.fromtimestamp(number).astimezone() if number < 1 << 33 else None
    return Model(
        version=str(number),
        state=state,
        kind=entry.get("kind", PUSHED),
        **_facts({**entry, **record}),
        at=entry.get("at") or (moment.isoformat(timespec="seconds") if moment else ""),
        by=entry.get("by", ""),
        reason=entry.get("reason", ""),
        of=str(entry.get("of", "")),
        against=tuple(record.get("against") or entry.get("against") or ()),
        whole=_is_whole(place, None, record) if there else None,
        path=place,
    )


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: record.get(key) for key in ("accuracy", "count", "worst_class", "worst_recall")}
    return {"run": record.get("run") or "", "name": record.get("name") or "", **found}


def _is_whole(place: str, number: int | None, record: Mapping[str, Any] | None) -> bool | None:
    """Whether the files of a version are there, with their sizes; None if its record does not tell."""
    place = place if number is None else os.path.join(place, str(number))
    if not record or "files" not in record:
        return None
    if not schemes.is_uri(place):
        return walk.missing(pathlib.Path(place), record["files"]) is None
    from storage import object_store

    there = {one.name: one.size for one in object_store.find(f"{place}/")}
    return all(there.get(name) == size for name, size in record["files"].items())


def _waiting(base: str) -> list[tuple[int, Entry]]:
    """The models that wait, by number, with their records; without those whose record is gone."""
    place = os.path.join(base, WAITING)
    found = [(number, pushing.read(os.path.join(place, str(number)))) for number in versions.versions(place)]
    return [(number, record) for number, record in found if record is not None]


def _decided(entries: Sequence[Entry], number: int, record: Mapping[str, Any]) -> bool:
    """Whether somebody has decided about a model that still lies where it waited."""
    return any(
        entry.get("waiting") == str(number) and entry.get("fingerprint") == record["fingerprint"] for entry in entries
    )


def _missing(base: str, entries: Sequence[Entry]) -> list[Entry]:
    """Of the versions that are there, the entries which their makers did not come to write."""
    known = {str(entry.get("version")) for entry in entries}
    found = []
    for number in versions.versions(base):
        if str(number) not in known:
            record = pushing.read(os.path.join(base, str(number))) or {}
            if isinstance(record.get("decision"), dict):
                found.append({**record["decision"], "version": str(number)})
    return found


def _find_waiting(base: str, run: str) -> tuple[int, Entry]:
    """The model of a run that waits. Raises UserError."""
    waiting = _waiting(base)
    found = [one for one in waiting if one[1].get("run", "").startswith(run)]
    exact = [one for one in found if one[1].get("run") == run]
    found = exact or found
    if len({record.get("run") for _, record in found}) > 1:
        raise UserError(f"Run {run}: several runs match of those that wait in {base}: {_runs(found)}.")
    if found:
        return found[-1]
    decided = [one for one in log(base) if one.get("kind") in BY_PEOPLE and one.get("run", "").startswith(run)]
    if decided:
        last = decided[-1]
        raise UserError(
            f"The model of run {last['run']} does not wait: it was {last['kind']} by {last['by']}, "
            f"{last['at'][:16]}: {last['reason']}."
        )
    others = f"; those that wait are {_runs(waiting)}" if waiting else ", nor does any other"
    raise UserError(f"No model of run {run} waits for approval in {base}{others}.")


def _runs(found: Sequence[tuple[int, Entry]]) -> str:
    return ", ".join(dict.fromkeys(record.get("run") or "one of an unknown run" for _, record in found))


def _done(base: str, run: str, kind: str) -> Entry | None:
    """The entry of a decision that somebody asks for once more; None if it is to be taken, or was another."""
    if any(record.get("run", "").startswith(run) for _, record in _waiting(base)):
        return None
    entries = [
        entry
        for entry in log(base)
        if entry.get("kind") in (APPROVED, REJECTED) and entry.get("run", "").startswith(run)
    ]
    return {**entries[-1], "again": True} if entries and entries[-1]["kind"] == kind else None


def _earlier(base: str, numbers: Sequence[int], serving: str, entries: Sequence[Entry]) -> int:
    """The newest version of another model than the one that serves, that nobody took out of service."""
    out = standing(entries)
    for number in reversed(numbers[:-1]):
        digest = pushing.pushed_fingerprint(os.path.join(base, str(number)))
        if digest and digest != serving and digest not in out:
            return number
    raise UserError(f"There is no earlier model in {base} to roll back to: see `alexnet models`.")


def _named(base: str, numbers: Sequence[int], to: str, entries: Sequence[Entry]) -> int:
    if to in map(str, numbers):
        return int(to)
    removed = any(str(entry.get("version")) == to for entry in entries)
    what = "was removed since" if removed else "is not there"
    there = ", ".join(map(str, numbers[-5:]))
    raise UserError(f"--to {to}: that version {what} in {base}; the newest are {there}.")


def _ensure_whole(folder: str, record: Mapping[str, Any], place: str) -> None:
    """Raises UserError unless a model has the very content that was pushed."""
    if what := pushing.damage(folder, record):
        raise UserError(f"The model in {place} is damaged ({what.replace(folder, place)}), and was not taken.")


def _last(base: str, digest: str) -> Entry:
    return next(entry for entry in reversed(log(base)) if entry.get("fingerprint") == digest)


def _of_version(base: str, version: str) -> Entry:
    return next(entry for entry in reversed(log(base)) if str(entry.get("version")) == version)


def _card(folder: str) -> bytes | None:
    path = pathlib.Path(folder, pushing.CARD)
    return path.read_bytes() if path.is_file() else None


def _without(record: Mapping[str, Any], *keys: str) -> Entry:
    return {key: value for key, value in record.items() if key not in keys}


def _sentence(entry: Mapping[str, Any]) -> str:
    """What the model card in a version says of the decision that made it."""
    overruled = entry.get("against") or ()
    return notes.decision(
        schema.Decision(
            kind=entry["kind"],
            at=entry["at"],
            by=entry["by"],
            reason=entry["reason"],
            version=entry.get("of") or None,
            against=list(overruled),
        )
    )
