"""Cron as the scheduler of Kubeflow Pipelines reads it; the tables are of its parser, robfig/cron v1.2.0 (MIT)."""

import datetime
import zoneinfo

import pytest

from kubeflow import cron

NEW_YORK = zoneinfo.ZoneInfo("America/New_York")


def at(text):
    """A time of the tables: without an offset in UTC, with one in New York."""
    if text[0].isdigit():
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").astimezone(NEW_YORK)
    form = "%b %d %H:%M:%S %Y" if text.count(":") == 2 else "%b %d %H:%M %Y"
    return datetime.datetime.strptime(text.split(" ", 1)[1], form).replace(
        tzinfo=datetime.UTC
    )  # days are wrong there


def six(spec):
    """The tables leave the last field out in places."""
    parts = spec.split()
    return " ".join(parts + ["*"] * (6 - len(parts)))


@pytest.mark.parametrize(
    ("time", "spec", "active"),
    [
        ("Mon Jul 9 15:00 2012", "0 0/15 * * *", True),
        ("Mon Jul 9 15:45 2012", "0 0/15 * * *", True),
        ("Mon Jul 9 15:40 2012", "0 0/15 * * *", False),
        ("Mon Jul 9 15:05 2012", "0 5/15 * * *", True),
        ("Mon Jul 9 15:50 2012", "0 5/15 * * *", True),
        ("Sun Jul 15 15:00 2012", "0 0/15 * * Jul", True),
        ("Sun Jul 15 15:00 2012", "0 0/15 * * Jun", False),
        ("Sun Jul 15 08:30 2012", "0 30 08 ? Jul Sun", True),
        ("Sun Jul 15 08:30 2012", "0 30 08 15 Jul ?", True),
        ("Mon Jul 16 08:30 2012", "0 30 08 ? Jul Sun", False),
        ("Mon Jul 16 08:30 2012", "0 30 08 15 Jul ?", False),
        # Two restricted day fields: either; with a star: both.
        ("Sun Jul 15 00:00 2012", "0 * * 1,15 * Sun", True),
        ("Fri Jun 15 00:00 2012", "0 * * 1,15 * Sun", True),
        ("Wed Aug 1 00:00 2012", "0 * * 1,15 * Sun", True),
        ("Sun Jul 15 00:00 2012", "0 * * * * Mon", False),
        ("Sun Jul 15 00:00 2012", "0 * * */10 * Sun", False),
        ("Mon Jul 9 00:00 2012", "0 * * 1,15 * *", False),
        ("Sun Jul 15 00:00 2012", "0 * * 1,15 * *", True),
        ("Sun Jul 15 00:00 2012", "0 * * */2 * Sun", True),
    ],
)
def test_is_active_when_the_servers_parser_says_so(time, spec, active):
    moment = at(time)
    assert (cron.parse(six(spec)).after(moment - datetime.timedelta(seconds=1), moment.tzinfo) == moment) == active


