"""Training: what it yields, keeps and refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_wsimil.features.bag import Bag, ClinicalTokens, take_patches
from napari_wsimil.features.case import Case
from napari_wsimil.models import MILModel, create_model
from napari_wsimil.models.pooling_baselines import MeanPool
from napari_wsimil.progress import Progress, finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.cases import check_cases, draw_patches
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import Epoch, FitConfig, TrainingError, fit, rate

if TYPE_CHECKING:
    from napari_wsimil.models.base import MILOutput

D = 8
QUICK = FitConfig(epochs=3, accumulate=2, drop=0.2, noise=0.1)


def make_case(k: int, slides: int = 1, n: int = 15) -> Case:
    generator = torch.Generator().manual_seed(k)
    bags = []
    for _ in range(slides):
        x = 5 * torch.randn(n, D, generator=generator) + 3
        x[:3, k % 2] += 20
        bags.append(Bag(x, encoder="test"))
    return Case(f"patient {k}", tuple(bags), k % 2)


def make_model(name: str = "acmil") -> MILModel:
    torch.manual_seed(0)
    return create_model(name, feature_dim=D, classes=2, width=16)


@pytest.fixture
def train() -> list[Case]:
    return [make_case(k) for k in range(8)]


@pytest.fixture
def validation() -> list[Case]:
    return [make_case(k) for k in range(100, 104)]


def epochs(
    model: MILModel, train: list[Case], validation: list[Case], config: FitConfig
) -> list[Epoch]:
    return [e for e in fit(model, train, validation, config) if isinstance(e, Epoch)]


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def weights(model: MILModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_each_epoch_tells_its_terms_its_metrics_and_its_time(
    train: list[Case], validation: list[Case]
) -> None:
    found = epochs(make_model(), train, validation, QUICK)
    assert [epoch.done for epoch in found] == [1, 2, 3]
    for epoch in found:
        parts = epoch.train["class"] + epoch.train["branches"] + epoch.train["diversity"]
        assert epoch.train["loss"] == pytest.approx(parts, rel=1e-5)
        assert set(epoch.validation) == {"loss", "auc", "balanced_accuracy", "macro_f1"}
        assert epoch.seconds > 0


def test_it_learns_to_tell_planted_slides_apart(train: list[Case], validation: list[Case]) -> None:
    config = FitConfig(epochs=15, accumulate=2, lr=1e-2, drop=0.2, noise=0.1)
    found = epochs(make_model("abmil"), train, validation, config)
    assert found[-1].train["class"] < found[0].train["class"] / 2
    assert found[-1].validation["auc"] == 1.0


def test_there_is_a_step_after_every_case_of_both_sets(
    train: list[Case], validation: list[Case]
) -> None:
    events = list(fit(make_model(), train, validation, replace(QUICK, epochs=1)))
    steps = [e for e in events if isinstance(e, Progress)]
    assert [s.done for s in steps if s.text == "standardize"] == list(range(1, 9))
    assert [s.done for s in steps if s.text == "epoch 1"] == list(range(1, 9))
    assert sum(s.text == "validate 1" for s in steps) >= len(validation)
    assert all(s.done <= s.total for s in steps)


def test_the_same_seed_gives_the_same_numbers_whatever_others_draw(
    train: list[Case], validation: list[Case]
) -> None:
    first, second = make_model(), make_model()
    finish(fit(first, train, validation, QUICK))
    for _ in fit(second, train, validation, QUICK):
        torch.rand(3)
    assert same_weights(weights(first), weights(second))


def test_another_seed_gives_other_numbers(train: list[Case]) -> None:
    first, second = make_model(), make_model()
    finish(fit(first, train, [], QUICK))
    finish(fit(second, train, [], replace(QUICK, seed=1)))
    assert not same_weights(weights(first), weights(second))


def test_the_caller_s_random_numbers_are_not_touched(train: list[Case]) -> None:
    model = make_model()
    before = torch.get_rng_state()
    finish(fit(model, train, [], QUICK))
    assert torch.equal(torch.get_rng_state(), before)


def test_between_two_yields_gradients_are_on(train: list[Case], validation: list[Case]) -> None:
    assert all(torch.is_grad_enabled() for _ in fit(make_model(), train, validation, QUICK))


def test_the_best_validation_weights_are_kept(train: list[Case], validation: list[Case]) -> None:
    flipped = [replace(case, target=1 - case.target) for case in validation]
    model, states = make_model(), {}
    work = fit(model, train, flipped, replace(QUICK, epochs=6))
    while True:
        try:
            event = next(work)
        except StopIteration as stop:
            kept = stop.value
            break
        if isinstance(event, Epoch):
            states[event.done] = (event, weights(model))
    losses = {number: event.validation["loss"] for number, (event, _) in states.items()}
    assert kept.done == min(losses, key=losses.__getitem__) < 6
    assert same_weights(weights(model), states[kept.done][1])
    assert finish(evaluate(model, flipped)).metrics()["loss"] == losses[kept.done]
    assert not model.training


def test_validation_sees_the_model_in_eval_mode_and_whole_slides(train: list[Case]) -> None:
    model = make_model()
    cases = [make_case(k) for k in range(50, 54)]
    kept = finish(fit(model, train, cases, replace(QUICK, epochs=1, drop=0.9)))
    expected = finish(evaluate(model, cases))
    assert kept.validation == expected.metrics()
    torch.testing.assert_close(expected.logits[0], model(cases[0].bags[0]).logits)


def test_without_validation_the_last_weights_are_kept(train: list[Case]) -> None:
    kept = finish(fit(make_model(), train, [], QUICK))
    assert (kept.done, kept.validation, kept.best) == (3, {}, True)


def test_patience_ends_training_early(train: list[Case], validation: list[Case]) -> None:
    flipped = [replace(case, target=1 - case.target) for case in validation]
    config = replace(QUICK, epochs=30, patience=2)
    found = epochs(make_model(), train, flipped, config)
    best = max(epoch.done for epoch in found if epoch.best)
    assert len(found) == best + 2 < 30


def test_closing_early_leaves_the_best_weights_so_far(
    train: list[Case], validation: list[Case]
) -> None:
    model = make_model()
    work = fit(model, train, validation, replace(QUICK, epochs=5))
    first = next(event for event in work if isinstance(event, Epoch))
    after_first = weights(model)
    for _ in range(5):
        next(work)
    work.close()
    assert first.best
    assert same_weights(weights(model), after_first)
    assert not model.training


def test_features_are_standardized_with_the_training_slides_alone(
    train: list[Case], validation: list[Case]
) -> None:
    model = make_model()
    finish(fit(model, train, validation, QUICK))
    x = torch.cat([bag.features for case in train for bag in case.bags])
    torch.testing.assert_close(model.standardize.mean, x.mean(dim=0))
    torch.testing.assert_close(model.standardize.scale, x.std(dim=0, correction=0))


def test_going_on_keeps_the_statistics_there_are(train: list[Case]) -> None:
    model = make_model()
    finish(fit(model, train, [], replace(QUICK, standardize=False)))
    assert torch.equal(model.standardize.mean, torch.zeros(D))


class Exploding(torch.nn.Module):
    """A model's loss that becomes NaN at one call."""

    def __init__(self, model: MILModel, at: int) -> None:
        super().__init__()
        self.loss, self.left = model.loss, at

    def __call__(self, *args: torch.Tensor) -> dict[str, torch.Tensor]:
        self.left -= 1
        terms = self.loss(*args)
        return terms if self.left else {"class": terms["class"] * float("nan")}


