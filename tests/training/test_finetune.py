"""Fine-tuning an encoder on pixels: what is read, what learns, what is kept."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.ndimage import minimum_filter
from torch import nn

from napari_wsimil.features.encoders.base import IMAGENET_MEAN, IMAGENET_STD
from napari_wsimil.features.pixel_slide import PixelSlide
from napari_wsimil.models.abmil import ABMIL
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.synthetic.bags_pixels import Nuclei, PlantedPixels, plant_pixels
from napari_wsimil.training.finetune import CONFIG, EndToEnd, augmented, encode, finetune, identity
from napari_wsimil.training.finetune_data import ResNet50, SmallCNN, pixel_case, slide_pixels
from napari_wsimil.training.fit import Epoch, TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.features.case import Case

S, DIM, K = 12, 8, 5
WORLD = Nuclei(patches=(20, 30), pixels=S, share=(0.2, 0.3))


@pytest.fixture
def slides() -> tuple[PlantedPixels, ...]:
    return plant_pixels(WORLD, 4, 7)


@pytest.fixture
def model() -> EndToEnd:
    torch.manual_seed(0)
    head = ABMIL(feature_dim=DIM, classes=2, width=8, attention_dim=4)
    return EndToEnd(encoder=SmallCNN(DIM), head=head, pixels=S)


def cases(slides: tuple[PlantedPixels, ...]) -> list[Case]:
    index = torch.arange(K)
    return [pixel_case(one.slide.name, [one.slide], [index], one.target) for one in slides]


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: nn.Module) -> set[str]:
    return {name for name, value in module.state_dict().items() if not value.equal(before[name])}


def gradients(model: EndToEnd, case: Case) -> list[torch.Tensor]:
    model.zero_grad()
    output = model(case.bags[0])
    torch.stack(list(model.loss(output, torch.tensor(1)).values())).sum().backward()
    return [parameter.grad.clone() for parameter in model.encoder.parameters()]


def test_only_chosen_patches_are_read_and_only_when_used(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    read: list[int] = []

    def spying(index: np.ndarray) -> np.ndarray:
        read.extend(index.tolist())
        return slides[0].slide.read(index)

    slide = replace(slides[0].slide, read=spying)
    case = pixel_case("a", [slide], [torch.tensor([3, 9, 17])], 1)
    assert read == []
    finish(finetune(model, [case], config=replace(CONFIG, epochs=2)))
    assert read == [3, 9, 17] * 2


def test_the_gradient_is_of_the_chosen_patches_alone(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    whole = slides[1].slide.read(np.arange(len(slides[1].slide)))
    chosen = torch.tensor([2, 4, 11])

    def gradient(patches: np.ndarray) -> list[torch.Tensor]:
        slide = replace(slides[1].slide, read=lambda index: patches[index])
        return gradients(model.eval(), pixel_case("a", [slide], [chosen], 1))

    others, inside = whole.copy(), whole.copy()
    others[[n for n in range(len(whole)) if n not in chosen.tolist()]] = 0
    inside[4] = 0
    first = gradient(whole)
    assert any(g.any() for g in first)
    assert all(a.equal(b) for a, b in zip(first, gradient(others), strict=True))
    assert not all(a.equal(b) for a, b in zip(first, gradient(inside), strict=True))


def test_pieces_give_the_gradient_of_the_whole(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    case = cases(slides)[1]
    whole = gradients(model.eval(), case)
    model.batch = 2
    for one, other in zip(whole, gradients(model, case), strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-4)


def test_encoder_and_head_learn_what_some_slides_are(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    before = weights(model)
    lesions_first = [torch.from_numpy(np.argsort(~one.truth)[:K]) for one in slides]
    chosen = [
        pixel_case(one.slide.name, [one.slide], [index], one.target)
        for one, index in zip(slides, lesions_first, strict=True)
    ]
    config = replace(CONFIG, epochs=40, accumulate=1, lr=1e-2)
    epochs = [e for e in finetune(model, chosen, config=config) if isinstance(e, Epoch)]
    assert epochs[-1].train["loss"] < epochs[0].train["loss"] / 2
    learned = {name for name, _ in model.named_parameters()}
    # the softmax over patches does not see what all of them share
    assert learned - {"head.attention.score.bias"} <= changed(before, model) <= learned
    assert not model.training


def test_frozen_parts_stay_and_may_learn_again_afterwards(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    before = weights(model.encoder)
    finish(finetune(model, cases(slides), config=replace(CONFIG, epochs=2), frozen=["layer1"]))
    assert {name.split(".")[0] for name in changed(before, model.encoder)} == {"layer2", "layer3"}
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())


def test_a_part_that_is_not_there_is_refused_with_those_that_are(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    with pytest.raises(ValueError, match='no part "layer9".*layer1, layer2, layer3'):
        finish(finetune(model, cases(slides), frozen=["layer9"]))


@pytest.mark.parametrize("wrong", [{"noise": 0.5}, {"shift": 0.1}, {"standardize": True}])
def test_settings_that_are_for_features_are_refused(
    slides: tuple[PlantedPixels, ...], model: EndToEnd, wrong: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match="bags are pixels"):
        finish(finetune(model, cases(slides), config=replace(CONFIG, **wrong)))


def test_statistics_of_batch_normalization_stay_as_they_came(
    slides: tuple[PlantedPixels, ...],
) -> None:
    encoder = nn.Sequential(
        nn.Conv2d(3, DIM, 3), nn.BatchNorm2d(DIM), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model = EndToEnd(encoder=encoder, head=ABMIL(feature_dim=DIM, classes=2), pixels=S)
    before = weights(encoder)
    finish(finetune(model, cases(slides), config=replace(CONFIG, epochs=1)))
    assert changed(before, encoder) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_a_training_that_is_stopped_keeps_the_last_whole_epoch(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    kept = {}
    config = replace(CONFIG, epochs=5, accumulate=1)
    work = finetune(model, cases(slides), config=config, frozen=["layer1"])
    for event in work:
        if isinstance(event, Epoch):
            kept = weights(model)
        elif event.text == "epoch 3" and event.done == 4:
            assert changed(kept, model)
            break
    work.close()
    assert not changed(kept, model)
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())


@pytest.mark.parametrize("broken", ["encoder.layer3.0.bias", "head.head.bias"])
def test_what_is_not_finite_ends_it_with_the_last_good_weights(
    slides: tuple[PlantedPixels, ...], model: EndToEnd, broken: str
) -> None:
    work = finetune(model, cases(slides), config=replace(CONFIG, epochs=3))
    next(event for event in work if isinstance(event, Epoch))
    kept = weights(model)
    model.get_parameter(broken).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="lower|below"):
        finish(work)
    assert not changed(kept, model)


def test_pixels_are_not_augmented_outside_training(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    bag = cases(slides)[0].bags[0]
    assert torch.equal(model.eval()(bag).logits, model(bag).logits)
    assert not torch.equal(model.train()(bag).logits, model(bag).logits)


def test_augmented_patches_are_turned_mirrored_and_shaded() -> None:
    patch = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    torch.manual_seed(0)
    many = augmented(patch.expand(400, -1, -1, -1))
    assert many.shape == (400, 3, 4, 4)
    assert many.min() >= 0
    assert many.max() <= 1
    turned = [p for m in (patch, patch.flip(3)) for p in (m.rot90(t, (2, 3)) for t in range(4))]
    flat = torch.cat(turned).flatten(1) - patch.mean()
    shape = many.flatten(1) - many.mean(dim=(1, 2, 3))[:, None]
    closeness = torch.nn.functional.cosine_similarity(shape[:, None], flat[None], dim=2)
    assert closeness.max(dim=1).values.min() > 0.98
    assert closeness.argmax(dim=1).bincount(minlength=8).min() > 20
    factors = many.mean(dim=(1, 2, 3)) / patch.mean()
    assert 0.78 < factors.min() < 0.85 < 1.15 < factors.max() < 1.22
    spread = shape.norm(dim=1) / flat[0].norm()
    assert 0.78 < spread.min() < 0.85 < 1.15 < spread.max() < 1.22


def test_encoding_gives_the_features_of_every_patch_in_order(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    encoder = model.encoder.train()
    bags = finish(encode(encoder, [one.slide for one in slides], batch=7))
    for bag, one in zip(bags, slides, strict=True):
        assert bag.grid is one.slide.grid
        assert (bag.slide, bag.synthetic, bag.encoder) == (one.slide.name, True, identity(encoder))
        for n in (0, len(bag) - 1):
            patch = torch.from_numpy(one.slide.read(np.array([n]))).permute(0, 3, 1, 2)
            torch.testing.assert_close(bag.features[n : n + 1], encoder(patch / 255).detach())
        assert not bag.features.requires_grad
    assert encoder.training


def test_other_weights_are_another_encoder(model: EndToEnd) -> None:
    other = copy.deepcopy(model.encoder)
    assert identity(other) == identity(model.encoder)
    other.layer1[0].bias.data[0] += 1
    assert identity(other) != identity(model.encoder)


def test_pixels_of_a_slide_are_the_patches_of_its_grid(coded_slide: Path) -> None:
    coords = np.array([[0, 0], [64, 128], [512, 256]], dtype=np.int64)
    grid = PatchGrid(coords, patch_size=64, stride=64, pixels=32)
    with open_slide(coded_slide) as slide:
        pixels = slide_pixels(slide, grid).pixels(torch.tensor([2, 1]))
        expected = [slide.read_patch(x, y, 64, 32) for x, y in ((512, 256), (64, 128))]
        assert slide_pixels(slide, grid).synthetic == slide.synthetic
        assert slide_pixels(slide, grid).name == slide.fingerprint
    np.testing.assert_array_equal(pixels.permute(0, 2, 3, 1), np.stack(expected))


def test_pixels_of_another_type_or_shape_are_refused() -> None:
    for patches in (np.zeros((1, S, S, 3)), np.zeros((1, S, S + 1, 3), np.uint8)):
        slide = PixelSlide("s", 1, lambda _, patches=patches: patches)
        with pytest.raises(ValueError, match="uint8 of shape"):
            slide.pixels(torch.tensor([0]))


def test_a_choice_is_needed_for_every_slide(slides: tuple[PlantedPixels, ...]) -> None:
    with pytest.raises(ValueError, match="2 slides"):
        pixel_case("a", [slides[0].slide, slides[1].slide], [torch.tensor([0])], 1)


def test_a_patient_may_have_several_slides(
    slides: tuple[PlantedPixels, ...], model: EndToEnd
) -> None:
    index = [torch.arange(3), torch.arange(4)]
    case = pixel_case("a", [slides[0].slide, slides[1].slide], index, 1)
    assert [len(bag) for bag in case.bags] == [3, 4]
    assert [len(bag) for bag in case.bags[1:]] == [4]
    finish(finetune(model, [case], config=replace(CONFIG, epochs=1)))


def test_planted_slides_are_the_same_again_and_every_second_has_lesions() -> None:
    first, again = plant_pixels(WORLD, 4, 7), plant_pixels(WORLD, 4, 7)
    assert [one.target for one in first] == [0, 1, 0, 1]
    for one, other in zip(first, again, strict=True):
        index = np.arange(len(one.slide))
        np.testing.assert_array_equal(one.slide.read(index), other.slide.read(index))
        assert one.truth.any() == bool(one.target)
        assert one.slide.read(index).shape == (len(one.truth), S, S, 3)


def test_lesions_have_larger_nuclei_and_are_not_the_darkest() -> None:
    world = Nuclei(stain=0.0, noise=0.0)
    slides = plant_pixels(world, 8, 3)
    dark = np.concatenate([one.slide.read(np.arange(len(one.slide))) for one in slides])
    dark = dark.mean(axis=-1) < 140
    lesion = np.concatenate([one.truth for one in slides])
    cores = minimum_filter(dark, (1, 5, 5)).mean(axis=(1, 2))  # what is dark all around
    shares = dark.mean(axis=(1, 2))
    assert np.mean(cores[lesion]) > 10 * np.mean(cores[~lesion])
    assert shares[~lesion].mean() < shares[lesion].mean() < np.quantile(shares[~lesion], 0.98)


def test_a_resnet_without_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="timm is not installed"):
        ResNet50()


class Trunk(nn.Module):
    """What timm's ResNet-50 is here: a stage that is used, and one that is cut off."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        self.layer3 = nn.Conv2d(3, 4, 1)
        self.layer4 = nn.Conv2d(4, 9, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer4(self.layer3(x)).mean(dim=(2, 3))


@pytest.fixture
def fake_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=Trunk))


@pytest.mark.usefixtures("fake_timm")
def test_a_resnet_is_cut_after_its_third_stage_and_reads_weights_of_a_whole_one(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    whole = Trunk()
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    encoder = ResNet50(tmp_path / "whole.safetensors")
    pixels = torch.rand(2, 3, 5, 5)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    expected = whole.layer3((pixels - mean) / std).mean(dim=(2, 3))
    torch.testing.assert_close(encoder(pixels), expected)
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.usefixtures("fake_timm")
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"layer3.weight": torch.zeros(4, 3, 1, 1)}, "lacks layer3.bias"),
        ({"layer3.weight": torch.zeros(4, 3, 3, 3)}, "does not fit"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=message):
        ResNet50(tmp_path / "other.safetensors")


def test_a_real_resnet_gives_1024_numbers_and_has_the_parts_that_the_paper_names() -> None:
    pytest.importorskip("timm")
    encoder = ResNet50().eval()
    with torch.no_grad():
        assert encoder(torch.rand(1, 3, 64, 64)).shape == (1, 1024)
    parts = {f"trunk.{name}" for name in ("conv1", "bn1", "layer1", "layer2", "layer3")}
    assert parts <= {name for name, _ in encoder.named_modules()}
