"""Cron expressions as the scheduler of Kubeflow Pipelines reads them, and the next times they name.

Kubeflow Pipelines parses with robfig/cron v1.2.0: six fields with the seconds first, Sunday is 0 and 7 is refused,
"N/step" runs from N to the largest value, and two restricted day fields mean either of them. Other cron libraries
differ in each of these, so this is a port of that parser and of its search for the next time, summer time included.
"""

from __future__ import annotations

import dataclasses
import datetime
import zoneinfo

FIELDS = ("second", "minute", "hour", "day of month", "month", "day of week")
BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
NAMES = ((), (), (), (), MONTHS, DAYS)
SHORT = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
HORIZON = 5  # years that are searched


class CronError(ValueError):
    """An expression, zone or time that cannot be used. The text is one sentence that says why."""


@dataclasses.dataclass(frozen=True)
class Cron:
    """A parsed expression: the allowed values of each field, and whether the day fields begin with a star."""

    text: str
    fields: tuple[frozenset[int], ...]
    any_day: bool

    def matches_day(self, day: datetime.date) -> bool:
        """Whether the two day fields allow this day: both if one of them is a star, else either."""
        in_month = day.day in self.fields[3]
        in_week = day.isoweekday() % 7 in self.fields[5]
        return in_month and in_week if self.any_day else in_month or in_week

    def after(self, moment: datetime.datetime, zone: datetime.tzinfo) -> datetime.datetime | None:
        """The first time after `moment` (aware), in `zone`; None if there is none within five years."""
        second, minute, hour, _, month, _ = self.fields
        now = int(moment.timestamp()) + 1
        last = _local(now, zone).year + HORIZON
        added = False  # from the first change on, smaller fields start at zero
        while True:  # as in robfig/cron: from the largest field to the smallest, again after each wrap-around
            here = _local(now, zone)
            if here.year > last:
                return None
            if here.month not in month:
                start = here.replace(tzinfo=None, hour=here.hour if added else 0)
                if not added:
                    start = start.replace(day=1, minute=0, second=0)
                now, added = _instant(_next_month(start), zone), True
                continue
            if not self.matches_day(here):
                start = here.replace(tzinfo=None) if added else _midnight(here)
                now, added = _instant(start + datetime.timedelta(days=1), zone), True
                continue
            if here.hour not in hour:
                now, added = (now if added else _instant(_oclock(here), zone)) + 3600, True
                continue
            if here.minute not in minute:
                now, added = (now if added else now - now % 60) + 60, True
                continue
            if here.second not in second:
                now, added = now + 1, True
                continue
            return here


def parse(text: str) -> Cron:
    """Reads six fields, seconds first. Raises CronError."""
    parts = text.split()
    if len(parts) == 1 and parts[0].startswith("@"):
        instead = SHORT.get(parts[0])
        hint = f": write {instead!r}" if instead else ""
        raise CronError(f"The schedule {text!r} is a short form, not the six fields{hint}.")
    if len(parts) == 5:
        raise CronError(
            f"The schedule {text!r} has five fields, but Kubeflow Pipelines puts the seconds first and would read it "
            f"as {_misread(parts)}: write {'0 ' + ' '.join(parts)!r}."
        )
    if len(parts) != len(FIELDS):
        raise CronError(f"The schedule {text!r} must have six fields: {', '.join(FIELDS)}.")
    fields, stars = [], []
    for place, part in enumerate(parts):
        values, star = _field(part, place)
        fields.append(values)
        stars.append(star)
    return Cron(" ".join(parts), tuple(fields), stars[3] or stars[5])


