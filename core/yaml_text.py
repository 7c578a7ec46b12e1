"""YAML as people mean it: with the plain scalars of YAML 1.2.

PyYAML reads those of YAML 1.1, where `on`, `off`, `yes` and `no` are truth values, 2026-11-27 is a date, 12:30 is
750, 017 is 15 and 5e-4 a text. In YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema) they are
what they look like.
"""

from __future__ import annotations

import re
import typing

import yaml


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: typing.ClassVar[dict] = {}


for tag, pattern, firsts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})$"), list(firsts))


def load(text: str) -> typing.Any:
    """The value of a YAML document: of dicts, lists, texts, numbers, truth values and None.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, _Loader)
