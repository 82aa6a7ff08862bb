"""README, manual and site build without network; commands, links and messages are real."""

from __future__ import annotations

import ast
import re
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag

import pytest
import typer
from mkdocs.commands.build import build
from mkdocs.config import load_config

from napari_wsimil.cli.main import app
from napari_wsimil.clinical.field import Field
from napari_wsimil.clinical.scenario import read_scenario
from napari_wsimil.clinical.schema import ClinicalSchema, read_schema
from napari_wsimil.cohort.manifest_file import COLUMNS
from napari_wsimil.models import MODELS
from napari_wsimil.models.card import Card
from napari_wsimil.training.config import RunConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).resolve().parents[1]
DOCS = TOP / "docs"
PAGES = [TOP / "README.md", TOP / "benchmarks" / "README.md", *sorted(DOCS.rglob("*.md"))]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(napari-wsimil [a-z][^`]*)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning fails, and so does any use of the network."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the build uses the network")

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.chdir(TOP)  # mkdocstrings finds the package from there
        patch.setattr(socket.socket, "connect", refuse)
        build(load_config(str(TOP / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?https?://[^\">]*")
    assert not {one for page in site.rglob("*.html") for one in loaded.findall(page.read_text())}


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    reached, waiting = set[Path](), [site / "index.html"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for link in re.findall(r'<a\b[^>]*\bhref="?([^">\s]+)', page.read_text()):
            target = (page.parent / urldefrag(link).url).resolve()
            if target.suffix == ".html" and target.is_file() and target not in reached:
                waiting.append(target)
    assert set(site.rglob("*.html")) - reached == {site / "404.html"}


def test_formulas_are_drawn_by_the_browser_alone(site: Path) -> None:
    pages = {page.stem: page.read_text() for page in (site / "methods").glob("*.html")}
    assert all("<math" in text for name, text in pages.items() if name != "index")
    assert not [name for name, text in pages.items() if "arithmatex" in text]


def test_reference_lists_every_visible_verb(site: Path) -> None:
    text = (site / "reference" / "command-line.html").read_text()
    assert [path for path, _ in _verbs(_cli(), "") if f">{path.strip()}<" not in text] == []


def test_readme_is_short() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_commands_exist_with_their_options(page: Path) -> None:
    wrong = [f"{line}: {why}" for line in _commands(page) if (why := _refusal(line))]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    links = [urldefrag(one).url for one in _LINK.findall(page.read_text())]
    files = [one for one in links if one and "://" not in one]
    generated = {DOCS / "reference" / name for name in ("command-line.md", "api.md")}
    targets = [(page.parent / one).resolve() for one in files]
    assert [one for one in targets if not one.exists() and one not in generated] == []


def test_every_picture_of_the_manual_is_shown() -> None:
    shown = {
        (page.parent / one).resolve() for page in PAGES for one in _LINK.findall(page.read_text())
    }
    assert [picture.name for picture in DOCS.rglob("*.jpg") if picture not in shown] == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("reference/checkpoint-card.md", Card.model_fields),
        ("reference/files.md", RunConfig.model_fields),
        ("reference/files.md", COLUMNS),
        ("reference/schema.md", ClinicalSchema.model_fields),
        ("reference/schema.md", Field.model_fields),
        ("methods/index.md", MODELS),
    ],
)
def test_reference_describes_every_name_on_disk(page: str, names: Any) -> None:
    text = _FENCE.sub("", (DOCS / page).read_text())
    described = re.findall(r"`([^`\n]+)`", text)
    described += re.findall(r"\]\((\w+)\.md\)", text)  # methods have a page each
    assert [name for name in names if name not in described] == []


def test_example_schema_and_scenario_open(tmp_path: Path) -> None:
    blocks = [text for kind, text in _FENCE.findall((DOCS / "reference/schema.md").read_text())
              if kind == "yaml"]  # fmt: skip
    for name, text in zip(("schema.yaml", "scenario.yaml"), blocks, strict=True):
        (tmp_path / name).write_text(text)
    schema, scenario = (
        read_schema(tmp_path / "schema.yaml"),
        read_scenario(tmp_path / "scenario.yaml"),
    )
    changed = scenario.apply(schema, schema.parse({"age": "64", "ldh": "210", "stage": "II"}))
    assert changed["ldh"] == 900


def test_messages_in_troubleshooting_are_those_of_the_program() -> None:
    """A message that was reworded belongs reworded in the manual, too."""
    rows = re.findall(r"^\|([^|]+)\|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    quoted = [text for row in rows for text in re.findall(r"`([^`]+)`", row)]
    spoken = "\n".join(_texts())
    assert len(quoted) > 40
    assert [text for text in quoted if text not in spoken] == []


def _texts() -> Iterator[str]:
    for path in (TOP / "napari_wsimil").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _commands(page: Path) -> Iterator[str]:
    """Yield the lines of a page that call this program or make."""
    text = page.read_text(encoding="utf-8")
    for kind, block in _FENCE.findall(text):
        if kind in ("", "sh"):
            yield from (one for one in block.splitlines() if one.startswith(("napari-w", "make ")))
    yield from _INLINE.findall(_FENCE.sub("", text))


def _refusal(line: str) -> str:
    """Return why a command would be refused, empty if it would not be."""
    program, *words = shlex.split(line, comments=True)
    if program == "make":
        targets = re.findall(r"^(\w+):", (TOP / "Makefile").read_text(), re.MULTILINE)
        return ", ".join(one for one in words if "=" not in one and one not in targets)
    command = _cli()
    while hasattr(command, "commands") and words:
        if words[0] not in command.commands:
            return f"there is no verb {words[0]}"
        command = command.commands[words.pop(0)]
    return _unfit(command, words)


def _unfit(command: Any, words: list[str]) -> str:
    context = command.context_class(command)
    try:
        given, left, _ = command.make_parser(context).parse_args(words)
    except typer.TyperException as error:
        return str(error)
    missing = [one.name for one in command.params if one.required and not given.get(one.name)]
    if missing:
        return f"{', '.join(missing)} missing"
    return f"too much: {' '.join(left)}" if left else ""


def _cli() -> Any:
    return typer.main.get_command(app)


def _verbs(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, verb in command.commands.items():
        if not verb.hidden:
            yield from _verbs(verb, f"{path} {name}")
