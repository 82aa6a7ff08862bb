"""Effect: the model asked again without patches, and with the first of a ranking alone."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.cli.main import main
from napari_wsimil.explain.export import export_curves, figure
from napari_wsimil.explain.occlusion import curves, removed
from napari_wsimil.explain.predict import Prediction, predict
from napari_wsimil.explain.statistics import ranked, top
from napari_wsimil.features.bag import Bag, ClinicalTokens, take_patches
from napari_wsimil.features.store import save_bag
from napari_wsimil.models import create_model
from napari_wsimil.models.base import Explanation, ExplanationKind, MILModel, MILOutput
from napari_wsimil.models.card import Card
from napari_wsimil.progress import Progress, finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

N, D, STRIDE = 36, 8, 100


class Summing(MILModel):
    """Says sigmoid(Σ x₀) of class 1: what each patch brings is known."""

    asked: list[int]

    def forward(self, bag: Bag) -> MILOutput:
        self.check(bag)
        self.asked.append(len(bag))
        share = bag.features[:, 0]
        maps = (Explanation("share", ExplanationKind.SCORE, share),)
        return MILOutput(torch.stack([torch.tensor(0.0), share.sum()]), maps)


def make_bag(n: int = N, **more: object) -> Bag:
    index = np.arange(n, dtype=np.int64)
    coords = np.stack([index % 6, index // 6], axis=1) * STRIDE
    grid = PatchGrid(coords, patch_size=STRIDE, stride=STRIDE, pixels=STRIDE, mpp=0.5)
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(1))
    return Bag(x, encoder="test", grid=grid, **more)  # type: ignore[arg-type]


def make_card(model: MILModel, name: str) -> Card:
    return Card(
        model=name,
        config=model.config,
        encoder="test",
        encoder_dim=D,
        mpp=0.5,
        pixels=STRIDE,
        classes=("normal", "tumor"),
        data="made up",
        synthetic=False,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )


def ask(name: str, bag: Bag, **config: int | float | str) -> tuple[MILModel, Prediction]:
    torch.manual_seed(0)
    model = create_model(name, feature_dim=D, classes=2, **config)
    return model, predict(model, make_card(model, name), bag)


def summing(bag: Bag) -> tuple[Summing, Prediction]:
    model = Summing(feature_dim=D, classes=2)
    model.asked = []
    return model, predict(model, make_card(model, "abmil"), bag)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_removal_asks_about_what_is_left_with_places_record_and_finer_features() -> None:
    x = make_bag().features
    bag = make_bag(finer=x[:, None] + torch.randn(N, 4, D))
    gone = torch.tensor([3, 30, 3])
    left = torch.tensor([n for n in range(N) if n not in (3, 30)])
    for name in ("acmil", "querent", "longmil", "sasha", "hafed"):
        model, found = ask(name, bag)
        without = removed(model, found, gone)
        expected = predict(model, found.card, take_patches(bag, left))
        assert torch.equal(without.probabilities, expected.probabilities)
        assert without.bag.grid is not None
        assert np.array_equal(without.bag.grid.coords, bag.grid.coords[left])  # type: ignore[union-attr]
        assert len(without.explanations[0].per_patch()) == N - 2
        assert without.warnings == found.warnings


def test_a_record_stays_with_the_slide_and_a_missing_one_is_still_warned_of() -> None:
    record = ClinicalTokens((torch.randn(5), torch.randn(3)), torch.tensor([True, False]))
    missing = ClinicalTokens((torch.zeros(5), torch.zeros(3)), torch.tensor([False, False]))
    for tokens in (record, missing):
        model, found = ask("persam", make_bag(clinical=tokens), groups="5,3")
        without = removed(model, found, torch.arange(4))
        assert without.bag.clinical is tokens
        part = take_patches(found.bag, torch.arange(4, N))
        torch.testing.assert_close(without.logits, model(part).logits)


def test_nothing_left_and_no_such_patch_are_refused() -> None:
    model, found = ask("abmil", make_bag())
    with pytest.raises(ValueError, match="removing all 36 patches"):
        removed(model, found, torch.arange(N))
    with pytest.raises(ValueError, match="query must name"):
        removed(model, found, torch.tensor([N]))
    with pytest.raises(ValueError, match="query must name"):
        removed(model, found, torch.tensor([], dtype=torch.int64))


def test_the_curves_are_the_literal_loop() -> None:
    bag = make_bag()
    model, found = summing(bag)
    made = finish(curves(model, found, found.explanations[0], target=1, draws=3))
    x = bag.features[:, 0].tolist()
    order = sorted(range(N), key=lambda n: -x[n])
    for patches, p in zip(made.deletion.patches, made.deletion.probability, strict=True):
        assert p == pytest.approx(sigmoid(sum(x[n] for n in order[patches:])), abs=1e-5)
    for patches, p in zip(made.insertion.patches, made.insertion.probability, strict=True):
        assert p == pytest.approx(sigmoid(sum(x[n] for n in order[:patches])), abs=1e-5)
    assert made.deletion.patches[0] == 0
    assert made.insertion.patches[-1] == N
    assert list(made.deletion.patches[1:]) == list(made.insertion.patches[:-1])


def test_random_orders_take_as_many_patches_whose_mean_and_range_are_told() -> None:
    model, found = summing(make_bag())
    made = finish(curves(model, found, found.explanations[0], target=1, draws=4))
    for series in (made.deletion, made.insertion):
        assert series.drawn.shape == (4, len(series.patches))
        np.testing.assert_allclose(series.mean, series.drawn.mean(axis=0))
        assert np.array_equal(series.range[0], series.drawn.min(axis=0))
        assert np.array_equal(series.range[1], series.drawn.max(axis=0))
    assert (made.deletion.probability <= made.deletion.range[0] + 1e-6).all()
    assert (made.insertion.probability >= made.insertion.range[1] - 1e-6).all()
    assert (made.deletion.drawn[:, 0] == found.probabilities[1].item()).all()
    assert (made.insertion.drawn[:, -1] == found.probabilities[1].item()).all()
    assert len({tuple(row) for row in made.deletion.drawn.tolist()}) == 4
    assert made.deletion.area < made.deletion.random_area
    assert made.insertion.area > made.insertion.random_area


def test_the_area_is_the_mean_height_by_trapezoids() -> None:
    model, found = summing(make_bag())
    series = finish(curves(model, found, found.explanations[0], steps=5)).deletion
    total = 0.0
    for i in range(len(series.patches) - 1):
        width = (series.patches[i + 1] - series.patches[i]) / N
        total += width * (series.probability[i] + series.probability[i + 1]) / 2
    assert series.area == pytest.approx(total / (series.patches[-1] / N))


def test_the_first_percents_of_a_large_slide_are_resolved() -> None:
    model, found = summing(make_bag(2000))
    made = finish(curves(model, found, found.explanations[0], draws=1))
    share = made.deletion.patches / 2000
    assert share[1] == 0.001
    assert share[-1] == 0.9
    assert (share[1:] <= 0.03).sum() >= 5
    ratios = share[3:] / share[2:-1]
    assert ratios.max() / ratios.min() < 1.4


def test_the_predicted_class_is_followed_unless_another_is_named() -> None:
    bag = make_bag()
    model, found = summing(bag)
    likely = int(found.probabilities.argmax())
    made = finish(curves(model, found, found.explanations[0], draws=1, steps=2))
    assert made.target == likely
    assert made.outcome == ("normal", "tumor")[likely]
    other = finish(curves(model, found, found.explanations[0], target=1 - likely, draws=1, steps=2))
    np.testing.assert_allclose(other.deletion.probability, 1 - made.deletion.probability, atol=1e-6)


def test_every_pass_is_told_before_it_is_made_so_that_it_can_be_stopped() -> None:
    model, found = summing(make_bag())
    model.asked.clear()
    work = curves(model, found, found.explanations[0], draws=2, steps=4)
    assert next(work) == Progress(0, 18)
    assert model.asked == []
    assert next(work) == Progress(1, 18)
    work.close()
    assert model.asked == [N - 1]
    assert len(list(curves(model, found, found.explanations[0], draws=2, steps=4))) == 18


def test_the_same_seed_gives_the_same_curves() -> None:
    model, found = summing(make_bag())
    flat = Explanation("flat", ExplanationKind.SCORE, torch.zeros(N))

    def made(seed: int) -> np.ndarray:
        return finish(curves(model, found, flat, draws=2, steps=3, seed=seed)).deletion.drawn

    assert np.array_equal(made(1), made(1))
    assert not np.array_equal(made(1), made(2))


def test_finer_features_that_are_computed_are_computed_once() -> None:
    stored = torch.randn(N, 4, D, generator=torch.Generator().manual_seed(2))
    read: list[int] = []

    def finer(patch: int) -> torch.Tensor:
        read.append(patch)
        return stored[patch]

    model, found = ask("sasha", make_bag(finer=finer))
    ranking = found.explanations[0]
    read.clear()
    lazy = finish(curves(model, found, ranking, draws=1, steps=4))
    assert len(read) == len(set(read))
    whole = predict(model, found.card, make_bag(finer=stored))
    again = finish(curves(model, whole, ranking, draws=1, steps=4))
    np.testing.assert_allclose(lazy.insertion.probability, again.insertion.probability)


def test_what_was_never_looked_at_comes_last_and_the_first_look_first() -> None:
    random = torch.Generator().manual_seed(0)
    nan = torch.nan
    scores = torch.tensor([nan, -5.0, 3.0, nan, 3.5])
    order = ranked(Explanation("s", ExplanationKind.SCORE, scores), random).tolist()
    assert order[:3] == [4, 2, 1]
    assert set(order[3:]) == {0, 3}
    looks = torch.tensor([nan, 2.0, 1.0, nan, 3.0])
    order = ranked(Explanation("order", ExplanationKind.ORDER, looks), random).tolist()
    assert order[:3] == [2, 1, 4]


def test_patches_of_a_region_are_not_taken_row_by_row() -> None:
    index = torch.arange(100) // 50
    regions = Explanation("r", ExplanationKind.SCORE, torch.tensor([1.0, 2.0]), index)
    order = ranked(regions, torch.Generator().manual_seed(0))
    assert set(order[:50].tolist()) == set(range(50, 100))
    assert order[:50].tolist() != sorted(order[:50].tolist())


def test_the_top_of_a_map_has_all_that_tie_and_nothing_unknown() -> None:
    scores = torch.tensor([5.0, 4.0, 4.0, 1.0, torch.nan])
    found = top(Explanation("s", ExplanationKind.SCORE, scores), 0.4)
    assert found.tolist() == [True, True, True, False, False]
    assert top(Explanation("s", ExplanationKind.SCORE, scores), 0.01).tolist()[:2] == [True, False]
    assert not top(Explanation("s", ExplanationKind.SCORE, scores), 1.0)[4]
    with pytest.raises(ValueError, match="share must be above 0"):
        top(Explanation("s", ExplanationKind.SCORE, scores), 0.0)


def test_curves_refuse_what_they_cannot_mean() -> None:
    model, found = summing(make_bag())
    share = found.explanations[0]
    nothing = Explanation("n", ExplanationKind.SCORE, torch.full((N,), torch.nan))
    short = Explanation("short", ExplanationKind.SCORE, torch.zeros(3))
    with pytest.raises(ValueError, match="has no value for any patch"):
        next(curves(model, found, nothing))
    with pytest.raises(ValueError, match="the map has 3 patches and the slide 36"):
        next(curves(model, found, short))
    with pytest.raises(ValueError, match="target 2 is no index of the outcomes normal, tumor"):
        next(curves(model, found, share, target=2))
    with pytest.raises(ValueError, match="got 12 and 0"):
        next(curves(model, found, share, draws=0))
    one, single = summing(make_bag(1))
    with pytest.raises(ValueError, match="at least two patches"):
        next(curves(one, single, single.explanations[0]))


def test_tables_and_pictures_tell_both_curves_and_what_they_are_of(tmp_path: Path) -> None:
    model, found = summing(make_bag(synthetic=True))
    made = finish(curves(model, found, found.explanations[0], target=1, draws=2))
    rows = list(csv.DictReader(export_curves(made, tmp_path / "c.csv").open()))
    assert {row["curve"] for row in rows} == {"deletion", "insertion"}
    assert rows[0]["outcome"] == "tumor"
    assert rows[0]["map"] == "share"
    assert rows[0]["synthetic"] == "1"
    assert "real slides" in rows[0]["warnings"]
    told = [row for row in rows if row["curve"] == "insertion"]
    np.testing.assert_allclose(
        [float(row["probability"]) for row in told], made.insertion.probability
    )
    np.testing.assert_allclose([float(row["random mean"]) for row in told], made.insertion.mean)
    np.testing.assert_allclose([float(row["share"]) * N for row in told], made.insertion.patches)
    assert export_curves(made, tmp_path / "c.PNG").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match=r"cannot write curves to c.svg: use one of .csv, .png"):
        export_curves(made, tmp_path / "c.svg")


def test_the_picture_names_model_map_outcome_and_warnings() -> None:
    model, found = summing(make_bag(synthetic=True))
    made = figure(finish(curves(model, found, found.explanations[0], target=1, draws=2)))
    assert made.get_suptitle() == "synthetic slide, abmil: by share"
    assert "real slides" in made.get_supxlabel()
    left, right = made.axes
    assert (left.get_title(), right.get_title()) == ("deletion", "insertion")
    assert left.get_ylabel() == "probability: tumor"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    model, _ = ask("abmil", make_bag())
    save_bag(tmp_path / "slide.h5", make_bag())
    save_checkpoint(tmp_path / "abmil.safetensors", model, make_card(model, "abmil"))
    return tmp_path / "abmil.safetensors", tmp_path / "slide.h5"


def effect(*arguments: object) -> int:
    return main(["effect", *(str(argument) for argument in arguments)])


def test_the_verb_tells_areas_and_writes_the_curves(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = files[1].with_suffix(".csv")
    named = ["--map", "evidence: tumor", "--class", "tumor", "--out", out]
    assert effect(*files, *named, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["probability of"] == "tumor"
    assert told["ranked by"] == "evidence: tumor"
    assert set(told["deletion"]) == {"area", "area, random order"}
    assert told["deletion"]["area"] < told["deletion"]["area, random order"]
    assert told["file"] == str(out)
    assert out.exists()


def test_the_verb_tells_what_an_area_does(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert effect(*files, "--area", "0,0,600,100", "--class", "normal", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    model, found = ask("abmil", make_bag())
    after = removed(model, found, torch.arange(6)).probabilities[0].item()
    assert told["patches taken away"] == 6
    assert told["whole slide"] == pytest.approx(found.probabilities[0].item(), abs=1e-6)
    assert told["without the area"] == pytest.approx(after, abs=1e-6)
    assert told["change"] == pytest.approx(told["without the area"] - told["whole slide"])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--class", "benign"], "--class 'benign' is none of normal, tumor"),
        (["--map", "nothing"], "there is no map 'nothing'"),
        (["--out", "curves.svg"], "cannot write curves to curves.svg: use one of .csv, .png"),
        (["--area", "0,0,9,9", "--out", "c.csv"], "--out c.csv is for the curves of a map"),
        (["--area", "0,0,9,9", "--map", "attention"], "--map attention is for the curves of a map"),
        (["--area", "0,0,600,600"], "removing all 36 patches"),
        (["--area", "0,0"], "is not --area X,Y,WIDTH,HEIGHT"),
    ],
)
def test_the_verb_refuses_in_one_line(
    files: tuple[Path, Path],
    given: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert effect(*files, *given) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
