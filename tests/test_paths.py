"""A path may be given as text or as a `Path`, wherever the library takes one."""

from __future__ import annotations

import ast
import re
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import openpyxl
import pytest
import torch
from cohorts import SPLITS, D, make_bag, write_manifest
from safetensors.torch import save_file
from studies import SCHEMA
from typer.testing import CliRunner
from windows import save_untrained

import napari_wsimil
from napari_wsimil.cli.main import app
from napari_wsimil.cohort.cbioportal import clinical_files
from napari_wsimil.cohort.manifest import SlideRow
from napari_wsimil.cohort.table_formats import workbook_sheets
from napari_wsimil.explain.export import check_ending
from napari_wsimil.features.encoders.base import hash_file, read_weights
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import is_features, open_bag, open_confirmed, read_stated
from napari_wsimil.features.matching import feature_files
from napari_wsimil.features.store import BagFile, Provenance, is_finished, load_bag, save_bag
from napari_wsimil.progress import finish
from napari_wsimil.slides.readers.open_reader import open_reader
from napari_wsimil.study.create_study import create_study, open_study, study_of_folder
from napari_wsimil.study.pseudonyms import read_key
from napari_wsimil.training.bag_files import bag_of_slide, feature_path
from napari_wsimil.training.checkpoint import check_target, load_checkpoint, save_checkpoint
from napari_wsimil.training.config import RunConfig, checked_run, read_run, write_run
from napari_wsimil.training.dataset import open_cohort, read_cohort
from napari_wsimil.training.fit import FitConfig
from napari_wsimil.training.identity import encoder_of
from napari_wsimil.training.import_weights import read_release
from napari_wsimil.training.train import train_run
from napari_wsimil.workflows.share import left_out, save_scrubbed

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(napari_wsimil.__file__).parent

#: Front ends, whose paths come from widgets and from the parser of the command line.
FRONT_ENDS = {"cli", "gui"}
FILES = [
    file
    for file in sorted(HOUSE.rglob("*.py"))
    if not (parts := file.relative_to(HOUSE).parts)[-1].startswith("_")
    and parts[0] not in FRONT_ENDS
]


def public_functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                open_to_all = getattr(part, "name", "_")[:1] != "_"
                if isinstance(part, ast.FunctionDef) and (open_to_all or part.name == "__init__"):
                    yield f"{node.name}.{part.name}", part


def takes_a_path_alone(function: ast.FunctionDef) -> bool:
    """Return whether an argument is a `Path`, or has some, which may not be text.

    Keys of a mapping aside: these were returned by another function.
    """
    found = function.args
    arguments = [*found.posonlyargs, *found.args, *found.kwonlyargs, found.vararg, found.kwarg]
    texts = [ast.unparse(one.annotation) for one in arguments if one and one.annotation]
    texts = [text.replace("Mapping[Path, ", "Mapping[") for text in texts]
    return any(re.search(r"\bPath\b", text) and "str" not in text for text in texts)


def test_every_public_function_takes_text_where_it_takes_a_path() -> None:
    assert len(FILES) > 150
    found = {
        f"{file.relative_to(HOUSE)}: {name}"
        for file in FILES
        for name, node in public_functions(ast.parse(file.read_text(encoding="utf-8")))
        if takes_a_path_alone(node)
    }
    assert found == set()


def test_the_inspection_finds_what_takes_a_path_alone() -> None:
    text = "def f(a: int, *, b: Path | None = None): ...\ndef g(a: Path | str): ..."
    (_, f), (_, g) = public_functions(ast.parse(text))
    assert takes_a_path_alone(f)
    assert not takes_a_path_alone(g)


def test_checkpoints(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "model.safetensors", "abmil")
    model, card = load_checkpoint(str(path))
    check_target(f"{tmp_path}/copy.safetensors")
    save_checkpoint(f"{tmp_path}/copy.safetensors", model, card)
    assert load_checkpoint(tmp_path / "copy.safetensors")[1] == card