def test_the_first_loss_that_is_no_number_stops_it_and_the_last_good_weights_stay(
    train: list[Case],
) -> None:
    model = make_model()
    object.__setattr__(model, "loss", Exploding(model, at=12))
    work = fit(model, train, [], QUICK)
    assert next(event for event in work if isinstance(event, Epoch)).done == 1
    after_first = weights(model)
    with pytest.raises(
        TrainingError, match=r'patient "patient \d" became nan in epoch 2.*0.003.*were kept'
    ) as stopped:
        finish(work)
    assert stopped.value.kept == "training stopped in epoch 2: a loss or gradient became nan"
    assert same_weights(weights(model), after_first)


def test_a_gradient_that_is_not_finite_stops_it(train: list[Case]) -> None:
    model = make_model()
    model.head.weight.register_hook(lambda g: g * float("inf"))
    with pytest.raises(
        TrainingError, match="gradient became.*no earlier epoch could be kept"
    ) as stopped:
        finish(fit(model, train, [], QUICK))
    assert not stopped.value.kept
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_gradients_are_averaged_over_the_accumulated_cases(train: list[Case]) -> None:
    """Eight equal cases at once make the step that one of them makes."""
    config = FitConfig(epochs=1, drop=0, noise=0, accumulate=8)
    same = [replace(train[0], patient=f"copy {k}") for k in range(8)]
    many, one = make_model("abmil"), make_model("abmil")
    finish(fit(many, same, [], config))
    finish(fit(one, same[:1], [], config))
    for name, value in many.state_dict().items():
        torch.testing.assert_close(value, one.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_a_patient_is_judged_by_the_mean_logits_of_the_slides(train: list[Case]) -> None:
    model = make_model("abmil").eval()
    case = make_case(5, slides=3)
    scores = finish(evaluate(model, [case]))
    expected = torch.stack([model(bag).logits for bag in case.bags]).mean(dim=0)
    torch.testing.assert_close(scores.logits[0], expected)
    assert scores.patients == ("patient 5",)
    assert scores.targets.tolist() == [1]


def test_a_patient_with_several_slides_has_one_class_loss_of_their_mean() -> None:
    case = make_case(5, slides=3)
    config = FitConfig(epochs=1, drop=0, noise=0, standardize=False)
    model = make_model("abmil").eval()
    logits = finish(evaluate(model, [case])).logits
    kept = finish(fit(model, [case], [], config))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1])).item()
    assert kept.train["class"] == pytest.approx(expected, rel=1e-5)


