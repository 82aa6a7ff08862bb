"""Rules that compare two numbers of a record."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_wsimil.clinical.field import Field, Value

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_RULE = re.compile(r"\s*(.+?)\s*(<=|>=|<|>)\s*(.+?)\s*")


@dataclass(frozen=True)
class Rule:
    """Comparison of a field with another field or a number."""

    left: str
    sign: str
    right: str

    def fields(self) -> tuple[str, ...]:
        """Return the names of the fields it is about."""
        return (self.left,) if _number(self.right) is not None else (self.left, self.right)

    def broken(self, fields: Mapping[str, Field], values: Mapping[str, Value]) -> str:
        """Return a sentence if a record breaks the rule.

        A rule about absent values is not broken.
        """
        left, right = (_value(name, fields, values) for name in (self.left, self.right))
        if left is None or right is None or _OPERATORS[self.sign](left, right):
            return ""
        other = self.right if _number(self.right) is not None else f"{self.right} {right:g}"
        return f"{self.left} {left:g} must be {self.sign} {other}"


def parse_rule(text: str) -> Rule:
    """Return the rule in a text: "lymphocytes <= leukocytes".

    Raises
    ------
    ValueError
        If it is no comparison.
    """
    match = _RULE.fullmatch(text)
    if match is None or _number(match[1]) is not None:
        raise ValueError(f"rule {text!r} is not FIELD <= FIELD or FIELD <= NUMBER (or <, >=, >)")
    return Rule(match[1], match[2], match[3])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _value(name: str, fields: Mapping[str, Field], values: Mapping[str, Value]) -> float | None:
    if name not in fields:
        return _number(name)
    return fields[name].number(values[name])
