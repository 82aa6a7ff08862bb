"""Check the words of docstrings, names and messages in the package.

Usage: python scripts/check_words.py [--list RULE] [FOLDER]

The rules stand in CONTRIBUTING.md under "Words". A count above its limit fails; lower a limit
whenever its count falls.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).resolve().parents[1] / "napari_wsimil"

#: Clauses such as "what the model says", case-sensitive so that "What-if" at a start is spared.
FUSED = re.compile(r"\b(what|who|whom|whose|whoever|whatever)\b(?!-if)")
#: Participles that say nothing of the thing they name.
BANNED = {"found", "asked", "said", "told", "lacking", "laid", "sought", "tried", "held"}
FIRST_LINE_WORDS = 12
MESSAGE_CHARACTERS = 200

LIMITS = {
    "fused clauses per 1,000 words": 3.7,
    "repeated public class names": 12,
    "long first docstring lines": 527,
    "banned identifiers": 126,
    "long messages": 0,
}


@dataclass
class Findings:
    """Places that break a rule, as "file:line: text", by rule."""

    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    docstring_words: int = 0
    classes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, rule: str, place: str, text: str) -> None:
        """Add a place that breaks a rule."""
        self.places[rule].append(f"{place}: {text}")

    def counts(self) -> dict[str, float]:
        """Return the count of each rule in `LIMITS`, fused clauses per 1,000 words."""
        counts: dict[str, float] = {rule: len(self.places[rule]) for rule in LIMITS}
        rule = "fused clauses per 1,000 words"
        counts[rule] = round(1000 * len(self.places[rule]) / max(1, self.docstring_words), 1)
        return counts


def check(folder: Path = PACKAGE) -> Findings:
    """Return all findings in the Python files below a folder."""
    findings = Findings()
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = path.relative_to(folder).as_posix()
        for node in ast.walk(tree):
            _check_docstring(node, name, findings)
            _check_names(node, name, findings)
            _check_message(node, name, findings)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                findings.classes[node.name].append(f"{name}:{node.lineno}")
    for name, places in findings.classes.items():
        if len(places) > 1:
            findings.add("repeated public class names", places[0], f"{name}, also {places[1:]}")
    return findings


def _check_docstring(node: ast.AST, name: str, findings: Findings) -> None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return
    text = ast.get_docstring(node)
    if not text:
        return
    place = f"{name}:{getattr(node, 'lineno', 1)}"
    findings.docstring_words += len(text.split())
    for match in FUSED.finditer(text):
        around = text[max(0, match.start() - 30) : match.end() + 30].replace("\n", " ")
        findings.add("fused clauses per 1,000 words", place, around)
    first = text.splitlines()[0]
    if len(first.split()) > FIRST_LINE_WORDS:
        findings.add("long first docstring lines", place, first)


def _check_names(node: ast.AST, name: str, findings: Findings) -> None:
    for line, identifier in _bound_names(node):
        if identifier in BANNED:
            findings.add("banned identifiers", f"{name}:{line}", identifier)


def _bound_names(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.id
    elif isinstance(node, ast.arg):
        yield node.lineno, node.arg
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.lineno, node.name
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.attr


def _check_message(node: ast.AST, name: str, findings: Findings) -> None:
    if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
        return
    text = _text(node.exc.args[0])
    if len(text) > MESSAGE_CHARACTERS:
        findings.add("long messages", f"{name}:{node.lineno}", text)


def _text(node: ast.AST) -> str:
    """Return the fixed text of a string; each inserted value counts ten characters."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return "x" * 10
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Print counts against limits; return 1 if one is above its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=PACKAGE)
    parser.add_argument("--list", metavar="RULE", help="print the places whose rule begins so")
    options = parser.parse_args(arguments)
    findings = check(options.folder)
    failed = False
    for rule, count in findings.counts().items():
        above = count > LIMITS[rule]
        failed |= above
        print(f"{rule}: {count:g} (limit {LIMITS[rule]:g}){' TOO MANY' if above else ''}")
        if above or (options.list is not None and rule.startswith(options.list)):
            print("\n".join(f"  {place}" for place in findings.places[rule]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