def test_evaluation_leaves_the_mode_as_it_was(train: list[Case]) -> None:
    model = make_model().train()
    assert all(model.training for _ in evaluate(model, train))


def test_a_pass_takes_at_most_so_many_patches_and_evaluation_takes_all() -> None:
    """A step is bounded, so that a worker can stop between two."""
    cases, held = [make_case(0, n=900), make_case(1, slides=2, n=900)], [make_case(2, n=900)]
    seen: dict[bool, set[int]] = {True: set(), False: set()}

    def watch(module: MILModel, inputs: tuple[Bag]) -> None:
        seen[module.training].add(len(inputs[0]))

    model = make_model()
    model.register_forward_pre_hook(watch)
    finish(fit(model, cases, held, FitConfig(epochs=1, patches=300)))
    assert seen == {True: {300, 150}, False: {900}}


@pytest.mark.parametrize(
    ("n", "share", "most", "left"),
    [(10, 0.5, 99, 5), (10, 0.5, 3, 3), (1, 0.1, 9, 1), (4, 1, 9, 4)],
)
def test_patches_are_drawn_in_order_and_at_least_one(
    n: int, share: float, most: int, left: int
) -> None:
    bag = Bag(torch.arange(n, dtype=torch.float32)[:, None].repeat(1, 2))
    drawn = draw_patches(bag, share, most).features[:, 0].tolist()
    assert len(drawn) == len(set(drawn)) == left
    assert drawn == sorted(drawn)


def test_taken_patches_bring_their_places_and_their_sub_patches() -> None:
    coords = np.arange(12, dtype=np.int64).reshape(6, 2)
    grid = PatchGrid(coords, patch_size=4, stride=4, pixels=4)
    finer = torch.arange(6.0)[:, None, None].repeat(1, 4, 2)
    index = torch.tensor([1, 4])
    bag = take_patches(Bag(finer[:, 0], grid=grid, finer=finer), index)
    assert bag.grid.coords.tolist() == [[2, 3], [8, 9]]
    assert bag.finer[:, 0, 0].tolist() == [1, 4]
    lazy = take_patches(Bag(finer[:, 0], finer=lambda i: finer[i]), index)
    assert lazy.finer(1)[0, 0] == 4


