"""The live update of PersAM-live against the model itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F

from napari_wsimil.features.bag import Bag, ClinicalTokens
from napari_wsimil.models.persam import live as module
from napari_wsimil.models.persam.incremental_layer import attend
from napari_wsimil.models.persam.live import PersAMLive, PreparedLiveSlide
from napari_wsimil.progress import Progress, finish

if TYPE_CHECKING:
    from torch import Tensor

    from napari_wsimil.models.base import MILOutput

D, C = 6, 3
TOLERANCE = 1e-5


def make(groups: str = "4,3", values: str = "patch") -> PersAMLive:
    torch.manual_seed(0)
    shape = {"width": 16, "feedforward": 32, "scale": 1.0}
    model = PersAMLive(feature_dim=D, classes=C, groups=groups, values=values, **shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def record(groups: str, seed: int, missing: tuple[int, ...] = ()) -> ClinicalTokens:
    random = torch.Generator().manual_seed(seed)
    values = tuple(torch.randn(int(width), generator=random) for width in groups.split(","))
    present = [group not in missing for group in range(len(values))]
    return ClinicalTokens(values, torch.tensor(present))


def make_bag(n: int, groups: str = "4,3") -> Bag:
    features = torch.randn(n, D, generator=torch.Generator().manual_seed(1))
    return Bag(features, clinical=record(groups, 1))


def ready(model: PersAMLive, bag: Bag) -> PreparedLiveSlide:
    return finish(model.prepare(bag))


@torch.no_grad()
def asked_again(model: PersAMLive, bag: Bag, clinical: ClinicalTokens) -> MILOutput:
    return model(replace(bag, clinical=clinical))


def check_equal(found: MILOutput, wanted: MILOutput) -> None:
    torch.testing.assert_close(found.logits, wanted.logits, atol=TOLERANCE, rtol=1e-5)
    for one, other in zip(found.explanations, wanted.explanations, strict=True):
        assert (one.name, one.kind, one.class_index) == (other.name, other.kind, other.class_index)
        torch.testing.assert_close(one.scores, other.scores, atol=TOLERANCE, rtol=0)
    assert found.scalars == pytest.approx(wanted.scalars, abs=TOLERANCE)
    torch.testing.assert_close(found.branches, wanted.branches, atol=TOLERANCE, rtol=1e-5)


@pytest.mark.parametrize("values", ["patch", "encoded"])
@pytest.mark.parametrize("n", [1, 2, 511, 3000])
def test_an_edit_is_what_the_model_says_of_the_edited_record(n: int, values: str) -> None:
    model, bag = make(values=values), make_bag(n)
    live = ready(model, bag)
    for seed in (1, 2, 3):
        clinical = record("4,3", seed)
        check_equal(live.edit(clinical).output(), asked_again(model, bag, clinical))


class WrittenOut:
    """PersAM-live from its weights alone, in float64, each token attending on its own."""

    def __init__(self, model: PersAMLive) -> None:
        self.w = {name: value.double() for name, value in model.state_dict().items()}
        self.c, self.factor = model.classes, model.scale

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", torch.zeros(()).double())

    def norm(self, x: Tensor, name: str) -> Tensor:
        flat = x - x.mean(dim=-1, keepdim=True)
        flat = flat / (flat.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
        return flat * self.w[f"encoder.{name}.weight"] + self.w[f"encoder.{name}.bias"]

    def mlp(self, x: Tensor, first: str, second: str) -> Tensor:
        return self.linear(F.gelu(self.linear(x, first)), second)

    def encoded(self, x: Tensor) -> Tensor:
        n = self.norm(x, "norm1")
        q, k, v = (self.linear(n, f"encoder.{part}") for part in ("query", "key", "value"))
        x1 = torch.empty_like(x)
        for t in range(len(x)):
            shares = (q[t] @ k.T / x.shape[1] ** 0.5).softmax(dim=0)
            x1[t] = x[t] + self.linear(shares @ v, "encoder.out")
        return x1 + self.mlp(self.norm(x1, "norm2"), "encoder.up", "encoder.down")

    def says(self, bag: Bag, clinical: ClinicalTokens) -> dict[str, Tensor]:
        x = (bag.features.double() - self.w["standardize.mean"]) / self.w["standardize.scale"]
        patches = self.mlp(x, "tokens.patch.0", "tokens.patch.2") + self.w["tokens.patch_type"]
        groups = [
            self.mlp(value.double(), f"tokens.groups.{g}.0", f"tokens.groups.{g}.2")
            + self.w["tokens.group_types"][g]
            for g, value in enumerate(clinical.values)
        ]
        h = self.encoded(torch.cat([self.w["tokens.classes"], torch.stack(groups), patches]))
        asked, known = h[: self.c + len(groups)], h[self.c :]
        q, k = self.linear(asked, "aggregator.query"), self.linear(known, "aggregator.key")
        s = (self.factor * q @ k.T).sigmoid()  # (C + M, M + N)
        m = len(groups)
        a, psi, phi = s[: self.c, m:], s[self.c :, m:].mean(dim=0), s[: self.c, :m].mean(dim=1)
        explanatory = a * phi[:, None] * psi
        weight = explanatory.amax(dim=0) + 1e-6
        z = self.linear((weight / weight.sum()) @ patches, "aggregator.value")
        return {
            "logits": self.linear(z, "head"),
            "attention": weight / weight.sum(),
            "exploratory": psi,
            "explanatory": explanatory.amax(dim=0),
            **{f"class-wise: {c}": a[c] for c in range(self.c)},
            **{f"explanatory: {c}": explanatory[c] for c in range(self.c)},
        }


@torch.no_grad()
@pytest.mark.parametrize("n", [3_000, 10_000])
def test_an_edit_is_what_the_equations_give_token_by_token(n: int) -> None:
    model, bag, clinical = make(), make_bag(n), record("4,3", 2)
    found = ready(model, bag).edit(clinical).output()
    wanted = WrittenOut(model).says(bag, clinical)
    torch.testing.assert_close(
        found.logits.double(), wanted.pop("logits"), atol=TOLERANCE, rtol=TOLERANCE
    )
    assert wanted.keys() == {map_.name for map_ in found.explanations}
    for map_ in found.explanations:
        error = (map_.scores.double() - wanted[map_.name]).abs().max()
        assert error <= TOLERANCE, map_.name


@pytest.mark.parametrize("missing", [(0,), (1,), (0, 1)])
def test_groups_may_come_and_go(missing: tuple[int, ...]) -> None:
    model, bag = make(), make_bag(300)
    live = ready(model, bag)
    clinical = record("4,3", 2, missing)
    check_equal(live.edit(clinical).output(), asked_again(model, bag, clinical))


@pytest.mark.parametrize("groups", ["5", "1,1,1,1,1,1,1,1"])
def test_one_group_or_one_field_a_group(groups: str) -> None:
    model, bag = make(groups), make_bag(300, groups)
    live = ready(model, bag)
    clinical = record(groups, 2)
    check_equal(live.edit(clinical).output(), asked_again(model, bag, clinical))


def test_visible_patches_have_the_maps_of_the_whole_in_the_order_asked_for() -> None:
    model, bag = make(), make_bag(1500)
    edit = ready(model, bag).edit(record("4,3", 2))
    whole = {map_.name: map_ for map_ in edit.output().explanations}
    visible = torch.randperm(1500)[:700]
    maps = edit.maps(visible)
    assert {map_.name for map_ in maps} == whole.keys() - {"attention"}
    for map_ in maps:
        torch.testing.assert_close(
            map_.scores, whole[map_.name].scores[visible], atol=TOLERANCE, rtol=0
        )


def test_no_patch_visible_is_no_score() -> None:
    edit = ready(make(), make_bag(5)).edit(record("4,3", 2))
    assert all(map_.scores.shape == (0,) for map_ in edit.maps(torch.empty(0, dtype=torch.int64)))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_work_side_by_side_and_change_nothing(threads: int) -> None:
    model, bag, clinical = make(), make_bag(5000), record("4,3", 2)
    live, first = ready(model, bag), torch.arange(4000, 200, -3)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        edit = live.edit(clinical)
        whole, part = edit.output(), edit.maps(first)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    check_equal(whole, live.edit(clinical).output())
    for one, other in zip(part, whole.explanations[1:], strict=True):
        torch.testing.assert_close(one.scores, other.scores[first], atol=TOLERANCE, rtol=0)


def test_edits_do_not_add_up() -> None:
    live = ready(make(), make_bag(50))
    first = live.edit(record("4,3", 1)).output()
    live.edit(record("4,3", 2)).output()
    assert torch.equal(live.edit(record("4,3", 1)).output().logits, first.logits)


def test_an_edit_moves_the_maps() -> None:
    live = ready(make(), make_bag(50))
    one, other = (live.edit(record("4,3", seed)).output().explanations for seed in (1, 2))
    assert all((a.scores - b.scores).abs().max() > 1e-3 for a, b in zip(one, other, strict=True))


def test_it_stays_exact_where_features_are_far_from_zero() -> None:
    model, bag = make(), make_bag(300)
    bag = replace(bag, features=bag.features + 50)
    clinical = record("4,3", 2)
    check_equal(ready(model, bag).edit(clinical).output(), asked_again(model, bag, clinical))


def test_attention_in_pieces_has_its_log_sum_exp() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(7, 4) * 50, torch.randn(20, 4) * 50, torch.randn(20, 4)
    s = q @ k.T / 2
    o, lse = attend(q, k, v)
    torch.testing.assert_close(lse, s.logsumexp(dim=1))
    torch.testing.assert_close(o, s.softmax(dim=1) @ v)


def test_preparing_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTENDED", 10)
    model, bag = make(), make_bag(25)
    assert list(model.prepare(bag)) == [Progress(n, 28) for n in (0, 10, 20)]
    clinical = record("4,3", 2)
    check_equal(ready(model, bag).edit(clinical).output(), asked_again(model, bag, clinical))


def test_nothing_kept_carries_a_gradient() -> None:
    live = ready(make(), make_bag(25))
    assert not live.rows.up_z.requires_grad
    assert not live.edit(record("4,3", 2)).output().logits.requires_grad


def test_a_record_of_another_schema_is_refused() -> None:
    live = ready(make(), make_bag(5))
    with pytest.raises(ValueError, match="another clinical schema"):
        live.edit(record("4,4", 2))


def test_what_is_no_patch_is_refused_and_not_taken_for_a_class_token() -> None:
    bag = make_bag(5)
    live = finish(make().prepare(bag))
    with pytest.raises(ValueError, match="patches 0 to 4"):
        live.edit(bag.clinical).maps(torch.tensor([-1]))