def test_runs_and_cohorts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    manifest = write_manifest(tmp_path, SPLITS)
    monkeypatch.chdir(tmp_path)
    config = RunConfig(
        cohort=manifest,
        out=tmp_path / "model.safetensors",
        model="abmil",
        options={"width": 8},
        fit=FitConfig(epochs=1),
        threads=1,
    )
    write_run("run.json", config)
    assert read_run("run.json") == config
    trained = finish(train_run(read_run("run.json")))
    assert trained.path == tmp_path / "model.safetensors"
    cohort = open_cohort(manifest.name)
    assert cohort.patients == read_cohort(manifest.name, None).patients
    row = cohort.patients[0].slides[0]
    assert len(bag_of_slide(row, "features")) > 0
    assert feature_path(SlideRow("s1"), "features") == Path("features/s1.h5")
    assert encoder_of(cohort, "features") == bag_of_slide(row, None).encoder
    values = dict(config) | {"cohort": manifest.name, "out": "again.safetensors"}
    again = finish(train_run(checked_run(values), cohort))
    assert again.path == tmp_path / "again.safetensors"
    assert again.card.model == "abmil"


def test_features(tmp_path: Path) -> None:
    bag = make_bag(0)
    path = f"{tmp_path}/a.h5"
    save_bag(path, bag)
    assert is_finished(path)
    assert not is_finished(f"{tmp_path}/absent.h5")
    assert is_features(path)
    for opened in (load_bag(path), open_bag(path), open_confirmed(path, Confirmed())):
        assert torch.equal(opened.features, bag.features)
    assert read_stated(path).shape == tuple(bag.features.shape)
    assert feature_files(str(tmp_path)) == (tmp_path / "a.h5",)
    save_scrubbed(f"{tmp_path}/b.h5", bag, "name")
    assert "slide" not in left_out(path, path)
    assert bag.grid is not None
    with BagFile(f"{tmp_path}/c.h5", bag.grid, D, Provenance("e")) as file:
        assert len(file) == 0
    check_ending("curves.png")
    with pytest.raises(ValueError, match="curves"):
        check_ending("curves.xyz")


def test_weights(tmp_path: Path) -> None:
    path = f"{tmp_path}/w.safetensors"
    save_file({"a": torch.ones(2)}, path)
    assert list(read_weights(path)) == list(read_release(path)) == ["a"]
    assert hash_file(path) == hash_file(tmp_path / "w.safetensors")


def test_slides(small_slide: Path) -> None:
    reader = open_reader(str(small_slide))
    assert (reader.levels[0].width, reader.levels[0].height) == (2220, 2967)
    reader.close()


def test_studies_and_tables(tmp_path: Path, small_slide: Path) -> None:
    (tmp_path / "slides").mkdir()
    shutil.copy(small_slide, tmp_path / "slides" / "one.svs")
    with study_of_folder(f"{tmp_path}/slides", f"{tmp_path}/made") as study:
        assert len(study.manifest().patients) == 1
        study.set_root("slides", str(tmp_path / "slides"), "they lie there")
    create_study(f"{tmp_path}/study", SCHEMA).close()
    with open_study(f"{tmp_path}/study") as study:
        assert not study.manifest().patients
    assert not read_key(f"{tmp_path}/key.json", f"{tmp_path}/study").patients
    book = openpyxl.Workbook()
    book.save(tmp_path / "book.xlsx")
    assert workbook_sheets(f"{tmp_path}/book.xlsx") == ("Sheet",)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data_clinical_patient.txt", "PATIENT_ID\nP1\n")
    assert list(clinical_files(f"{tmp_path}/a.zip")) == ["data_clinical_patient.txt"]


def test_the_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    top = Path(__file__).resolve().parents[1]
    readme = (top / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S)
    (first,) = re.findall(r"^napari-wsimil (phantom .*)$", readme, re.M)
    (tmp_path / "resources").symlink_to(top / "resources")
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, first.split()).exit_code == 0
    exec(compile(example, "README.md", "exec"), {})
    assert "{'A': " in capsys.readouterr().out
