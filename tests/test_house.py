"""The structure of the package: no circles of files, short files, no paper named in explain."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import napari_wsimil
from napari_wsimil.models import MODELS

ROOT = Path(napari_wsimil.__file__).parent
MAX_LINES = 350


def module_of(path: Path) -> str:
    parts = ("napari_wsimil", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Return the package's modules that a file imports, also for types or within functions."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                modules.add(inner if inner in FILES else node.module)
    return modules - {module_of(path)}


GRAPH = {module: imports_of(path) for module, path in FILES.items()}


def circle_through(start: str) -> list[str]:
    """Return a path of imports from a module back to itself, empty if there is none."""
    paths, seen = [[start]], set()
    while paths:
        path = paths.pop()
        for module in GRAPH[path[-1]]:
            if module == start:
                return [*path, start]
            if module not in seen:
                seen.add(module)
                paths.append([*path, module])
    return []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert "napari_wsimil.slides.geometry" in GRAPH["napari_wsimil.slides.slide"]
    circles = [circle for module in FILES if (circle := circle_through(module))]
    assert circles == []


def test_no_file_is_long() -> None:
    long = {m: n for m, p in FILES.items() if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert long == {}


@pytest.mark.parametrize("module", [module for module in FILES if ".explain" in module])
def test_explanations_name_no_paper(module: str) -> None:
    papers = {cls.__module__ for cls in MODELS.values()}
    papers |= {p.rpartition(".")[0] for p in papers if p.count(".") > 2}  # a paper's folder
    named = {m for m in GRAPH[module] if any(m == p or m.startswith(f"{p}.") for p in papers)}
    assert named == set()