def test_a_patient_in_both_sets_is_refused(train: list[Case]) -> None:
    with pytest.raises(ValueError, match='"patient 3" occurs twice'):
        finish(fit(make_model(), train, [train[3]], QUICK))


def test_a_class_the_model_does_not_know_is_refused(train: list[Case]) -> None:
    with pytest.raises(ValueError, match="class 2.*has 0 to 1"):
        check_cases([replace(train[0], target=2)], 2)


def test_a_patient_without_slides_is_refused() -> None:
    with pytest.raises(ValueError, match='"a" has no slide'):
        Case("a", (), 0)


def test_nobody_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no training case"):
        finish(fit(make_model(), [], [], QUICK))


def test_another_width_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match="another encoder"):
        finish(fit(make_model(), [Case("a", (Bag(torch.zeros(3, D + 1)),), 0)], [], QUICK))


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"lr": 0.0}, {"drop": 1.0}, {"patience": 0}, {"schedule": "flat"}],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FitConfig(**wrong)


def test_one_cycle_climbs_for_a_tenth_and_falls_to_nothing() -> None:
    rates = [rate(step, 100, "one-cycle") for step in range(101)]
    assert 0 < rates[0] < 0.1
    assert max(rates) == rates[10] == 1
    assert rates[100] == pytest.approx(0)
    assert np.all(np.diff(rates[:11]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)


def test_cosine_falls_from_the_start() -> None:
    rates = [rate(step, 10, "cosine") for step in range(11)]
    assert (rates[0], rates[5]) == (1, pytest.approx(0.5))
    assert rates[10] == pytest.approx(0)


class Watched(MeanPool):
    """A model that remembers what it was shown, and when."""

    def __init__(self) -> None:
        super().__init__(feature_dim=D, classes=2, width=4)
        self.seen: list[tuple[float, Bag]] = []

    def forward(self, bag: Bag) -> MILOutput:
        if self.training:
            self.seen.append((self.progress, bag))
        return super().forward(bag)


def watch(cases: list[Case], config: FitConfig) -> list[tuple[float, Bag]]:
    model = Watched()
    finish(fit(model, cases, [], config))
    assert model.progress == 1
    return model.seen


PLAIN = FitConfig(epochs=2, accumulate=1, drop=0, noise=0, standardize=False)


def test_progress_grows_case_by_case_from_0_and_never_reaches_1_in_training(
    train: list[Case],
) -> None:
    progress = [share for share, _ in watch(train, PLAIN)]
    assert progress == [k / 16 for k in range(16)]


def test_a_shift_moves_all_patches_of_a_slide_alike_and_anew_each_time(train: list[Case]) -> None:
    case = train[0]
    moved = [
        bag.features - case.bags[0].features for _, bag in watch([case], replace(PLAIN, shift=0.5))
    ]
    for shift in moved:
        torch.testing.assert_close(shift, shift[:1].expand_as(shift), atol=1e-5, rtol=0)
        assert 0.05 < shift[0].std() < 2
    assert not torch.allclose(moved[0], moved[1])


def test_record_noise_moves_the_record_alone(train: list[Case]) -> None:
    record = ClinicalTokens((torch.zeros(400),), torch.ones(1, dtype=torch.bool))
    case = replace(train[0], bags=(replace(train[0].bags[0], clinical=record),))
    for _, bag in watch([case], replace(PLAIN, record_noise=0.5)):
        assert torch.equal(bag.features, case.bags[0].features)
        assert bag.clinical is not None
        assert 0.4 < bag.clinical.values[0].std() < 0.6
    assert not record.values[0].any()


@pytest.mark.parametrize("name", ["shift", "record_noise", "weight_decay", "noise"])
def test_spreads_below_zero_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        FitConfig(**{name: -0.1})
