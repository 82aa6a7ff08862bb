"""What the command line says of the models, and takes for training them; read off the code."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_wsimil.learning.outcomes import Task
from napari_wsimil.learning.recipes import recipe
from napari_wsimil.learning.training import reads_records
from napari_wsimil.models import MODELS, model_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_wsimil.learning.fit import FitConfig

#: Arguments of models that the data give.
GIVEN = ("feature_dim", "classes", "groups")

#: Patients of a step that Cox's loss compares, unless said otherwise.
COMPARED = 16

_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class Option:
    """An argument of a model: its default, and what its docstring says of it."""

    default: int | float | str
    text: str

    def parse(self, name: str, text: str) -> int | float | str:
        """Return the value that a text states, of the type of the default.

        Raises
        ------
        ValueError
            If it states none.
        """
        kind = type(self.default)
        try:
            return _BOOLEANS[text.casefold()] if kind is bool else kind(text)
        except (KeyError, ValueError) as error:
            words = {bool: "yes or no", int: "a whole number", float: "a number"}
            raise ValueError(f"--option {name}={text}: {text!r} is not {words[kind]}") from error


def options_of(model: str) -> dict[str, Option]:
    """Return the arguments of a model that may be chosen, by name."""
    cls = model_class(model)
    texts = dict(_documented(inspect.getdoc(cls) or ""))
    return {
        name: Option(parameter.default, texts.get(name, ""))
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in GIVEN
    }


def parsed_options(model: str, texts: Sequence[str]) -> dict[str, int | float | str]:
    """Return the arguments in texts such as "branches=3".

    Raises
    ------
    ValueError
        If the model has no such argument (those it has are named), or not of such a value.
    """
    known = options_of(model)
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            listed = ", ".join(f"{n}={option.default}" for n, option in known.items())
            raise ValueError(f"--option {text}: {model} takes {listed or 'no options'}")
        found[name] = known[name].parse(name, value)
    return found


def fit_config(model: str, task: Task, given: Mapping[str, int | float | None]) -> FitConfig:
    """Return how a model is fitted: as its recipe says, but for what is given and not None."""
    settings: dict[str, Any] = {n: value for n, value in given.items() if value is not None}
    if task is Task.COX:
        settings.setdefault("accumulate", COMPARED)
    return replace(recipe(model), **settings)


def model_facts(name: str | None) -> dict[str, Any]:
    """Return what there is to know of one model, or in short of all."""
    if name is not None:
        options = {
            option: {"default": one.default, "means": one.text}
            for option, one in options_of(name).items()
        }
        return _summary(name) | {"options": options}
    return {
        model: _summary(model) | {"options": {n: o.default for n, o in options_of(model).items()}}
        for model in MODELS
    }


def _summary(name: str) -> dict[str, Any]:
    cls, config = model_class(name), recipe(name)
    record = ["record"] if reads_records(name) else []
    return {
        "method": _first_line(sys.modules[cls.__module__]),
        "does": _first_line(cls),
        "tasks": [task.value for task in Task if cls.survives or task is Task.CLASSIFICATION],
        "needs": sorted({*(need.value for need in cls.needs), *record}),
        "training": {"epochs": config.epochs, "lr": config.lr, "accumulate": config.accumulate},
    }


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _documented(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each parameter of a numpydoc docstring."""
    lines = docstring.splitlines()
    start = lines.index("Parameters") + 2 if "Parameters" in lines else len(lines)
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