def zone(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of a name such as Europe/Berlin. Raises CronError."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise CronError(f"There is no time zone {name!r}: write it like UTC or Europe/Berlin.") from None


def moment(text: str, where: datetime.tzinfo) -> datetime.datetime:
    """A date or a time in ISO 8601, in UTC; without an offset it is meant in `where`. Raises CronError."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise CronError(f"{text!r} is not a time: write it like 2026-12-31 or 2026-12-31T03:00.") from None
    return (found if found.tzinfo else found.replace(tzinfo=where)).astimezone(datetime.UTC)


def upcoming(
    cron: Cron,
    where: datetime.tzinfo,
    now: datetime.datetime,
    start: datetime.datetime | None = None,
    end: datetime.datetime | None = None,
    count: int = 5,
) -> list[datetime.datetime]:
    """The next times at which a schedule runs: after `now` and `start`, not after `end`. Raises CronError on none."""
    found: list[datetime.datetime] = []
    last = max(now, start) if start else now
    while len(found) < count:
        following = cron.after(last, where)
        if following is None or (end and following > end):
            break
        last = following
        found.append(last)
    if not found:
        why = "before its end" if end else f"within {HORIZON} years"
        raise CronError(f"The schedule {cron.text!r} names no time {why}.")
    return found


def words(time: datetime.datetime) -> str:
    """A time as in "Sunday 29 November 2026, 03:00 UTC"; the seconds only where there are any."""
    clock = f"{time:%H:%M:%S}" if time.second else f"{time:%H:%M}"
    return f"{time:%A} {time.day} {time:%B} {time.year}, {clock} {time:%Z}"


def _misread(parts: list[str]) -> str:
    second, minute, hour = parts[:3]
    whole = "every hour" if hour in ("*", "?") else f"hour {hour}"
    return f"{whole}, minute {minute}, second {second}, day {parts[3]}, month {parts[4]}"


def _field(text: str, place: int) -> tuple[frozenset[int], bool]:
    """The values of a field, and whether it has a star."""
    values, star = set(), False
    for part in text.split(","):
        found, starred = _range(part, place)
        values |= found
        star |= starred
    return frozenset(values), star


def _range(text: str, place: int) -> tuple[set[int], bool]:
    low, high = BOUNDS[place]
    spread, slash, step = text.partition("/")
    ends = spread.split("-")
    if ends[0] in ("*", "?") and len(ends) == 1:
        first, last = low, high
    elif len(ends) <= 2:
        first = _number(ends[0], text, place)
        last = _number(ends[1], text, place) if len(ends) == 2 else high if slash else first
    else:
        raise _bad(text, place)
    if slash and not (step.isascii() and step.isdigit() and int(step)):
        raise _bad(text, place)
    if not low <= first <= last <= high:
        raise _bad(text, place)
    return set(range(first, last + 1, int(step) if slash else 1)), ends[0] in ("*", "?")


def _number(text: str, part: str, place: int) -> int:
    if text.lower() in NAMES[place]:
        return BOUNDS[place][0] + NAMES[place].index(text.lower())
    if not (text.isascii() and text.isdigit()):
        raise _bad(part, place)
    return int(text)


def _bad(text: str, place: int) -> CronError:
    low, high = BOUNDS[place]
    names = f" or {', '.join(NAMES[place])}" if NAMES[place] else ""
    sunday = "; Sunday is 0" if place == 5 and "7" in text else ""
    return CronError(f"{text!r} in the schedule is no {FIELDS[place]}: {low} to {high}{names}{sunday}.")


def _local(instant: int, where: datetime.tzinfo) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(instant, where)


def _instant(wall: datetime.datetime, where: datetime.tzinfo) -> int:
    """The POSIX time of a wall-clock time, chosen where summer time skips or repeats it as Go's time.Date does."""
    naive = int(wall.replace(tzinfo=datetime.UTC).timestamp())
    offset = _offset(naive, where)
    if _offset(naive - offset, where) != offset:
        offset = _offset(naive - offset, where)
    return naive - offset


def _offset(instant: int, where: datetime.tzinfo) -> int:
    return int((_local(instant, where).utcoffset() or datetime.timedelta()).total_seconds())


def _next_month(day: datetime.datetime) -> datetime.datetime:
    return day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1)


def _midnight(here: datetime.datetime) -> datetime.datetime:
    return _oclock(here).replace(hour=0)


def _oclock(here: datetime.datetime) -> datetime.datetime:
    return here.replace(tzinfo=None, minute=0, second=0, microsecond=0)
