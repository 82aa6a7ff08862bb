"""Checkpoints: one file in, the same model out, and everything else refused."""

from __future__ import annotations

import json
import pickle
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.case import Case
from napari_wsimil.models import MILModel, create_model
from napari_wsimil.models.card import Card, pseudonym
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from napari_wsimil.training.model_card import describe

if TYPE_CHECKING:
    from pathlib import Path

D = 6


def make_grid(mpp: float | None = 0.5, pixels: int = 224, stride: int = 448) -> PatchGrid:
    coords = np.zeros((2, 2), dtype=np.int64)
    return PatchGrid(coords, patch_size=448, stride=stride, pixels=pixels, mpp=mpp)


def make_case(patient: str, synthetic: bool = False, **grid: float) -> Case:
    bag = Bag(torch.zeros(2, D), encoder="ink-1", grid=make_grid(**grid), synthetic=synthetic)
    return Case(patient, (bag,), 0)


def make_card(model: MILModel, *cases: Case) -> Card:
    return describe(
        model,
        cases or (make_case("ann"), make_case("bob")),
        classes=("normal", "tumor"),
        data="two made-up patients",
        seed=7,
        salt="sea",
        created="2026-01-01",
        metrics={"auc": 0.75, "unknown": float("nan")},
    )


@pytest.fixture
def model() -> MILModel:
    torch.manual_seed(0)
    model = create_model("acmil", feature_dim=D, classes=2, width=8, branches=3, mask_rate=0.3)
    model.standardize.mean.uniform_()
    return model


@pytest.fixture
def path(tmp_path: Path, model: MILModel) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, make_card(model))
    return path


def rewrite(path: Path, tensors: dict[str, torch.Tensor], **fields: object) -> None:
    """Write tensors with the card of `path`, some of its fields changed."""
    _, card = load_checkpoint(path)
    save_file(tensors, path, metadata={"card": json.dumps(card.model_dump() | fields)})


def test_model_and_card_come_back_the_same(path: Path, model: MILModel) -> None:
    again, card = load_checkpoint(path)
    expected = model.state_dict()
    assert again.state_dict().keys() == expected.keys()
    assert all(torch.equal(again.state_dict()[name], expected[name]) for name in expected)
    assert again.config == model.config
    assert not again.training
    first = make_card(model)
    assert card.metrics["unknown"] is None
    assert card.reasons["unknown"].startswith("not defined")
    told = {"weights": "", "metrics": {}}
    assert card.model_copy(update=told) == first.model_copy(update=told)


def test_a_loaded_model_can_be_trained_on(path: Path) -> None:
    model, _ = load_checkpoint(path)
    model.loss(model(Bag(torch.ones(3, D))), torch.tensor(1))["class"].backward()
    assert model.embedding.weight.grad.any()


def test_the_card_tells_what_a_user_needs(model: MILModel) -> None:
    card = make_card(model, make_case("ann"), make_case("bob", mpp=0.52, stride=224))
    assert (card.model, card.encoder, card.encoder_dim) == ("acmil", "ink-1", D)
    assert (card.mpp, card.pixels, card.overlap) == (0.51, 224, 0.25)
    assert card.config["branches"] == 3
    assert card.config["stkim"] == "fixed"
    assert (card.seed, card.threads, card.created) == (7, torch.get_num_threads(), "2026-01-01")
    assert card.versions["torch"] == version("torch")
    assert not card.synthetic


def test_one_synthetic_slide_makes_the_model_synthetic(model: MILModel) -> None:
    assert make_card(model, make_case("ann"), make_case("bob", synthetic=True)).synthetic


def test_bags_without_places_leave_the_scale_open(model: MILModel) -> None:
    card = make_card(model, Case("ann", (Bag(torch.zeros(2, D), encoder="ink-1"),), 0))
    assert (card.mpp, card.pixels, card.overlap) == (None, None, None)


def test_bags_of_two_encoders_have_no_card(model: MILModel) -> None:
    other = Case("eve", (Bag(torch.zeros(2, D), encoder="oil-2"),), 0)
    with pytest.raises(ValueError, match="one encoder, not ink-1, oil-2"):
        make_card(model, make_case("ann"), other)


def test_a_patient_trained_on_is_recognized_and_not_named(path: Path) -> None:
    _, card = load_checkpoint(path)
    assert card.trained_on("ann")
    assert not card.trained_on("eve")
    assert b"ann" not in path.read_bytes()
    assert pseudonym("ann", "sea") != pseudonym("ann", "land")


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt", "model.safetensors"])
@pytest.mark.parametrize("protocol", ["torch", 2, 5])
def test_a_pickle_is_refused_whatever_its_name(
    tmp_path: Path, name: str, protocol: str | int
) -> None:
    path = tmp_path / name
    if isinstance(protocol, int):
        path.write_bytes(pickle.dumps({"a": 1}, protocol))
    else:
        torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=f"{name} is a pickle.*any program"):
        load_checkpoint(path)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("left", [0, 4, 200, -1])
