"""Conditions and selectors in CEL, as far as the compilers of kfp and TFX write it (backend/src/v2/expression).

CEL is close enough to Python that its parser can be used: literals, `&&`, `||`, `!`, comparisons, `+`, fields,
indices and the functions int, double, string and parseJson. Everything else is refused rather than guessed.
"""

from __future__ import annotations

import ast
import json
import operator
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

TOKEN = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")|(&&)|(\|\|)|(!(?!=))""")
COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
CONSTANTS = {"true": True, "false": False, "null": None}
# CPython 3.11 counts the depth of a syntax tree for all threads together, and parsers side by side fail ("AST
# constructor recursion depth mismatch").
PARSING = threading.Lock()


class CelError(ValueError):
    """The expression is not supported here, or has no value."""


def evaluate(expression: str, names: Mapping[str, Any]) -> Any:
    """The value of an expression, given what its names stand for: JSON values. Raises CelError."""
    return _value(parse(expression), names)


def parse(expression: str) -> ast.expr:
    """The expression as Python's syntax tree, in which `!` is `~`, so that it binds as tightly. Raises CelError."""

    def python(found: re.Match) -> str:
        return found[1] or (" and " if found[2] else " or " if found[3] else "~")

    try:
        with PARSING:
            return ast.parse(TOKEN.sub(python, expression).strip(), mode="eval").body
    except SyntaxError:
        raise CelError(f"the condition {expression!r} cannot be read") from None


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=bool() | None) | ast.Constant(value=complex() | bytes()):
            pass  # Python's words for them
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Attribute(value=inner, attr=key):
            return _item(_value(inner, names), key)
        case ast.Subscript(value=inner, slice=key):
            return _item(_value(inner, names), _value(key, names))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](_value(argument, names))
        case ast.UnaryOp(op=ast.Invert(), operand=inner):
            return not _truth(_value(inner, names))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.BoolOp(op=op, values=parts):
            return _logic(parts, names, isinstance(op, ast.Or))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARE:
            return _compare(op, left, right, names)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            a, b = _value(left, names), _value(right, names)
            if isinstance(a, str) and isinstance(b, str):
                return a + b
            raise CelError("+ is only known for text here")
    raise CelError(f"{ast.unparse(node)} is not known here")


def _logic(parts: list[ast.expr], names: Mapping[str, Any], decisive: bool) -> bool:
    """`||` (decisive: true) or `&&` (false): in CEL a decisive part outweighs an error in another."""
    problem = None
    for part in parts:
        try:
            if _truth(_value(part, names)) is decisive:
                return decisive
        except CelError as found:
            problem = found
    if problem:
        raise problem
    return not decisive


def _compare(op: ast.cmpop, left: ast.expr, right: ast.expr, names: Mapping[str, Any]) -> bool:
    kinds = {_static(left), _static(right)}
    if kinds >= {int, float}:
        raise CelError("found no matching overload: a whole number is compared with one that is not; use double()")
    a, b = _value(left, names), _value(right, names)
    if _kind(a) == _kind(b):
        return COMPARE[type(op)](a, b)
    if isinstance(op, ast.Eq | ast.NotEq):
        return isinstance(op, ast.NotEq)
    raise CelError(f"no such overload: {a!r} and {b!r} cannot be compared")


def _static(node: ast.expr) -> type | None:
    """The type of a number that CEL knows before it evaluates; None for all else."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return type(value)
        case ast.Call(func=ast.Name(id="int")):
            return int
        case ast.Call(func=ast.Name(id="double")):
            return float
    return None


def _kind(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _item(tree: Any, key: Any) -> Any:
    try:
        return tree[key]
    except (LookupError, TypeError):
        raise CelError(f"no such key: {key}") from None


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise CelError(f"{value!r} is not true or false")
    return value


def _converter(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def converted(value: Any) -> Any:
        try:
            return convert(value)
        except (TypeError, ValueError):
            raise CelError(f"{value!r} cannot be converted") from None

    return converted


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


FUNCTIONS = {
    "int": _converter(int),
    "double": _converter(float),
    "string": _text,
    "parseJson": _converter(json.loads),
}
