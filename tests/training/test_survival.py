"""Survival: losses and metrics against literal loops, and the path from manifest to risk."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_wsimil.cli.main import main
from napari_wsimil.cohort.manifest import Patient, SlideRow
from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.features.case import Case, FollowUp
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.models import MODELS, create_model
from napari_wsimil.models.losses import Survival, cox_nll, criterion
from napari_wsimil.progress import finish
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.cases import loss_of
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.config import fit_config, recipe
from napari_wsimil.training.evaluation import Scores, evaluate
from napari_wsimil.training.fit import FitConfig, fit
from napari_wsimil.training.metrics import concordance
from napari_wsimil.training.survival_metrics import c_index_interval, time_bins
from napari_wsimil.training.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Run = Callable[..., tuple[int, str, str]]

D = 6
BINS = (10.0, 20.0, 40.0, 90.0)
SURVIVING = sorted(name for name, cls in MODELS.items() if cls.survives)


def make_bag(seed: int, shift: float = 0.0, n: int = 12) -> Bag:
    """A bag, four of whose patches carry `shift` in the first feature."""
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    x[:4, 0] += shift
    places = np.stack(np.unravel_index(np.arange(n), (4, 3)), axis=1).astype(np.int64) * 448
    grid = PatchGrid(places, patch_size=448, stride=448, pixels=224, mpp=0.5)
    tokens = ClinicalTokens((torch.ones(3), torch.ones(2)), torch.tensor([True, True]))
    return Bag(x, encoder="ink-1", grid=grid, clinical=tokens)


def draw(count: int, seed: int) -> tuple[NDArray[np.float64], list[float], list[bool]]:
    """Log risks of patients, and their times and events; the worse off die earlier."""
    random = np.random.default_rng(seed)
    risks = random.normal(size=count)
    happens = random.exponential(30 * np.exp(-2 * risks))
    ends = random.uniform(20, 120, count)
    times = np.minimum(happens, ends).round(2) + 0.01
    return risks, times.tolist(), (happens <= ends).tolist()


def make_cases(count: int, seed: int, survival: Survival) -> list[Case]:
    discrete = survival.loss == "discrete"
    return [
        Case(
            f"{seed}-{k}",
            (make_bag(1000 * seed + k, 2 * risk),),
            FollowUp(time, event, survival.bin_of(time) if discrete else None),
        )
        for k, (risk, time, event) in enumerate(zip(*draw(count, seed), strict=True))
    ]


def new_model(name: str, classes: int) -> Any:
    torch.manual_seed(0)
    return create_model(name, feature_dim=D, classes=classes, **groups_of(name))


def groups_of(name: str) -> dict[str, str]:
    return {"groups": "3,2"} if name == "bd" else {}


# losses and metrics


@pytest.mark.parametrize("seed", range(4))
def test_coxs_loss_is_the_loop_over_events_and_those_at_risk(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, 2, generator=random, dtype=torch.float64, requires_grad=True)
    time = torch.randint(1, 6, (9,), generator=random)  # ties
    event = torch.rand(9, generator=random) < 0.6
    total, events = torch.zeros((), dtype=torch.float64), 0
    for i in range(9):
        if event[i]:
            at_risk = [logits[j, 1] - logits[j, 0] for j in range(9) if time[j] >= time[i]]
            total = total - (logits[i, 1] - logits[i, 0]) + torch.stack(at_risk).exp().sum().log()
            events += 1
    target = torch.stack([time.double(), event.double()], dim=1)
    loss = criterion(logits, target)
    torch.testing.assert_close(loss, total / events)
    mine, theirs = (torch.autograd.grad(one, logits)[0] for one in (loss, total / events))
    torch.testing.assert_close(mine, theirs)


def test_coxs_loss_of_branches_is_their_mean() -> None:
    logits = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[t, float(t % 2)] for t in range(7)])
    each = torch.stack([cox_nll(logits[:, m], target) for m in range(3)])
    torch.testing.assert_close(cox_nll(logits, target), each.mean())


@pytest.mark.parametrize("target", [[[5.0, 1.0]], [[5.0, 0.0]], [[5.0, 0.0], [7.0, 0.0]]])
def test_coxs_loss_of_nobody_to_compare_is_nothing(target: list[list[float]]) -> None:
    logits = torch.randn(len(target), 2, requires_grad=True)
    loss = cox_nll(logits, torch.tensor(target))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(logits))


def test_coxs_loss_takes_two_logits() -> None:
    with pytest.raises(ValueError, match="2 logits.*not 4"):
        cox_nll(torch.zeros(3, 4), torch.ones(3, 2))


@pytest.mark.parametrize("seed", range(4))
def test_the_c_index_is_the_share_of_comparable_pairs_in_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    times, risks = random.integers(1, 9, 40).astype(float), random.integers(0, 9, 40).astype(float)
    events = random.random(40) < 0.5
    right = pairs = 0.0
    for i in range(40):
        for j in range(40):
            longer = times[j] > times[i] or (times[j] == times[i] and not events[j])
            if events[i] and longer:
                pairs += 1
                right += 1.0 if risks[i] > risks[j] else 0.5 if risks[i] == risks[j] else 0.0
    assert concordance(times, events, risks) == pytest.approx(right / pairs)


def test_the_c_index_without_a_comparable_pair_is_unknown() -> None:
    assert math.isnan(concordance(np.arange(3.0), np.zeros(3, dtype=bool), np.arange(3.0)))


def test_a_risk_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="diverged"):
        concordance(np.arange(2.0), np.ones(2, dtype=bool), np.array([0.0, np.nan]))


def test_the_interval_of_the_c_index_holds_its_value_and_narrows_with_patients() -> None:
    widths = []
    for count in (20, 200):
        risks, times, events = draw(count, seed=3)
        known = [FollowUp(t, e) for t, e in zip(times, events, strict=True)]
        found = c_index_interval(known, torch.from_numpy(risks), draws=200)["c_index"]
        assert found.low <= found.value <= found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


# time bins


def patients(times: list[float], events: list[bool]) -> list[Patient]:
    pairs = zip(times, events, strict=True)
    return [
        Patient(f"{k}", (SlideRow(f"s{k}"),), time=t, event=e) for k, (t, e) in enumerate(pairs)
    ]


def test_time_bins_end_at_quantiles_of_the_events_and_the_longest_time() -> None:
    times = [1.0, 2.0, 3.0, 4.0, 5.0, 100.0, 0.5]
    assert time_bins(patients(times, [True] * 5 + [False] * 2)) == (2.0, 3.0, 4.0, 100.0)


def test_too_few_events_for_the_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="3 different event times.*4 time bins"):
        time_bins(patients([1.0, 1.0, 2.0, 3.0, 9.0], [True] * 4 + [False]))
    with pytest.raises(ValueError, match="too similar"):
        time_bins(patients([1.0] * 20 + [2.0, 3.0, 4.0], [True] * 23))


@pytest.mark.parametrize(("time", "index"), [(0, 0), (9.9, 0), (10, 1), (39, 2), (40, 3), (500, 3)])
def test_a_time_at_the_end_of_a_bin_is_in_the_next_and_the_longest_in_the_last(
    time: float, index: int
) -> None:
    assert Survival(loss="discrete", unit="months", bins=BINS).bin_of(time) == index


def test_bins_and_outcomes_are_named_with_their_unit() -> None:
    survival = Survival(loss="discrete", unit="months", bins=BINS)
    assert survival.classes == (
        "before 10 months",
        "10 to 20 months",
        "20 to 40 months",
        "from 40 months",
    )
    assert survival.outcomes[0] == "no event before 10 months"
    assert survival.outcomes[-1] == "no event before 90 months"
    assert len(Survival(loss="discrete", unit="days", bins=(1, 2)).classes) == 2


def test_chances_are_products_of_what_hazards_leave_and_the_risk_is_what_they_take() -> None:
    survival = Survival(loss="discrete", unit="months", bins=BINS)
    logits = torch.tensor([0.3, -1.0, 0.0, 2.0])
    left, expected = 1.0, []
    for logit in logits.tolist():
        left *= 1 - 1 / (1 + math.exp(-logit))
        expected.append(left)
    assert survival.chances(logits).tolist() == pytest.approx(expected)
    assert survival.risk(logits).item() == pytest.approx(4 - sum(expected))


def test_coxs_chance_compares_with_the_median_training_patient() -> None:
    survival = Survival(loss="cox", unit="months", reference=0.5)
    logits = torch.tensor([1.0, 3.0])
    assert survival.risk(logits).item() == pytest.approx(1.5)
    later, earlier = survival.chances(logits).tolist()
    assert earlier == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert later == pytest.approx(1 - earlier)


# training


def test_the_scores_of_survival_are_the_mean_loss_and_the_c_index() -> None:
    logits = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]])
    known = (FollowUp(1, True, 0), FollowUp(9, False, 1), FollowUp(5, True, 1))
    targets = torch.tensor([[0, 1], [1, 0], [1, 1]], dtype=torch.float32)
    found = Scores(("a", "b", "c"), targets, logits, known).metrics()
    each = [criterion(row, target).item() for row, target in zip(logits, targets, strict=True)]
    assert found == pytest.approx({"loss": sum(each) / 3, "c_index": 1.0})


def test_the_scores_of_cox_are_joint() -> None:
    logits = torch.tensor([[0.0, 2.0], [0.0, -2.0], [0.0, 0.0]])
    known = (FollowUp(1, True), FollowUp(9, False), FollowUp(5, True))
    targets = torch.tensor([[1, 1], [9, 0], [5, 1]], dtype=torch.float32)
    found = Scores(("a", "b", "c"), targets, logits, known).metrics()
    assert found == pytest.approx({"loss": cox_nll(logits, targets).item(), "c_index": 1.0})


@pytest.mark.parametrize("name", SURVIVING)
@pytest.mark.parametrize("loss", ["discrete", "cox"])
def test_every_model_that_survives_learns_from_either_loss(name: str, loss: str) -> None:
    cox = loss == "cox"
    survival = Survival(loss="cox" if cox else "discrete", unit="months", bins=() if cox else BINS)
    model = new_model(name, len(survival.classes)).train()
    cases = make_cases(6, 1, survival)
    group = cases if cox else cases[:1]
    terms = loss_of(model, [model.pool([model(case.bags[0])]) for case in group], group)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


def test_the_joint_loss_is_of_each_patients_logits_branches_and_similarity() -> None:
    cases = make_cases(6, 1, Survival(loss="cox", unit="months"))
    model = new_model("acmil", 2).eval()
    outputs = [model(case.bags[0]) for case in cases]
    terms = loss_of(model, outputs, cases)
    target = torch.stack([case.answer for case in cases])
    expected = cox_nll(torch.stack([output.logits for output in outputs]), target)
    torch.testing.assert_close(terms["class"], expected)
    branches = torch.stack([output.branches["logits"] for output in outputs])
    torch.testing.assert_close(terms["branches"], cox_nll(branches, target))
    similarity = [output.branches["similarity"] for output in outputs]
    torch.testing.assert_close(terms["diversity"], torch.stack(similarity).mean())


@pytest.mark.parametrize("loss", ["discrete", "cox"])
def test_a_planted_risk_is_found_in_patients_never_seen(loss: str) -> None:
    torch.set_num_threads(1)
    cox = loss == "cox"
    survival = Survival(loss="cox" if cox else "discrete", unit="months", bins=() if cox else BINS)
    model = new_model("abmil", len(survival.classes))
    config = FitConfig(epochs=8, drop=0.0, noise=0.0, accumulate=16 if cox else 4)
    kept = finish(fit(model, make_cases(60, 100, survival), make_cases(30, 101, survival), config))
    assert kept.validation["c_index"] > 0.7
    scores = finish(evaluate(model, make_cases(80, 102, survival)))
    ceiling = concordance(*(np.array(one) for one in draw(80, 102)[1:]), draw(80, 102)[0])
    assert scores.metrics()["c_index"] > ceiling - 0.1


def test_a_step_of_cox_compares_all_its_patients() -> None:
    cases = make_cases(6, 1, Survival(loss="cox", unit="months"))
    model = new_model("abmil", 2)
    config = FitConfig(epochs=1, accumulate=6, drop=0.0, noise=0.0, standardize=False)
    before = finish(evaluate(model, cases)).metrics()["loss"]
    epoch = finish(fit(model, cases, [], config))
    assert epoch.train["loss"] == pytest.approx(before, rel=1e-5)


def test_models_are_fitted_by_their_recipe_unless_told_and_cox_compares_more() -> None:
    none = {"epochs": None, "accumulate": None}
    assert fit_config("bd", Task.SURVIVAL, none) == recipe("bd")
    assert fit_config("bd", Task.COX, {"epochs": 3}) == replace(
        recipe("bd"), epochs=3, accumulate=16
    )
    assert fit_config("abmil", Task.COX, {"accumulate": 5}).accumulate == 5


def test_cox_is_refused_where_it_has_nobody_to_compare() -> None:
    survival = Survival(loss="cox", unit="months")
    cases, model = make_cases(6, 1, survival), new_model("abmil", 2)
    with pytest.raises(ValueError, match="accumulate must be at least 2, not 1"):
        finish(fit(model, cases, [], FitConfig(accumulate=1)))
    lone = Case("alone", cases[0].bags, FollowUp(3, True))
    with pytest.raises(ValueError, match="no two validation patients"):
        finish(fit(model, cases, [lone], FitConfig(accumulate=4)))


def test_a_time_bin_that_the_model_does_not_have_is_refused() -> None:
    case = Case("ann", (make_bag(0),), FollowUp(3, True, 2))
    with pytest.raises(ValueError, match='"ann" has time bin 2, but this model has 0 to 1'):
        finish(fit(new_model("abmil", 2), [case], []))


# the whole path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line; gives exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features of 48 patients whose risk is in their patches."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("survivors")
    risks, times, events = draw(48, seed=100)
    rows = ["patient_id,slide_id,feature_path,split,time,event"]
    for k, (risk, time, event) in enumerate(zip(risks, times, events, strict=True)):
        save_bag(folder / f"s{k}.h5", make_bag(k, 2 * risk))
        split = ("train", "train", "validation", "test")[k % 4]
        rows.append(f"p{k},s{k},s{k}.h5,{split},{time},{int(event)}")
    rows.append("lost,s0b,s0.h5,,,")  # nobody knows what became of this one
    (folder / "cohort.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize("task", ["survival", "cox"])
def test_survival_goes_from_manifest_to_risk(
    study: Path, tmp_path: Path, run: Run, task: str
) -> None:
    model, cohort = tmp_path / "model.safetensors", study / "cohort.csv"
    how = ("--model", "abmil", "--task", task, "--time-unit", "months", "--epochs", 30)
    code, out, err = run("train", cohort, "-o", model, *how, "--json")
    assert code == 0, err
    assert json.loads(out)["metrics"]["test c_index"] > 0.6
    facts = json.loads(run("info", model, "--json")[1])
    assert (facts["task"], facts["survival"]["unit"]) == (task, "months")
    assert facts["training_patients"] == 36
    assert len(facts["survival"]["bins"]) == (4 if task == "survival" else 0)
    found = json.loads(run("evaluate", model, cohort, "--draws", 100, "--json")[1])
    assert set(found["metrics"]) == {"c_index"}
    assert found["metrics"]["c_index"]["value"] == json.loads(out)["metrics"]["test c_index"]
    told = json.loads(run("predict", model, study / "s3.h5", "--json")[1])
    chances = list(told["probabilities"].values())
    assert all(0 <= chance <= 1 for chance in chances)
    if task == "survival":
        assert all(before >= after for before, after in pairwise(chances))
        assert all(name.startswith("no event before") for name in told["probabilities"])
    else:
        assert sum(chances) == pytest.approx(1)
        assert math.log(chances[1] / chances[0]) == pytest.approx(told["risk"], rel=1e-4)
        assert facts["survival"]["reference"] == pytest.approx(median_log_risk(model, study))


def median_log_risk(checkpoint: Path, study: Path) -> float:
    """The lower median over the 24 training patients, as the study splits them."""
    model, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        logits = [model(load_bag(study / f"s{k}.h5")).logits for k in range(48) if k % 4 < 2]
    risks = sorted((row[1] - row[0]).item() for row in logits)
    return risks[len(risks) // 2 - 1]


def test_time_bins_are_of_the_training_patients_alone(
    study: Path, tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "model.safetensors"
    how = ("--model", "abmil", "--task", "survival", "--time-unit", "months", "--epochs", 1)
    assert run("train", study / "cohort.csv", "-o", path, *how)[0] == 0
    _, times, events = draw(48, seed=100)
    train = [k for k in range(48) if k % 4 < 2]
    expected = time_bins(patients([times[k] for k in train], [events[k] for k in train]))
    card = load_checkpoint(path)[1]
    assert card.survival is not None
    assert card.survival.bins == pytest.approx(expected)


def test_folds_keep_events_in_every_part(study: Path, tmp_path: Path, run: Run) -> None:
    cohort = study / "unsplit.csv"
    text = (study / "cohort.csv").read_text()
    for split in ("train", "validation", "test"):
        text = text.replace(f",{split},", ",,")
    cohort.write_text(text)
    how = ("--model", "abmil", "--task", "cox", "--time-unit", "months", "--epochs", 1)
    assert run("train", cohort, "-o", tmp_path / "model.safetensors", *how, "--folds", 3)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--task", "survival"], "unit of its times"),
        (["--task", "cox", "--time-unit", "months", "--accumulate", "1"], "accumulate"),
        (["--task", "survival", "--time-unit", "d", "--model", "meanpool"], "choose one of abmil"),
        (["--task", "death"], "death"),
        ([], "no label"),
    ],
)
def test_survival_that_cannot_be_learned_is_refused_in_one_line(
    study: Path, tmp_path: Path, run: Run, arguments: list[str], names: str
) -> None:
    where = (study / "cohort.csv", "-o", tmp_path / "model.safetensors", "--model", "abmil")
    code, out, err = run("train", *where, *arguments)
    assert (code, out) == (2, "")
    assert names in err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
