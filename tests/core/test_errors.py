"""What the user can mend is told in a sentence, however libraries wrap it; anything else is not."""

import errno
import os

import pytest

from core import errors
from core.errors import UserError, words


def caused(problem, cause):
    problem.__cause__ = cause
    return problem


def system(number, file=None):
    return OSError(number, os.strerror(number), file)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (UserError("Do this."), "Do this."),
        (caused(RuntimeError("node failed"), UserError("Do this.")), "Do this."),
        (system(errno.ENOSPC, "/d/x"), "/d/x cannot be used: no space is left on the device; free some"),
        (system(errno.ENOSPC, b"/d/x"), "/d/x cannot be used: no space"),
        (system(errno.ENOSPC, "a/x"), "/place/a/x cannot be used: no space"),
        (system(errno.EDQUOT), "/place cannot be used: the quota of the disk is used up"),
        (system(errno.EFBIG, "/d/x"), "ulimit -f"),
        (system(errno.EACCES, "/d/x"), "/d/x cannot be used: permission denied; correct its owner"),
        (system(errno.EROFS, "/d/x"), "the file system is read-only"),
        (system(errno.EMFILE), "too many files are open"),
        (system(errno.ENOENT, "/d/x"), "/d/x cannot be used: there is no such file or folder"),
        (system(errno.EISDIR, "/d/x"), "it is a folder, not a file"),
        (MemoryError(), "Not enough memory: "),
        (caused(ValueError("bad state"), system(errno.ENOSPC, "/d/x")), "/d/x cannot be used: no space"),
        (ExceptionGroup("two", [ValueError("x"), system(errno.ENOSPC, "/d/x")]), "/d/x cannot be used: no space"),
        # As Beam tells what happened in a worker of its own.
        (
            RuntimeError(
                "Traceback (most recent call last):\n  x\nOSError: [Errno 28] No space left on device: '/d/x'"
            ),
            "/d/x cannot be used: no space",
        ),
        (
            RuntimeError("Traceback:\ncore.errors.UserError: The split is empty. [while running 'Read']\n"),
            "The split is empty.",
        ),
        # As Arrow, TensorFlow, and SQLite in ML Metadata do.
        (
            OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
            "/place cannot",
        ),
        (Exception("/d/x.tfrecord; No space left on device [Op:Save]"), "/d/x.tfrecord cannot be used: no space"),
        (
            Exception("artifacts/d/my x.tfrecord; No space left on device"),
            "/place/artifacts/d/my x.tfrecord cannot",
        ),
        (
            Exception("{{function_node a/b}} {{node c/d}} a/x; No space left on device [Op:Save]"),
            "/place/a/x cannot be",
        ),
        (Exception("1 root error\n  (0) UNKNOWN: a/x; No space left on device\n\t [[x]]"), "/place/a/x cannot be"),
        (Exception("could not write to /d/a x; No space left on device"), "/d/a x cannot be used: no space"),
        (Exception("it failed: No space left on device"), "/place cannot be used: no space"),
        (Exception("/d/x; Read-only file system"), "/d/x cannot be used: the file system is read-only"),
        (Exception("OOM when allocating tensor with shape[9]"), "training.batch_size"),
        (
            Exception("INTERNAL: database or disk is full query: INSERT"),
            "/place/metadata.sqlite cannot be used: no space",
        ),
        (
            Exception("attempt to write a readonly database"),
            "/place/metadata.sqlite cannot be used: permission denied",
        ),
        (Exception("database disk image is malformed"), "/place/metadata.sqlite is damaged"),
    ],
)
def test_what_the_user_can_mend_is_told(problem, said):
    told = words(problem, "/place")
    assert said in told
    assert told.startswith(said) or said[0] != "/"
    assert told.endswith(".")
    assert "\n" not in told


@pytest.mark.parametrize(
    "problem",
    [
        KeyError("x"),
        TypeError("unsupported operand"),
        system(errno.ENOENT),  # without a name nobody could mend it
        system(errno.EINVAL, "/d/x"),
        OSError("truncated header"),
        caused(RuntimeError("x"), system(errno.ENOENT, "/d/x")),  # may be a path that we made up
        RuntimeError("FileNotFoundError: [Errno 2] No such file or directory: '/d/x'"),
    ],
)
def test_a_bug_stays_one(problem):
    assert words(problem, "/place") is None


def test_a_long_path_is_shortened_and_stays_on_one_line():
    told = words(system(errno.ENAMETOOLONG, "/d/\n" + "x" * 5000))
    assert "\n" not in told
    assert len(told) < 500
    assert "the name is too long" in told


def test_an_error_without_words_of_ours_has_those_of_the_system():
    assert errors.sentence(system(errno.EBUSY), "/d/x", "written") == (
        "/d/x cannot be written: device or resource busy; name another place."
    )


JAVA = """java.util.concurrent.ExecutionException: org.example.Failed
\tat org.example.Job.run(Job.java:1)
Caused by: org.example.Failed
\t... 3 more
Caused by: java.net.ConnectException: Connection refused: localhost:50000
\tat org.example.Net.connect(Net.java:7)
\t... 9 more
"""
PYTHON = """java.lang.RuntimeException: Error received from SDK harness: Traceback (most recent call last):
  File "worker.py", line 1, in process
    raise ValueError("no such column: label")
ValueError: no such column: label [while running 'Analyze']

\tat org.example.Job.run(Job.java:1)
"""


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (RuntimeError(JAVA), "RuntimeError: java.net.ConnectException: Connection refused: localhost:50000"),
        (RuntimeError(PYTHON), "RuntimeError: ValueError: no such column: label [while running 'Analyze']"),
        (TimeoutError(), "TimeoutError, without a word about it"),
    ],
)
def test_the_reason_is_the_line_that_names_the_cause(problem, reason):
    assert errors.reason(problem) == reason


def test_the_reason_of_an_exception_without_words_is_that_of_its_cause():
    problem = TimeoutError()
    problem.__cause__ = OSError("the socket is closed")
    assert errors.reason(problem) == "OSError: the socket is closed"


def test_a_long_reason_ends_with_a_word():
    assert errors.reason(ValueError("word " * 500)).endswith("word ...")
    assert errors.reason(ValueError("word " * 100)) == "ValueError: " + ("word " * 100).strip()