@pytest.mark.parametrize(
    ("time", "spec", "expected"),
    [
        ("Mon Jul 9 14:45 2012", "0 0/15 * * *", "Mon Jul 9 15:00 2012"),
        ("Mon Jul 9 14:59:59 2012", "0 0/15 * * *", "Mon Jul 9 15:00 2012"),
        ("Mon Jul 9 15:45 2012", "0 20-35/15 * * *", "Mon Jul 9 16:20 2012"),
        ("Mon Jul 9 23:46 2012", "0 */15 * * *", "Tue Jul 10 00:00 2012"),
        ("Mon Jul 9 23:45 2012", "0 20-35/15 * * *", "Tue Jul 10 00:20 2012"),
        ("Mon Jul 9 23:35:51 2012", "15/35 20-35/15 * * *", "Tue Jul 10 00:20:15 2012"),
        ("Mon Jul 9 23:35:51 2012", "15/35 20-35/15 1/2 * *", "Tue Jul 10 01:20:15 2012"),
        ("Mon Jul 9 23:35:51 2012", "15/35 20-35/15 10-12 * *", "Tue Jul 10 10:20:15 2012"),
        ("Mon Jul 9 23:35:51 2012", "15/35 20-35/15 1/2 */2 * *", "Thu Jul 11 01:20:15 2012"),
        ("Mon Jul 9 23:35:51 2012", "15/35 20-35/15 * 9-20 * *", "Wed Jul 10 00:20:15 2012"),
        ("Mon Jul 9 23:35:51 2012", "15/35 20-35/15 * 9-20 Jul *", "Wed Jul 10 00:20:15 2012"),
        ("Mon Jul 9 23:35 2012", "0 0 0 9 Apr-Oct ?", "Thu Aug 9 00:00 2012"),
        ("Mon Jul 9 23:35 2012", "0 0 0 */5 Apr,Aug,Oct Mon", "Mon Aug 6 00:00 2012"),
        ("Mon Jul 9 23:35 2012", "0 0 0 */5 Oct Mon", "Mon Oct 1 00:00 2012"),
        ("Mon Jul 9 23:35 2012", "0 0 0 * Feb Mon", "Mon Feb 4 00:00 2013"),
        ("Mon Jul 9 23:35 2012", "0 0 0 * Feb Mon/2", "Fri Feb 1 00:00 2013"),
        ("Mon Dec 31 23:59:45 2012", "0 * * * * *", "Tue Jan 1 00:00:00 2013"),
        ("Mon Jul 9 23:35 2012", "0 0 0 29 Feb ?", "Mon Feb 29 00:00 2016"),
        # The hour that summer time skips, and the one that it repeats.
        ("2012-03-11T00:00:00-0500", "0 30 2 11 Mar ?", "2013-03-11T02:30:00-0400"),
        ("2012-03-11T00:00:00-0500", "0 0 * * * ?", "2012-03-11T01:00:00-0500"),
        ("2012-03-11T01:00:00-0500", "0 0 * * * ?", "2012-03-11T03:00:00-0400"),
        ("2012-03-11T03:00:00-0400", "0 0 * * * ?", "2012-03-11T04:00:00-0400"),
        ("2012-03-11T01:00:00-0500", "0 0 1 * * ?", "2012-03-12T01:00:00-0400"),
        ("2012-03-11T00:00:00-0500", "0 0 2 * * ?", "2012-03-12T02:00:00-0400"),
        ("2012-11-04T00:00:00-0400", "0 30 2 04 Nov ?", "2012-11-04T02:30:00-0500"),
        ("2012-11-04T01:45:00-0400", "0 30 1 04 Nov ?", "2012-11-04T01:30:00-0500"),
        ("2012-11-04T00:00:00-0400", "0 0 * * * ?", "2012-11-04T01:00:00-0400"),
        ("2012-11-04T01:00:00-0400", "0 0 * * * ?", "2012-11-04T01:00:00-0500"),
        ("2012-11-04T01:00:00-0500", "0 0 * * * ?", "2012-11-04T02:00:00-0500"),
        ("2012-11-04T01:00:00-0400", "0 0 1 * * ?", "2012-11-04T01:00:00-0500"),
        ("2012-11-04T01:00:00-0500", "0 0 1 * * ?", "2012-11-05T01:00:00-0500"),
        ("2012-11-04T00:00:00-0400", "0 0 2 * * ?", "2012-11-04T02:00:00-0500"),
        ("2012-11-04T00:00:00-0400", "0 0 3 * * ?", "2012-11-04T03:00:00-0500"),
        ("2012-11-04T03:00:00-0500", "0 0 3 * * ?", "2012-11-05T03:00:00-0500"),
        ("Mon Jul 9 23:35 2012", "0 0 0 30 Feb ?", None),
        ("Mon Jul 9 23:35 2012", "0 0 0 31 Apr ?", None),
    ],
)
def test_next_is_that_of_the_servers_parser(time, spec, expected):
    moment = at(time)
    found = cron.parse(six(spec)).after(moment, moment.tzinfo)
    # Python compares times of one zone by the clock on the wall.
    assert (found and found.timestamp()) == (expected and at(expected).timestamp())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("0 3 * * 0", "five fields, but Kubeflow Pipelines puts the seconds first and would read it as every hour"),
        ("0 3 * * 0", "write '0 0 3 * * 0'"),
        ("30 2 1 * *", "read it as hour 1, minute 2, second 30"),
        ("@daily", "write '0 0 0 * * *'"),
        ("@every 1h", "must have six fields: second, minute, hour"),
        ("@reboot", "is a short form"),
        ("", "must have six fields"),
        ("0 0 0 3 * * 0", "must have six fields"),
        ("60 0 3 * * 0", "'60' in the schedule is no second: 0 to 59"),
        ("0 0 24 * * *", "no hour: 0 to 23"),
        ("0 0 3 0 * *", "no day of month: 1 to 31"),
        ("0 0 3 * foo *", "no month: 1 to 12 or jan, feb"),
        ("0 0 3 * * 7", "Sunday is 0"),
        ("0 0 3 * * sun-", "no day of week"),
        ("0 0 5-3 * * *", "'5-3' in the schedule is no hour"),
        ("0 0 1-2-3 * * *", "no hour"),
        ("0 */0 3 * * *", "no minute"),
        ("0 1/2/3 3 * * *", "no minute"),
        ("0 0 3 L * *", "no day of month"),
        ("0 -1 3 * * *", "no minute"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(spec, said):
    with pytest.raises(cron.CronError) as caught:
        cron.parse(spec)
    assert said in str(caught.value)
    assert str(caught.value).endswith(".")


def test_the_next_times_in_words_in_the_time_zone():
    berlin = cron.zone("Europe/Berlin")
    now = datetime.datetime(2026, 10, 15, 12, tzinfo=datetime.UTC)
    found = cron.upcoming(cron.parse("0 0 3 * * sun"), berlin, now)
    assert [cron.words(time) for time in found] == [
        "Sunday 18 October 2026, 03:00 CEST",
        "Sunday 25 October 2026, 03:00 CET",
        "Sunday 1 November 2026, 03:00 CET",
        "Sunday 8 November 2026, 03:00 CET",
        "Sunday 15 November 2026, 03:00 CET",
    ]
    assert (
        cron.words(datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC))
        == "Friday 2 January 2026, 03:04:05 UTC"
    )


