"""SASHA against its equations, its environment recomputed in full, and its training."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_wsimil.features.bag import Bag
from napari_wsimil.features.case import Case
from napari_wsimil.models.abmil import ABMIL
from napari_wsimil.models.base import Explanation, ExplanationKind, MILOutput
from napari_wsimil.models.sasha import HAFED, SASHA
from napari_wsimil.models.sasha.environment import Environment, looks
from napari_wsimil.models.sasha.updater import StateUpdater
from napari_wsimil.models.trajectory import Look, Trajectory, policy_map
from napari_wsimil.progress import finish
from napari_wsimil.synthetic.bags import map_auroc, probe
from napari_wsimil.synthetic.bags_zoom import Zoom, plant_zoom
from napari_wsimil.training.evaluation import evaluate
from napari_wsimil.training.fit import Epoch, FitConfig, TrainingError, fit
from napari_wsimil.training.policy import Critic, PolicyConfig, Reading
from napari_wsimil.training.ppo import PolicyTraining, advantages, fit_policy
from napari_wsimil.training.sasha import (
    UPDATER_EPOCHS,
    WARM_UP,
    alike,
    distill,
    fit_updater,
    read_finely,
    train_sasha,
    training_cost,
    warm_up,
)
from napari_wsimil.training.train import trainer

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.progress import Work

N, K, D, C, M = 40, 4, 6, 3, 3


def make_bag(n: int = N, seed: int = 1, groups: int = 8) -> Bag:
    """Return patches in groups that resemble each other."""
    random = torch.Generator().manual_seed(seed)
    centers = 2 * torch.randn(groups, D, generator=random)
    z = centers[torch.arange(n) % groups] + 0.3 * torch.randn(n, D, generator=random)
    return Bag(z, finer=z[:, None] + torch.randn(n, K, D, generator=random))


@pytest.fixture
def bag() -> Bag:
    return make_bag()


@pytest.fixture
def hafed() -> HAFED:
    torch.manual_seed(0)
    return HAFED(feature_dim=D, classes=C, attention_dim=5, branches=M).eval()


@pytest.fixture
def model() -> SASHA:
    return make_model()


def make_model(**options: float) -> SASHA:
    torch.manual_seed(0)
    shape = {"feature_dim": D, "classes": C, "attention_dim": 5, "branches": M, "tau": 0.9}
    model = SASHA(**(shape | options)).eval()  # type: ignore[arg-type]
    model.head.bias.data.uniform_()
    model.updater.change.weight.data *= 10  # an update that shows
    return model


def maps(output: MILOutput) -> dict[str, Explanation]:
    return {map_.name: map_ for map_ in output.explanations}


def seen(model: SASHA, bag: Bag) -> Trajectory:
    trajectory = model(bag).trajectory
    assert isinstance(trajectory, Trajectory)
    return trajectory


# HAFED


def gated(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    v = np.tanh(w[f"{name}.tanh.weight"] @ x + w[f"{name}.tanh.bias"])
    u = 1 / (1 + np.exp(-(w[f"{name}.gate.weight"] @ x + w[f"{name}.gate.bias"])))
    return w[f"{name}.score.weight"] @ (v * u) + w[f"{name}.score.bias"]


def softmax(e: np.ndarray) -> np.ndarray:
    return np.exp(e) / np.exp(e).sum()


def test_hafed_is_the_equations(hafed: HAFED, bag: Bag) -> None:
    w = {name: value.double().numpy() for name, value in hafed.state_dict().items()}
    v = []
    for u in bag.finer.double().numpy():
        a = softmax(np.array([gated(w, "fine_attention", u_j)[0] for u_j in u]))
        v.append(sum(a_j * u_j for a_j, u_j in zip(a, u, strict=True)))
    e = np.array([gated(w, "attention", v_n) for v_n in v])  # (N, M)
    branches = np.array([softmax(e[:, m]) for m in range(M)])
    mean = branches.mean(axis=0)
    logits = w["head.weight"] @ (mean @ np.array(v)) + w["head.bias"]
    output = hafed(bag)
    np.testing.assert_allclose(output.logits.detach(), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps(output)["attention"].scores, mean, rtol=1e-4)
    np.testing.assert_allclose(maps(output)["branch 2"].scores, branches[1], rtol=1e-4)
    said = np.array([w[f"branch_heads.{m}.weight"] @ (branches[m] @ v) for m in range(M)])
    said += np.array([w[f"branch_heads.{m}.bias"] for m in range(M)])
    np.testing.assert_allclose(output.branches["logits"].detach(), said, rtol=1e-4, atol=1e-5)
    unit = branches / np.linalg.norm(branches, axis=1, keepdims=True)
    similar = np.mean([unit[i] @ unit[j] for i in range(M) for j in range(i)])
    np.testing.assert_allclose(output.branches["similarity"].item(), similar, rtol=1e-4)
    assert list(hafed.loss(output, torch.tensor(1))) == ["class", "branches", "diversity"]


def test_its_card_will_say_how_the_actor_got_its_start() -> None:
    told = SASHA(feature_dim=4, classes=2).remark
    assert "distilling" in told
    assert "class 0 was taken as having no findings" in told
    assert "class 1 was taken" in SASHA(feature_dim=4, classes=2, negative=1).remark
    assert "every class" in SASHA(feature_dim=4, classes=2, negative=-1).remark


def test_its_classifier_is_in_the_mode_it_is_in() -> None:
    model = SASHA(feature_dim=4, classes=2)
    assert not model.eval().hafed().training
    assert model.train().hafed().training


@pytest.mark.parametrize("negative", [-2, C])
def test_a_class_that_is_none_has_not_nothing_to_find(negative: int) -> None:
    with pytest.raises(ValueError, match="negative must be"):
        make_model(negative=negative)


def test_training_masks_a_fixed_number_of_sub_patches_and_of_patches(hafed: HAFED) -> None:
    hafed.train()
    _, a = hafed.distill(torch.randn(9, 16, D))
    assert ((a == 0).sum(dim=1) == 2).all()  # int(10 · 0.24)
    output = hafed.classify(torch.randn(50, D))
    for m in range(1, M + 1):
        assert (maps(output)[f"branch {m}"].scores == 0).sum() == 4  # int(20 · 0.24)


def test_fine_features_of_a_callable_are_those_that_are_stored(hafed: HAFED, bag: Bag) -> None:
    computed = Bag(bag.features, finer=lambda patch: bag.finer[patch])
    torch.testing.assert_close(hafed(computed).logits, hafed(bag).logits)


def test_fine_features_are_standardized_with_the_statistics_of_the_coarse(
    hafed: HAFED, bag: Bag
) -> None:
    by_hand, _ = hafed.distill((bag.finer - 1) / 2)
    hafed.standardize.mean.fill_(1.0)
    hafed.standardize.scale.fill_(2.0)
    torch.testing.assert_close(hafed.distill(bag.finer)[0], by_hand)


@pytest.mark.parametrize(
    ("finer", "said"),
    [
        (None, "needs sub-patch features"),
        (torch.zeros(N, D), "must be"),
        (torch.zeros(N - 1, K, D), "must be"),
        (torch.zeros(N, K, D + 1), "must be"),
        (torch.zeros(N, 0, D), "must be"),
        (torch.full((N, K, D), torch.nan), "NaN"),
        (lambda _: torch.zeros(K, D + 1), "sub-patch features of patch"),
        (lambda _: torch.full((K, D), torch.inf), "NaN or infinite"),
    ],
)
@pytest.mark.parametrize("kind", [HAFED, SASHA])
def test_wrong_fine_features_are_refused(kind: type[HAFED], finer: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind(feature_dim=D, classes=C).eval()(Bag(torch.ones(N, D), finer=finer))


@pytest.mark.parametrize(
    "wrong",
    [
        {"branches": 0},
        {"masked": -1},
        {"fine_masked": -1},
        {"mask_rate": 1.0},
        {"budget": 0.0},
        {"budget": 1.1},
        {"tau": -0.1},
        {"tau": 1.1},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SASHA(feature_dim=D, classes=C, **wrong)  # type: ignore[arg-type]


def test_the_classifier_alone_shares_its_weights_with_the_whole(model: SASHA, bag: Bag) -> None:
    alone = model.hafed().eval()
    assert type(alone) is HAFED
    assert alone.config == {name: getattr(model, name) for name in alone.config}
    before = alone(bag).logits
    alone.head.bias.data += 1
    torch.testing.assert_close(model.head.bias, alone.head.bias)
    torch.testing.assert_close(alone(bag).logits, before + 1)


# the environment


def recomputed(model: SASHA, bag: Bag, steps: int) -> tuple[list[int], list[set[int]], Tensor]:
    """Return patches chosen, patches updated and the state, all computed anew at each step."""
    z = model.standardize(bag.features)
    state, touched, visited, updated = z.clone(), set(), [], []
    for _ in range(steps):
        logits = model.actor(state)[:, 0]
        logits[visited] = -torch.inf
        a = int(logits.argmax())
        v, _ = model.distill(bag.finer[a][None])
        cosine = F.cosine_similarity(state, state[a], dim=1)
        touched.add(a)
        new = {i for i in range(len(z)) if cosine[i] >= model.threshold and i not in touched}
        before = state.clone()
        for i in new:
            x = torch.cat([v[0], before[a], before[i]])
            hidden = F.gelu(model.updater.hidden(x))
            state[i] = before[i] + model.updater.change(hidden)
        state[a] = v[0]
        touched |= new
        visited.append(a)
        updated.append(new)
    return visited, updated, state


@torch.no_grad()
@pytest.mark.parametrize(("n", "groups"), [(1, 1), (2, 1), (7, 2), (40, 8), (41, 3), (300, 40)])
@pytest.mark.parametrize("budget", [0.2, 1.0])
def test_an_episode_is_that_of_the_environment_recomputed_in_full(
    n: int, groups: int, budget: float
) -> None:
    model, bag = make_model(budget=budget), make_bag(n, n, groups)
    trajectory = seen(model, bag)
    order, updated, state = recomputed(model, bag, len(trajectory.looks))
    assert trajectory.order.tolist() == order
    assert [set(look.updated.tolist()) for look in trajectory.looks] == updated
    kept = model.replay(bag, trajectory.looks)
    torch.testing.assert_close(kept.state, state, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        kept.probabilities(), model.classify(state).logits.softmax(dim=0), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(kept.actor(), model.actor(state)[:, 0], rtol=1e-5, atol=1e-5)


def test_no_patch_is_looked_at_twice_nor_updated_twice(bag: Bag) -> None:
    trajectory = seen(make_model(budget=1.0), bag)
    assert sorted(trajectory.order.tolist()) == list(range(N))
    updated = torch.cat([look.updated for look in trajectory.looks])
    assert 0 < len(updated) == len(updated.unique())
    first = set()
    for look in trajectory.looks:
        first.add(look.patch)
        assert not first & set(look.updated.tolist())


@pytest.mark.parametrize(
    ("n", "budget", "steps"),
    [(1, 0.2, 1), (4, 0.01, 1), (15, 0.2, 3), (16, 0.2, 4), (30, 0.1, 3), (7, 1.0, 7)],
)
def test_an_episode_ends_at_its_budget(n: int, budget: float, steps: int) -> None:
    assert looks(n, budget) == steps
    assert len(seen(make_model(budget=budget), make_bag(n)).looks) == steps


@torch.no_grad()
def test_a_threshold_above_1_updates_nothing_and_of_minus_1_all_at_once(
    model: SASHA, bag: Bag
) -> None:
    model.threshold.fill_(2.0)
    assert sum(len(look.updated) for look in seen(model, bag).looks) == 0
    model.threshold.fill_(-1.0)
    counts = [len(look.updated) for look in seen(model, bag).looks]
    assert counts == [N - 1] + [0] * (len(counts) - 1)


@torch.no_grad()
def test_cosines_are_signed() -> None:
    z = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    assert Environment(z, StateUpdater(2), 0.9).look(0, torch.ones(2)).tolist() == [1]


@torch.no_grad()
def test_what_is_foreseen_of_a_patch_is_found_anew_once_it_changed(bag: Bag) -> None:
    z, updater = bag.features, StateUpdater(D)
    updater.change.weight.data *= 100
    ahead, plain = (Environment(z, updater, 0.5) for _ in range(2))
    ahead.foresee(torch.arange(N))
    for patch in range(0, N, 3):
        assert torch.equal(ahead.look(patch, -z[patch]), plain.look(patch, -z[patch]))
    torch.testing.assert_close(ahead.state, plain.state)


@torch.no_grad()
def test_a_second_look_is_refused(bag: Bag) -> None:
    environment = Environment(bag.features, StateUpdater(D), 2.0)
    environment.look(3, bag.features[3])
    with pytest.raises(ValueError, match="patch 3 was looked at"):
        environment.look(3, bag.features[3])


@torch.no_grad()
def test_an_update_is_the_equation() -> None:
    torch.manual_seed(0)
    updater = StateUpdater(D)
    v_a, s_a, s = torch.randn(D), torch.randn(D), torch.randn(5, D)
    for moved, s_i in zip(updater(v_a, s_a, s), s, strict=True):
        hidden = F.gelu(updater.hidden.weight @ torch.cat([v_a, s_a, s_i]) + updater.hidden.bias)
        expected = s_i + updater.change.weight @ hidden + updater.change.bias
        torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_next_look_is_told_by_bits_that_log_probabilities_lose(model: SASHA) -> None:
    random = torch.Generator().manual_seed(0)
    episode = model.begin(Bag(torch.randn(3000, D, generator=random), finer=unread))
    episode.actor().fill_(0.1)
    episode.actor()[1234] += 1e-8
    assert (episode.policy() == episode.policy().max()).sum() > 1
    assert episode.best() == 1234


# what an episode tells


def test_only_visited_patches_are_read_finely(model: SASHA, bag: Bag) -> None:
    asked: list[int] = []

    def read(patch: int) -> Tensor:
        asked.append(patch)
        return bag.finer[patch]

    output = model(Bag(bag.features, finer=read))
    assert output.trajectory.order.tolist() == asked
    assert torch.equal(output.logits, model(bag).logits)


def test_encoder_calls_include_the_coarse_pass(model: SASHA, bag: Bag) -> None:
    output = model(bag)
    assert output.trajectory.encoder_calls == N + 8 * K
    assert output.trajectory.full_calls == N * K
    assert output.scalars["encoder calls"] == N + 8 * K
    assert output.scalars["patches looked at"] == 8


def test_a_trajectory_tells_every_step(model: SASHA, bag: Bag) -> None:
    output = model(bag)
    trajectory, found = output.trajectory, maps(output)
    assert trajectory.probabilities.shape == (9, C)
    torch.testing.assert_close(trajectory.probabilities[-1], output.logits.softmax(dim=0))
    start = model.classify(model.standardize(bag.features)).logits.softmax(dim=0)
    torch.testing.assert_close(trajectory.probabilities[0], start)
    assert trajectory.attention.shape == (8, K)
    torch.testing.assert_close(trajectory.attention.sum(dim=1), torch.ones(8))
    order = found["order"]
    assert order.kind is ExplanationKind.ORDER
    assert order.scores[trajectory.order].tolist() == list(range(1, 9))
    assert order.scores.isnan().sum() == N - 8
    assert list(found)[:2] == ["attention", "order"]
    assert found["actor"].kind is ExplanationKind.SCORE


def test_the_attention_over_sub_patches_is_that_of_stage_1(model: SASHA, bag: Bag) -> None:
    for look in seen(model, bag).looks:
        v, a = model.distill(bag.finer[look.patch][None])
        torch.testing.assert_close(look.attention, a[0])
        torch.testing.assert_close(look.fine, v[0])


def test_an_episode_that_is_closed_leaves_what_was_seen(model: SASHA, bag: Bag) -> None:
    whole = seen(model, bag)
    steps = model.episode(bag)
    first = list(islice(steps, 3))
    steps.close()
    output = model.outcome(Bag(bag.features, finer=unread), first)
    assert output.trajectory.order.tolist() == whole.order[:3].tolist()
    torch.testing.assert_close(output.trajectory.probabilities, whole.probabilities[:4])
    torch.testing.assert_close(output.logits.softmax(dim=0), whole.probabilities[3])


def unread(_: int) -> Tensor:
    raise AssertionError("the encoder was asked")


def test_no_look_at_all_is_the_coarse_slide(model: SASHA, bag: Bag) -> None:
    output = model.outcome(bag, [])
    assert maps(output)["order"].scores.isnan().all()
    assert output.trajectory.encoder_calls == N


def test_the_policy_of_a_step_hides_what_was_looked_at_and_chose_the_look(
    model: SASHA, bag: Bag
) -> None:
    taken: tuple[Look, ...] = seen(model, bag).looks
    for step, look in enumerate(taken, 1):
        chances = policy_map(model.replay(bag, taken[: step - 1]).policy(), step).scores
        torch.testing.assert_close(chances.sum(), torch.tensor(1.0))
        assert (chances[[before.patch for before in taken[: step - 1]]] == 0).all()
        assert int(chances.argmax()) == look.patch
        np.testing.assert_allclose(chances[look.patch].log(), look.log_probability, rtol=1e-4)
        expected = -(chances[chances > 0] * chances[chances > 0].log()).sum()
        np.testing.assert_allclose(look.entropy, expected, rtol=1e-4)


# training


def make_readings(count: int = 6) -> list[Reading]:
    bags = [make_bag(12 + k, k) for k in range(count)]
    return [Reading(b.features, b.finer.mean(dim=1), k % 2) for k, b in enumerate(bags)]


def test_the_first_ratio_is_exactly_1_and_that_of_the_roll_out(model: SASHA) -> None:
    reading = make_readings()[1]
    training = PolicyTraining(model, PolicyConfig(), seed=0)
    rolled = [training.roll_out(reading) for _ in range(2)]
    choices = training.choices(reading, rolled)
    with torch.no_grad():
        before = choices.log_chosen(model.actor)
    assert torch.equal((choices.log_chosen(model.actor) - before).exp(), torch.ones(len(before)))
    taken = [look.log_probability for one in rolled for look in one.looks]
    np.testing.assert_allclose(before, taken, rtol=1e-4, atol=1e-5)
    masks = [step for one in rolled for step in range(len(one.looks))]
    assert choices.hidden.sum(dim=1).tolist() == masks


def test_roll_outs_are_rewarded_by_the_slide_s_class(model: SASHA) -> None:
    reading = make_readings()[1]
    one = PolicyTraining(model, PolicyConfig(), seed=0).roll_out(reading)
    said = torch.stack([look.probabilities[reading.target] for look in one.looks])
    torch.testing.assert_close(one.rewards, said.log() / len(one.looks))


@torch.no_grad()
def test_values_kept_from_step_to_step_are_the_critic_s(model: SASHA) -> None:
    reading = make_readings()[0]
    training = PolicyTraining(model, PolicyConfig(replayed=99), seed=0)
    one = training.roll_out(reading)
    states = training.choices(reading, [one]).states
    torch.testing.assert_close(training.critic(states), one.values, rtol=1e-4, atol=1e-5)


def test_advantages_are_the_sums_of_the_definition() -> None:
    rewards, values = torch.randn(6), torch.randn(6)
    discount, smoothing = 0.9, 0.8
    later = torch.cat([values[1:], torch.zeros(1)])
    errors = rewards + discount * later - values
    expected = [
        sum((discount * smoothing) ** (u - t) * errors[u] for u in range(t, 6)) for t in range(6)
    ]
    found = advantages(rewards, values, discount, smoothing)
    torch.testing.assert_close(found, torch.stack(expected))


def test_the_surrogate_is_clipped_and_entropy_is_rewarded(model: SASHA) -> None:
    reading = make_readings()[1]
    config = PolicyConfig(entropy=0.5)
    training = PolicyTraining(model, config, seed=0)
    choices = training.choices(reading, [training.roll_out(reading)])
    with torch.no_grad():
        policy = choices.log_policy(model.actor)
        now = choices.log_chosen(model.actor)
        before = now - torch.linspace(-1, 1, len(now))
        terms = []
        for t, ratio in enumerate((now - before).exp().tolist()):
            gain, clipped = choices.advantages[t].item(), min(max(ratio, 0.8), 1.2)
            p = policy[t].exp()[~choices.hidden[t]]
            terms.append(-min(ratio * gain, clipped * gain) + 0.5 * (p * p.log()).sum().item())
    np.testing.assert_allclose(
        training.actor_loss(choices, before).item(), np.mean(terms), rtol=1e-4
    )


def test_each_stage_reaches_all_its_parameters_and_no_others(model: SASHA) -> None:
    readings = make_readings()
    parts = {
        "updater": lambda: fit_updater(model, readings, 0, epochs=1),
        "actor": lambda: warm_up(model, readings, 0, epochs=1),
        "actor again": lambda: fit_policy(model, readings, [], 0, PolicyConfig(epochs=1)),
    }
    for part, work in parts.items():
        before = {name: value.clone() for name, value in model.named_parameters()}
        finish(work())
        moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        assert moved <= {n for n in before if n.startswith(part.split()[0])}
        idle = {n for n in before if n.startswith(part.split()[0])} - moved
        assert idle <= {"actor.score.bias"}


def test_the_critic_s_loss_reaches_all_its_parameters() -> None:
    torch.manual_seed(0)
    critic = Critic(D, 5)
    critic(torch.randn(3, 9, D)).square().sum().backward()
    idle = {n for n, p in critic.named_parameters() if not p.grad.any()}
    assert idle <= {"attention.score.bias"}


def test_tau_0_measures_the_cosine_of_the_most_alike_patches() -> None:
    model = make_model(tau=0.0)
    readings = make_readings()
    finish(fit_updater(model, readings, seed=0, epochs=1))
    cosines = []
    for z in (reading.z.double().numpy() for reading in readings):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        cosines.append((unit @ unit.T)[~np.eye(len(z), dtype=bool)])
    share = np.mean([np.mean(c >= model.threshold.item()) for c in cosines])
    assert abs(share - 0.03) < 0.01


def test_nothing_is_alike_where_slides_have_one_patch() -> None:
    one = Reading(torch.ones(1, D), torch.ones(1, D), 1)
    with pytest.raises(ValueError, match="two patches"):
        alike([one], torch.Generator())


def test_a_stated_tau_stays(model: SASHA) -> None:
    finish(fit_updater(model, make_readings(), seed=0, epochs=1))
    assert model.threshold.item() == pytest.approx(0.9)


def test_without_a_slide_that_has_something_to_find_the_actor_stays(model: SASHA) -> None:
    before = model.actor.score.weight.clone()
    negatives = [Reading(r.z, r.v, 0) for r in make_readings()]
    assert finish(warm_up(model, negatives, 0)) is None
    assert torch.equal(model.actor.score.weight, before)


@pytest.mark.parametrize(("negative", "taught"), [(0, {1, 2}), (1, {0, 2}), (-1, {0, 1, 2})])
def test_slides_of_all_classes_but_the_negative_one_teach_the_actor(
    negative: int, taught: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = set()

    def spy(model: SASHA, reading: Reading) -> Tensor:
        shown.add(reading.target)
        return torch.zeros(len(reading.z))

    monkeypatch.setattr("napari_wsimil.training.sasha._target_patches", spy)
    readings = [Reading(r.z, r.v, k % C) for k, r in enumerate(make_readings())]
    finish(warm_up(make_model(negative=negative), readings, 0, epochs=1))
    assert shown == taught


def test_a_stage_that_is_closed_or_diverges_leaves_its_last_whole_epoch(model: SASHA) -> None:
    def whole_epoch() -> tuple[Work[Epoch], dict[str, Tensor]]:
        work = fit_updater(model, make_readings(), 0, epochs=3)
        next(event for event in work if isinstance(event, Epoch))
        after = {name: value.clone() for name, value in model.updater.state_dict().items()}
        next(work)
        moved = model.updater.state_dict()
        assert any(not torch.equal(value, moved[name]) for name, value in after.items())
        return work, after

    def left(after: dict[str, Tensor]) -> bool:
        found = model.updater.state_dict()
        return all(torch.equal(value, found[name]) for name, value in after.items())

    work, after = whole_epoch()
    work.close()
    assert left(after)
    work, after = whole_epoch()
    hook = model.updater.change.weight.register_hook(lambda g: g * torch.inf)
    with pytest.raises(TrainingError, match=r"gradient became .* in stage updater 2.*kept") as stop:
        finish(work)
    hook.remove()
    assert "training stopped in stage updater 2" in stop.value.kept
    assert left(after)


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_a_gradient_of_the_policy_that_is_not_finite_moves_nothing(model: SASHA, part: str) -> None:
    reading = make_readings()[1]
    training = PolicyTraining(model, PolicyConfig(), seed=0)
    module = model.actor if part == "actor" else training.critic.attention
    before = module.score.weight.clone()
    module.score.weight.register_hook(lambda g: g * torch.nan)
    with pytest.raises(TrainingError, match="gradient became nan in stage policy"):
        training.learn(reading, [training.roll_out(reading)])
    assert torch.equal(module.score.weight, before)


def test_a_loss_that_is_not_finite_stops_training(model: SASHA) -> None:
    model.updater.change.bias.data.fill_(torch.inf)
    with pytest.raises(TrainingError, match="updater"):
        finish(fit_updater(model, make_readings(), seed=0, epochs=1))


def test_only_a_sasha_is_trained_in_three_stages() -> None:
    with pytest.raises(ValueError, match="ABMIL"):
        finish(train_sasha(ABMIL(feature_dim=D, classes=2), [], []))


def test_epochs_tell_their_stage_and_how_many_it_has() -> None:
    model = SASHA(feature_dim=D, classes=2, attention_dim=4, budget=0.1)
    cases = [Case(f"p{k}", (make_bag(12, k),), k % 2) for k in range(4)]
    config = FitConfig(epochs=2, drop=0)
    events = list(train_sasha(model, cases[:2], cases[2:], config))
    told = [(e.text, e.total, e.done) for e in events if isinstance(e, Epoch)]
    assert told == [
        *(("hafed", 2, k) for k in (1, 2)),
        *(("updater", UPDATER_EPOCHS, k) for k in range(1, UPDATER_EPOCHS + 1)),
        *(("actor", WARM_UP, k) for k in range(1, WARM_UP + 1)),
        *(("policy", 2, k) for k in (0, 1, 2)),
    ]


class Spy(HAFED):
    """Remembers what it was shown."""

    def forward(self, bag: Bag) -> MILOutput:
        self.shown = bag
        return super().forward(bag)


def test_training_noise_moves_the_sub_patches_of_a_patch_together(bag: Bag) -> None:
    for noise, shift in ((0.5, 0.0), (0.0, 0.5), (0.0, 0.0)):
        spy = Spy(feature_dim=D, classes=C)
        config = FitConfig(
            epochs=1, drop=0, noise=noise, shift=shift, accumulate=1, standardize=False
        )
        finish(fit(spy, [Case("p", (bag,), 1)], [], config))
        moved = spy.shown.finer - bag.finer
        torch.testing.assert_close(moved, moved[:, :1].expand(-1, K, -1), rtol=0, atol=1e-5)
        assert (moved.abs().max() > 0.1) == (noise + shift > 0)
        assert (moved.std(dim=0).max() > 0.1) == (noise > 0)


SMALL = Zoom(patches=(30, 50), dim=16, shift=2.2, fine_shift=4.0, share=(0.08, 0.15), axes=8)


def test_three_stages_learn_to_look_where_the_lesions_are() -> None:
    torch.set_num_threads(1)
    train, test = plant_zoom(SMALL, 48, 100), plant_zoom(SMALL, 30, 101)
    torch.manual_seed(0)
    model = SASHA(feature_dim=16, classes=2, attention_dim=16, branches=2)
    config = FitConfig(epochs=15, accumulate=2, drop=0.0, noise=0.3)
    stages = list(trainer("sasha")(model, [one.case for one in train], [], config))
    named = {step.text.split()[0] for step in stages}
    assert named >= {"epoch", "distill", "updater", "actor", "policy"}
    full = finish(evaluate(model.hafed().eval(), [one.case for one in test])).metrics()
    part = finish(evaluate(model, [one.case for one in test])).metrics()
    assert full["auc"] > 0.9
    assert part["auc"] > 0.85
    shares = [
        (one.truth[seen(model, one.bag).order.numpy()].mean(), one.truth.mean())
        for one in test
        if one.truth.any()
    ]
    assert np.mean([found / base for found, base in shares]) > 1.8


def test_policy_training_raises_the_reward_and_keeps_the_best() -> None:
    train = plant_zoom(SMALL, 16, 100)
    torch.manual_seed(0)
    model = SASHA(feature_dim=16, classes=2, attention_dim=16, branches=2, tau=0.9).eval()
    readings = finish(distill(model, [one.case for one in train]))
    pairs = zip(readings, train, strict=True)
    direction = torch.cat([r.v[torch.from_numpy(p.truth)] for r, p in pairs]).mean(0)
    model.head.weight.data = 0.5 * torch.stack([-direction, direction])
    config = PolicyConfig(epochs=6, lr=3e-3)
    epochs = [e for e in fit_policy(model, readings, [], 0, config) if hasattr(e, "train")]
    assert [epoch.done for epoch in epochs] == list(range(7))
    assert epochs[-1].train["reward"] > epochs[0].train["reward"]


def test_policy_training_keeps_the_weights_that_validate_best(model: SASHA) -> None:
    cases = [one.case for one in plant_zoom(Zoom(patches=(8, 10), dim=D, axes=D), 4, 0)]
    kept = finish(fit_policy(model, make_readings(4), cases, 0, PolicyConfig(epochs=2, lr=0.1)))
    found = finish(evaluate(model, cases)).metrics()["loss"]
    assert found == pytest.approx(kept.validation["loss"])


def test_fine_features_are_read_once_and_stored(bag: Bag) -> None:
    case = plant_zoom(Zoom(patches=(8, 10)), 2, 0)[1].case
    assert finish(read_finely([case])) == [case]
    stored = case.bags[0].finer
    computed = Bag(case.bags[0].features, finer=lambda patch: stored[patch])
    read = finish(read_finely([Case("p", (computed,), 1)]))
    assert torch.equal(read[0].bags[0].finer, stored)


def test_hafed_reads_each_patch_finely_once_however_long_it_trains() -> None:
    calls = []

    def computed(case: Case) -> Case:
        bag = case.bags[0]

        def finer(patch: int) -> Tensor:
            calls.append((case.patient, patch))
            return bag.finer[patch]

        return replace(case, bags=(replace(bag, finer=finer),))

    cases = [computed(one.case) for one in plant_zoom(Zoom(patches=(8, 10), dim=D, axes=D), 4, 0)]
    train, validation = cases[:2], cases[2:]
    model = HAFED(feature_dim=D, classes=2, attention_dim=5)
    finish(trainer("hafed")(model, train, validation, FitConfig(epochs=3)))
    assert len(calls) == len(set(calls)) == sum(len(case.bags[0]) for case in cases)


# what it costs, and the planted world


def test_the_cost_of_training_is_told_with_when_it_pays() -> None:
    cost = training_cost(slides=100, patches=1000, sub_patches=16, budget=0.2, rate=20.0)
    assert cost.hours == pytest.approx(100 * 1000 * 17 / 20 / 3600)
    assert cost.share == pytest.approx((1000 + 200 * 16) / 16000)
    assert cost.pays_after == int(np.ceil(100 * 17000 / (16000 - 4200)))
    assert "23.6 h" in str(cost)
    assert "26% " in str(cost)
    assert "after 145 slides" in str(cost)


def test_looking_at_all_patches_never_pays() -> None:
    cost = training_cost(slides=1, patches=10, sub_patches=4, budget=1.0, rate=1.0)
    assert cost.pays_after is None
    assert "never pays off" in str(cost)
    with pytest.raises(ValueError, match="above 0"):
        training_cost(slides=1, patches=10, sub_patches=4, budget=0.2, rate=0.0)


def test_planted_lesions_are_faint_from_afar_and_plain_from_near() -> None:
    recipe = Zoom(patches=(60, 80), dim=16)
    train, test = plant_zoom(recipe, 40, 0), plant_zoom(recipe, 20, 1)
    coarse = map_auroc(test, probe(train))
    fine = map_auroc(test, lambda one: one.bag.finer.mean(dim=1) @ lesion(train))
    assert 0.7 < coarse < 0.95
    assert fine > coarse
    assert [one.case.target for one in train[:4]] == [0, 1, 0, 1]
    assert all(one.truth.any() == (one.case.target == 1) for one in train)
    again = plant_zoom(recipe, 2, 0)[1].bag
    assert torch.equal(again.finer, train[1].bag.finer)


def lesion(planted: tuple) -> Tensor:
    """Return the direction by which the fine features of lesions differ from the others'."""
    v = torch.cat([one.bag.finer.mean(dim=1) for one in planted])
    ill = torch.from_numpy(np.concatenate([one.truth for one in planted]))
    spread = torch.cov(v.T) + 1e-3 * torch.eye(v.shape[1])
    return torch.linalg.solve(spread, v[ill].mean(0) - v[~ill].mean(0))
