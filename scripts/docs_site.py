"""Generated pages and formulas of the documentation; a hook of MkDocs."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import typer
from latex2mathml.converter import convert
from mkdocs.structure.files import File

import napari_wsimil
from napari_wsimil.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

_FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)  # as pymdownx.arithmatex writes it
_COMMAND_LINE = """# Command line

Every verb prints its own help with `--help`. `--json` prints the result as one JSON object.
Errors are one line. Exit code 0 means success, 2 an error; 3 means that some slides or cases
failed: each is listed with its reason, and the others are done.
"""
_API = """# Python API

```python
import napari_wsimil as wsi
```

Importing the package loads neither torch nor Qt. Every path may be a `str` or a `Path`.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated from the code."""
    pages = {"reference/command-line.md": command_line(), "reference/api.md": api()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Replace the formulas of a page by MathML, which browsers draw themselves."""
    return _FORMULA.sub(_mathml, content)


def command_line() -> str:
    """Return the reference of all visible verbs, from the Typer app."""
    verbs = _verbs(typer.main.get_command(app), "napari-wsimil")
    return "\n".join([_COMMAND_LINE, *(_verb(command, path) for path, command in verbs)])


def api() -> str:
    """Return the reference of the public names, filled in by mkdocstrings."""
    return "\n".join([_API, *(f"::: {name}" for name in public_names())])


def public_names() -> Iterator[str]:
    """Yield the full name of each public function and class, where it is defined."""
    values = [getattr(napari_wsimil, name) for name in napari_wsimil.__all__]
    for value in sorted(values, key=lambda one: one.__name__.casefold()):
        yield f"{value.__module__}.{value.__qualname__}"


def _verbs(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, verb in command.commands.items():
        if not verb.hidden:
            yield from _verbs(verb, f"{path} {name}")


def _verb(command: Any, path: str) -> str:
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option"]
    usage = " ".join([path, "[OPTIONS]", *(_argument(one) for one in arguments)])
    return "\n".join(
        [
            f"\n## {path.removeprefix('napari-wsimil ')}\n\n```\n{usage}\n```\n",
            _plain(command.help or ""),
            *_table("Argument", [(_argument(one), one) for one in arguments]),
            *_table("Option", [(_option(one), one) for one in options]),
        ]
    )


def _argument(argument: Any) -> str:
    name = argument.name.upper()
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    return f"{names} (required)" if option.required else names


def _table(title: str, rows: list[tuple[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield f"\n| {title} | Meaning |\n|---|---|"
    for name, parameter in rows:
        yield f"| `{name}` | {_plain(parameter.help or '')}{_default(parameter)} |"


def _default(parameter: Any) -> str:
    default = parameter.default
    if callable(default) or isinstance(default, bool) or default in (None, "", ()):
        return ""
    return f" Default: `{getattr(default, 'value', default)}`."


def _plain(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "\\|")


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    return convert(html.unescape(match[2]), display=display)
