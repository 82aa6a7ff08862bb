"""Options of models and training, read from signatures and docstrings."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_wsimil.models import create_model, model_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Arguments of models that depend on the data.
GIVEN = ("feature_dim", "classes", "groups")

_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}
_SHARES = ("share", "chance")  # words in the text of a number from 0 to 1


@dataclass(frozen=True)
class Option:
    """Option of a model or training, with default and documentation.

    A default of None means an optional whole number.
    """

    default: int | float | str | None
    text: str

    @property
    def choices(self) -> tuple[str, ...]:
        """Quoted words in the text, if they include the default."""
        words = tuple(dict.fromkeys(re.findall(r'"([^"]+)"', self.text)))
        return words if self.default in words else ()

    @property
    def least(self) -> float:
        """Smallest number to offer; models may accept others."""
        if "-1" in self.text:
            return -1
        zero = isinstance(self.default, float) or not self.default or re.search(r"\b0\b", self.text)
        return 0 if zero else 1

    @property
    def most(self) -> float:
        """Largest number to offer: 1 for shares, else infinity."""
        share = isinstance(self.default, float) and self.default <= 1
        return 1 if share and any(w in self.text.lower() for w in _SHARES) else math.inf

    def parse(self, name: str, text: str) -> int | float | str:
        """Parse a text as a value of the default's type.

        Raises
        ------
        ValueError
            If the text is not such a value.
        """
        kind = int if self.default is None else type(self.default)
        try:
            return _BOOLEANS[text.casefold()] if kind is bool else kind(text)
        except (KeyError, ValueError) as error:
            words = {bool: "yes or no", int: "a whole number", float: "a number"}
            raise ValueError(f"--option {name}={text}: {text!r} is not {words[kind]}") from error


def options_of(model: str) -> dict[str, Option]:
    """Return the options of a model by name."""
    cls = model_class(model)
    texts = documented(cls, "Parameters")
    return {
        name: Option(parameter.default, texts.get(name, ""))
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in GIVEN
    }


def reads_records(name: str) -> bool:
    """Return whether a registered model reads clinical records."""
    return "groups" in inspect.signature(model_class(name)).parameters


def parsed_options(model: str, texts: Sequence[str]) -> dict[str, int | float | str]:
    """Parse options of a model from texts such as "branches=3".

    Raises
    ------
    ValueError
        If the model has no such option (the message lists its options), or the value is
        invalid.
    """
    known = options_of(model)
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise ValueError(f"--option {text}: {model} takes {_listed(known)}")
        options[name] = known[name].parse(name, value)
    return options


def check_options(model: str, given: Mapping[str, int | float | str]) -> None:
    """Raise ValueError for unknown options or invalid values."""
    known = options_of(model)
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{model} has no option {name!r}: it takes {_listed(known)}")
        default = known[name].default
        whole = isinstance(default, float) and isinstance(value, int)
        if type(value) is not type(default) and not whole:
            raise ValueError(
                f"{model}'s option {name} must be of the type of {default!r}, not {value!r}"
            )
    _check_accepted(model, given)


def _check_accepted(model: str, given: Mapping[str, int | float | str]) -> None:
    """Raise ValueError if the model rejects these options.

    No weights are allocated.
    """
    groups = inspect.signature(model_class(model)).parameters.keys() & {"groups"}
    try:
        with torch.device("meta"):
            create_model(model, feature_dim=1, classes=2, **dict.fromkeys(groups, "1"), **given)
    except (RuntimeError, ZeroDivisionError) as error:  # sizes beyond torch's limits
        raise ValueError(f"{model} cannot be created with {dict(given)}: {error}") from error


def _listed(options: Mapping[str, Option]) -> str:
    listed = ", ".join(f"{name}={option.default}" for name, option in options.items())
    return listed or "no options"


def documented(cls: type, section: str) -> dict[str, str]:
    """Return the entries of a section of a numpydoc docstring."""
    return dict(_entries(inspect.getdoc(cls) or "", section))


def _entries(docstring: str, section: str) -> Iterator[tuple[str, str]]:
    lines = docstring.splitlines()
    start = lines.index(section) + 2 if section in lines else len(lines)
    names: list[str] = []
    texts: list[str] = []
    for line, below in zip(lines[start:], [*lines[start + 1 :], ""], strict=True):
        if below.startswith("---"):
            break
        if line.startswith(" "):
            texts.append(line.strip())
        elif line:
            yield from ((name, " ".join(texts)) for name in names)
            names, texts = line.split(", "), []
    yield from ((name, " ".join(texts)) for name in names)
