"""Messages and results name things as people call them, and a closed pipe ends quietly."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import methods
import pytest
from cohorts import make_bag
from records import D, make_reader, make_slide
from studies import small_study

from napari_wsimil.cohort.manifest import Manifest, Split
from napari_wsimil.explain.predict import predict
from napari_wsimil.features.case import Case
from napari_wsimil.features.encoders.base import EncoderCard, PatchEncoder
from napari_wsimil.features.store import save_bag
from napari_wsimil.features.subpatches import with_finer
from napari_wsimil.models import create_model
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.training.evaluate import chosen_patients
from napari_wsimil.training.model_card import describe

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]


class Plain(PatchEncoder):
    """An encoder of one number."""

    def __init__(self) -> None:
        super().__init__(EncoderCard("plain", "0" * 64, 1, 8, None, (0,) * 3, (1,) * 3, "none"), 4)

    def encode(self, patches: Tensor) -> Tensor:
        return patches.float().mean(dim=(1, 2, 3))[:, None]


def test_a_split_is_named_by_its_word() -> None:
    cohort = Manifest(Path("cohort.csv"), ())
    with pytest.raises(ValueError, match="with a label in the split 'test'$"):
        chosen_patients(make_reader()[1], cohort, Split.TEST)


def test_an_empty_encoder_is_called_unnamed(coded_slide: Path) -> None:
    bag = replace(make_slide(3), encoder="")
    with (
        open_slide(coded_slide) as slide,
        pytest.raises(ValueError, match='of an unnamed encoder, not of the encoder "plain@'),
    ):
        with_finer(bag, slide, Plain())


def test_bags_of_a_named_and_an_unnamed_encoder_are_told_apart() -> None:
    cases = [
        Case(name, (replace(make_bag(0), encoder=name, slide=name),), 0) for name in ("", "uni")
    ]
    model = create_model("abmil", feature_dim=make_bag(0).features.shape[1], classes=2)
    with pytest.raises(ValueError, match="one encoder, not uni, unnamed$"):
        describe(model, cases, classes="ab", data="", seed=0, salt="", created="")


@pytest.mark.parametrize("name", ["persam-live", "persam", "bd"])
def test_scalars_of_a_class_have_its_name(name: str) -> None:
    shape = {} if name != "bd" else {"attention_dim": 8}
    model, card = make_reader(name, **shape)
    scalars = predict(model, card, make_slide(20), None).scalars
    assert any(key.endswith(": A") for key in scalars)
    assert not any(re.search(r"\d$", key) for key in scalars)


def test_scalars_of_no_class_keep_their_names() -> None:
    model = create_model("longmil", feature_dim=D, classes=2)
    _, card = make_reader()
    card = card.model_copy(update={"model": "longmil", "config": model.config, "record": None})
    assert "radius (steps)" in predict(model.eval(), card, make_slide(20)).scalars


@pytest.mark.parametrize(
    "verb", [["info"], ["info", "--json"], ["models"], ["study", "ledger"], ["--help"]]
)
def test_a_closed_pipe_ends_quietly(tmp_path: Path, verb: list[str]) -> None:
    save_bag(tmp_path / "a.h5", make_bag(0))
    small_study(tmp_path / "study").close()
    target = {"info": tmp_path / "a.h5", "study": tmp_path / "study"}.get(verb[0])
    command = [*verb, *([] if target is None else [str(target)])]
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_wsimil.cli.main", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    process.stdout.close()  # as `head` does once it has its lines
    with process:
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_an_empty_file_of_figures_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.touch()
    assert methods.Record(path, quick=False).runs == {}


@pytest.mark.parametrize("content", ["[]", "{", '{"quick": false}'])
def test_figures_go_on_from_a_file_of_figures_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(SystemExit, match="not written by this benchmark: name another file"):
        methods.Record(path, quick=False)


def test_figures_of_another_size_of_data_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    methods.Record(path, quick=True).add("maxpool", 0, {"auc": 0.5})
    assert methods.Record(path, quick=True).runs == {"maxpool": {"0": {"auc": 0.5}}}
    with pytest.raises(SystemExit, match="of runs with quick True: delete it first"):
        methods.Record(path, quick=False)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_no_line_of_the_documents_is_half_a_sentence(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^.*\.\n[a-z]{3,}.*", prose, flags=re.MULTILINE) == []