def test_times_lie_after_the_start_and_not_after_the_end():
    daily, utc = cron.parse("0 0 3 * * *"), datetime.UTC
    now = datetime.datetime(2026, 1, 1, tzinfo=utc)
    start, end = cron.moment("2026-02-01", utc), cron.moment("2026-02-03T03:00", utc)
    found = cron.upcoming(daily, utc, now, start, end)
    assert [time.day for time in found] == [1, 2, 3]
    with pytest.raises(cron.CronError, match="names no time before its end"):
        cron.upcoming(daily, utc, now, None, cron.moment("2026-01-01T02:00:00Z", utc))
    with pytest.raises(cron.CronError, match="within 5 years"):
        cron.upcoming(cron.parse("0 0 0 30 2 *"), utc, now)


def test_a_time_without_offset_is_in_the_zone():
    berlin = cron.zone("Europe/Berlin")
    assert cron.moment("2026-07-01", berlin).isoformat() == "2026-06-30T22:00:00+00:00"
    assert cron.moment("2026-07-01T00:00:00Z", berlin).utcoffset() == datetime.timedelta(0)
    with pytest.raises(cron.CronError, match="'tomorrow' is not a time"):
        cron.moment("tomorrow", berlin)


@pytest.mark.parametrize("name", ["Berlin", "", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_zone_is_a_sentence(name):
    with pytest.raises(cron.CronError, match="There is no time zone"):
        cron.zone(name)