def test_a_file_cut_short_is_refused(path: Path, left: int) -> None:
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CheckpointError, match="cut short"):
        load_checkpoint(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone.safetensors cannot be read"):
        load_checkpoint(tmp_path / "gone.safetensors")


def test_one_changed_bit_of_a_weight_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not those its card was written for"):
        load_checkpoint(path)


def test_an_unknown_model_is_refused_by_name(path: Path, model: MILModel) -> None:
    rewrite(path, model.state_dict(), model="resnet")
    with pytest.raises(CheckpointError, match='unknown model "resnet"'):
        load_checkpoint(path)


def test_missing_and_unexpected_weights_are_named(path: Path, model: MILModel) -> None:
    tensors = dict(model.state_dict())
    tensors["extra"] = tensors.pop("head.bias")
    rewrite(path, tensors)
    with pytest.raises(CheckpointError, match=r"missing head\.bias; unexpected extra"):
        load_checkpoint(path)


def test_weights_of_another_shape_are_named(path: Path, model: MILModel) -> None:
    rewrite(path, model.state_dict() | {"head.bias": torch.zeros(5)})
    with pytest.raises(CheckpointError, match=r"head\.bias is \(5,\).*needs \(2,\)"):
        load_checkpoint(path)


def test_weights_that_are_no_numbers_are_named(path: Path, model: MILModel) -> None:
    rewrite(path, model.state_dict() | {"head.bias": torch.full((2,), float("nan"))})
    with pytest.raises(CheckpointError, match=r"head\.bias has NaN"):
        load_checkpoint(path)


def test_a_newer_format_is_told_to_update(path: Path, model: MILModel) -> None:
    rewrite(path, model.state_dict(), format=99, something="new")
    with pytest.raises(CheckpointError, match="format 99, this program knows 3"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"something": "new"}, "something"),
        ({"encoder_dim": 7}, "feature_dim 7"),
        ({"classes": ["a", "b", "c"]}, "classes 3"),
        ({"format": "soon"}, "card that cannot be read"),
        ({"mpp": -1}, "mpp"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused(
    path: Path, model: MILModel, fields: dict[str, object], said: str
) -> None:
    rewrite(path, model.state_dict(), **fields)
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [{"card": "{"}, {"card": "[]"}, {"card": "3"}])
def test_a_card_that_is_no_card_is_refused(
    path: Path, model: MILModel, metadata: dict[str, str]
) -> None:
    save_file(model.state_dict(), path, metadata=metadata)
    with pytest.raises(CheckpointError, match="card that cannot be read"):
        load_checkpoint(path)


def test_weights_of_another_program_are_refused(path: Path, model: MILModel) -> None:
    save_file(model.state_dict(), path)
    with pytest.raises(CheckpointError, match="no card"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("width", 10**12, "the card's model needs"),
        ("attention_dim", 10**12, "the card's model needs"),
        ("width", 10**18, "overflow"),
        ("attention_dim", -1, "negative"),
        ("branches", 10**400, "exceeds the number of its weights"),
        ("branches", "many", "cannot create"),
    ],
)
def test_a_card_cannot_ask_for_more_memory_than_its_file_has(
    path: Path, model: MILModel, name: str, value: int | str, said: str
) -> None:
    rewrite(path, model.state_dict(), config=model.config | {name: value})
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["acmil", "hafed", "persam"])
def test_a_card_cannot_ask_for_more_modules_than_its_file_has_weights(
    tmp_path: Path, name: str
) -> None:
    model = create_model(name, feature_dim=D, classes=2)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, make_card(model))
    counted = "depth" if name == "persam" else "branches"
    rewrite(path, model.state_dict(), config=model.config | {counted: 10**5})
    with pytest.raises(CheckpointError, match=f"{counted} 100000 exceeds"):
        load_checkpoint(path)


def test_a_number_that_makes_no_weights_may_be_more_than_they_are(tmp_path: Path) -> None:
    model = create_model("vib", feature_dim=D, classes=2, width=8, keep=1_000_000)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, make_card(model))
    assert load_checkpoint(path)[0].config == model.config


def test_a_loaded_model_outlives_its_file(path: Path) -> None:
    model, _ = load_checkpoint(path)
    before = model.head.weight.clone()
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(model.head.weight, before)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    path: Path, model: MILModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("os.replace", full)
    model.head.bias.data += 1
    with pytest.raises(CheckpointError, match="could not be written: No space"):
        save_checkpoint(path, model, make_card(model))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_name_that_could_not_be_loaded_is_not_saved(tmp_path: Path, model: MILModel) -> None:
    with pytest.raises(CheckpointError, match="end in .safetensors"):
        save_checkpoint(tmp_path / "model.pt", model, make_card(model))
