"""The manifest and the resources reach the user, from a wheel and from an editable install."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import pytest
from npe2 import PluginManifest

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=TOP, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_top_level_manifest(wheel: zipfile.ZipFile) -> None:
    assert wheel.read("napari_wsimil/napari.yaml") == (TOP / "napari.yaml").read_bytes()


def test_the_wheel_holds_every_resource(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if name.startswith("napari_wsimil/resources/")}
    resources = [path for path in (TOP / "resources").rglob("*") if path.is_file()]
    assert shipped == {f"napari_wsimil/{path.relative_to(TOP)}" for path in resources}


def test_the_installed_package_finds_manifest_and_resources() -> None:
    package = files("napari_wsimil")
    assert package.joinpath("napari.yaml").read_bytes() == (TOP / "napari.yaml").read_bytes()
    assert package.joinpath("resources", "README.md").is_file()


def test_napari_finds_a_valid_manifest() -> None:
    (entry,) = (e for e in entry_points(group="napari.manifest") if e.name == "napari-wsimil")
    manifest = PluginManifest.from_distribution("napari-wsimil")
    assert entry.value == "napari_wsimil:napari.yaml"
    manifest.validate_imports()
