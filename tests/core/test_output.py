"""Standard output and error of programs: whatever they are connected to, and whatever is written."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
from core import output
output.prepare(forgiving="forgiving" in sys.argv)
try:
    exec(sys.argv[1])
    sys.stdout.flush()
except output.Unwritable as problem:
    print(f"{problem.closed} {problem}", file=sys.stderr)
else:
    print("end", file=sys.stderr)
"""


def program(body, *arguments, shell="", **environment):
    """Runs `body` in a program with prepared streams; `shell` redirects them."""
    command = ["bash", "-c", f'"$@" {shell}', "-", sys.executable, "-c", PROGRAM, body, *arguments]
    return subprocess.run(command, capture_output=True, env={"PATH": os.environ["PATH"], **environment})


def test_a_terminal_without_utf_8_gets_signs_of_the_same_width():
    done = program(
        r"print('K\u00e4se \u732b \u2713 \u2588\u2591 \u2581\u2588 a\u0308 \u2026|')", PYTHONIOENCODING="ascii"
    )
    assert done.stdout == b"Kase ?? + #- -# a .|\n", done.stderr


def test_what_an_encoding_has_is_kept():
    done = program(r"print('K\u00e4se \u2713')", PYTHONIOENCODING="latin-1")
    assert done.stdout == "Käse +\n".encode("latin-1")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_path_that_is_no_text_keeps_its_bytes(encoding):
    done = program(r"print('/x/\udcff\udcc3\udca4'); print('\udcff', file=sys.stderr)", PYTHONIOENCODING=encoding)
    assert done.stdout == b"/x/\xff\xc3\xa4\n"
    assert done.stderr.startswith(b"\xff\n")


def test_data_are_utf_8_in_every_terminal():
    done = program(r"output.data(); print('K\u00e4se \u2713')", PYTHONIOENCODING="ascii")
    assert done.stdout.decode() == "Käse ✓\n"


def test_click_writes_to_the_same_stream():
    done = program(r"import click; click.echo('K\u00e4se'); click.echo(b'\xff')", PYTHONIOENCODING="ascii")
    assert done.stdout == b"Kase\n\xff\n"


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("> /dev/full", "False Standard output cannot be written: no space is left on the device."),
        ("| true", "True Standard output cannot be written: broken pipe."),
    ],
)
def test_a_lost_output_is_told_once_or_forgiven(shell, said):
    more_than_a_pipe_holds = "print('x' * 2_000_000)"
    assert program(more_than_a_pipe_holds, shell=shell).stderr.decode().splitlines() == [said]
    assert program(more_than_a_pipe_holds, "forgiving", shell=shell).stderr == b"end\n"


@pytest.mark.parametrize("shell", [">&-", "<&- >&-", ">&- 2>&-", "2> /dev/full"])
def test_closed_streams_are_no_error_and_no_file_takes_their_place(shell, tmp_path):
    file = tmp_path / "file"
    body = f"file = open({str(file)!r}, 'w'); print('x'); print('y', file=sys.stderr); "
    body += "file.write(str(file.fileno() > 2))"
    assert program(body, shell=shell).returncode == 0
    assert file.read_text() == "True"
