"""Weights in the naming of the public releases: what our models then compute."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_wsimil.cli.main import main
from napari_wsimil.explain.predict import predict
from napari_wsimil.features.bag import Bag
from napari_wsimil.features.store import load_bag, save_bag
from napari_wsimil.models import create_model
from napari_wsimil.slides.patch_grid import PatchGrid
from napari_wsimil.training.checkpoint import load_checkpoint, save_checkpoint
from napari_wsimil.training.import_weights import (
    ReleaseError,
    import_release,
    load_release,
    read_release,
    release_config,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from windows import Docks

    Release = dict[str, Tensor]

N, K, D, C, H, L, M = 9, 4, 6, 3, 5, 7, 2


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Release:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def gated(name: str, width: int, branches: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.attention_V.0.weight": (L, width),
        f"{name}.attention_V.0.bias": (L,),
        f"{name}.attention_U.0.weight": (L, width),
        f"{name}.attention_U.0.bias": (L,),
        f"{name}.attention_weights.weight": (branches, L),
        f"{name}.attention_weights.bias": (branches,),
    }


def heads(width: int, branches: int) -> dict[str, tuple[int, ...]]:
    names = [f"classifier.{m}.fc" for m in range(branches)] + ["Slide_classifier.fc"]
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        shapes |= {f"{name}.weight": (C, width), f"{name}.bias": (C,)}
    return shapes


def acmil() -> Release:
    return drawn({"dimreduction.fc1.weight": (H, D), **gated("attention", H, M), **heads(H, M)})


def hafed() -> Release:
    parts = {**gated("attention_1", D, 1), **gated("attention_2", D, M), **heads(D, M)}
    return drawn({**parts, "dimreduction.fc1.weight": (H, D)})


def vib() -> Release:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in {
        "fc.0": (H, D),
        "instance_classifier": (1, H),
        "attention_net.attention_a.0": (L, H),
        "attention_net.attention_b.0": (L, H),
        "attention_net.attention_c": (1, L),
        "classifiers": (C, H),
    }.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return drawn(shapes)


def longmil(width: int = 8) -> Release:
    shapes: dict[str, tuple[int, ...]] = {"_fc1.0.weight": (width, D), "_fc1.0.bias": (width,)}
    for layer in ("layer1", "layer2", "layer3"):
        shapes[f"{layer}.attn.qkv.weight"] = (3 * width, width)
        for name, shape in {
            "norm": (width,),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            shapes |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
    for name, shape in {"norm": (width,), "_fc2": (C, width)}.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return drawn(shapes)


def numbers(release: Release) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in release.items()}


def softmax(e: np.ndarray) -> np.ndarray:
    return np.exp(e) / np.exp(e).sum(axis=-1, keepdims=True)


def sigmoid(e: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-e))


def gated_by_hand(
    w: dict[str, np.ndarray], h: np.ndarray, names: tuple[str, str, str]
) -> np.ndarray:
    """Return (M, N) scores; `names` are of V, U and the weights."""
    v, u, score = names
    hidden = np.tanh(h @ w[f"{v}.weight"].T + w[f"{v}.bias"])
    hidden = hidden * sigmoid(h @ w[f"{u}.weight"].T + w[f"{u}.bias"])
    return (hidden @ w[f"{score}.weight"].T + w[f"{score}.bias"]).T


def acmil_gate(name: str) -> tuple[str, str, str]:
    return f"{name}.attention_V.0", f"{name}.attention_U.0", f"{name}.attention_weights"


def slide_and_branches(
    w: dict[str, np.ndarray], h: np.ndarray, a: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    slide = w["Slide_classifier.fc.weight"] @ (a.mean(axis=0) @ h) + w["Slide_classifier.fc.bias"]
    branches = [
        w[f"classifier.{m}.fc.weight"] @ (a[m] @ h) + w[f"classifier.{m}.fc.bias"] for m in range(M)
    ]
    return slide, np.array(branches)


def a_bag(finer: bool = False) -> Bag:
    generator = torch.Generator().manual_seed(5)
    fine = torch.randn(N, K, D, generator=generator) if finer else None
    return Bag(torch.randn(N, D, generator=generator), finer=fine)


def test_acmil_computes_what_its_release_computes() -> None:
    release, bag = acmil(), a_bag()
    model = create_model("acmil", **release_config("acmil", release)).eval()
    taken = load_release(model, release)
    assert (taken.missing, taken.unexpected) == ((), ())
    w = numbers(release)
    h = np.maximum(bag.features.double().numpy() @ w["dimreduction.fc1.weight"].T, 0)
    a = softmax(gated_by_hand(w, h, acmil_gate("attention")))
    slide, branches = slide_and_branches(w, h, a)
    output = model(bag)
    np.testing.assert_allclose(output.logits.detach(), slide, rtol=1e-4)
    np.testing.assert_allclose(output.branches["logits"].detach(), branches, rtol=1e-4)


def test_hafed_computes_what_its_release_computes_and_the_rest_is_listed() -> None:
    release, bag = hafed(), a_bag(finer=True)
    model = create_model("hafed", **release_config("hafed", release)).eval()
    taken = load_release(model, release)
    assert (taken.missing, taken.unexpected) == ((), ("dimreduction.fc1.weight",))
    w = numbers(release)
    v = np.empty((N, D))
    for n, u in enumerate(bag.finer.double().numpy()):
        v[n] = softmax(gated_by_hand(w, u, acmil_gate("attention_1")))[0] @ u
    a = softmax(gated_by_hand(w, v, acmil_gate("attention_2")))
    slide, branches = slide_and_branches(w, v, a)
    output = model(bag)
    np.testing.assert_allclose(output.logits.detach(), slide, rtol=1e-4)
    np.testing.assert_allclose(output.branches["logits"].detach(), branches, rtol=1e-4)


def test_the_agent_s_actor_scores_as_its_release_does_and_its_critic_is_listed() -> None:
    agent = drawn({**gated("actor.attention", D, 1), **gated("critic.attention", D, 1)}, seed=3)
    model = create_model("sasha", **release_config("sasha", hafed())).eval()
    taken = load_release(model, hafed() | agent)
    assert set(taken.unexpected) == {n for n in agent if n.startswith("critic")} | {
        "dimreduction.fc1.weight"
    }
    s = torch.randn(N, D, generator=torch.Generator().manual_seed(1))
    expected = gated_by_hand(numbers(agent), s.double().numpy(), acmil_gate("actor.attention"))
    np.testing.assert_allclose(model.actor(s).detach().T, expected, rtol=1e-4, atol=1e-6)


def test_the_state_updater_of_the_release_has_no_counterpart() -> None:
    updater = drawn({"fc1.weight": (2 * D, 3 * D), "fc2.weight": (D, 2 * D)})
    model = create_model("sasha", **release_config("sasha", hafed()))
    taken = load_release(model, hafed() | updater)
    assert {"fc1.weight", "fc2.weight"} <= set(taken.unexpected)
    assert {name.partition(".")[0] for name in taken.missing} == {"actor", "threshold", "updater"}


def test_vib_selects_and_weighs_with_the_release_s_weights() -> None:
    release, bag = vib(), a_bag()
    model = create_model("vib", **release_config("vib", release)).eval()
    taken = load_release(model, release)
    assert (taken.missing, taken.unexpected) == ((), ())
    w = numbers(release)
    h = bag.features.double().numpy() @ w["fc.0.weight"].T + w["fc.0.bias"]
    h = np.maximum(h, 0)
    pi = sigmoid(h @ w["instance_classifier.weight"][0] + w["instance_classifier.bias"])
    h = pi[:, None] * h
    names = tuple(f"attention_net.attention_{part}" for part in ("a.0", "b.0", "c"))
    z = softmax(gated_by_hand(w, h, names)) @ h
    expected = w["classifiers.weight"] @ z[0] + w["classifiers.bias"]
    np.testing.assert_allclose(model(bag).logits.detach(), expected, rtol=1e-4)


def layer_norm(w: dict[str, np.ndarray], name: str, h: np.ndarray) -> np.ndarray:
    h = h - h.mean(axis=-1, keepdims=True)
    scaled = h / np.sqrt((h**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def layer_of_one_token(w: dict[str, np.ndarray], name: str, h: np.ndarray) -> np.ndarray:
    """Return the token after a layer in which it sees but itself: it gets its own value."""
    value = np.split(w[f"{name}.attn.qkv.weight"], 3)[2] @ layer_norm(w, f"{name}.norm", h)
    h = h + w[f"{name}.attn.proj.weight"] @ value + w[f"{name}.attn.proj.bias"]
    inner = w[f"{name}.mlp.fc1.weight"] @ layer_norm(w, f"{name}.norm2", h)
    inner = torch.nn.functional.gelu(torch.from_numpy(inner + w[f"{name}.mlp.fc1.bias"])).numpy()
    return h + w[f"{name}.mlp.fc2.weight"] @ inner + w[f"{name}.mlp.fc2.bias"]


def test_longmil_computes_what_its_release_computes_where_places_do_not_matter() -> None:
    release = longmil()
    config = release_config("longmil", release)
    assert (config["heads"], config["pooling"], config["positions"]) == (4, "mean", "alibi")
    model = create_model("longmil", **config | {"heads": 2}).eval()
    taken = load_release(model, release)
    assert (taken.missing, taken.unexpected) == ((), ())
    grid = PatchGrid(np.zeros((1, 2), dtype=np.int64), patch_size=8, stride=8, pixels=8)
    bag = Bag(a_bag().features[:1], grid=grid)
    w = numbers(release)
    h = w["_fc1.0.weight"] @ bag.features[0].double().numpy() + w["_fc1.0.bias"]
    h = np.maximum(h, 0)
    for name in ("layer1", "layer2", "layer3"):
        h = layer_of_one_token(w, name, h)
    expected = w["_fc2.weight"] @ layer_norm(w, "norm", h) + w["_fc2.bias"]
    np.testing.assert_allclose(model(bag).logits.detach(), expected, rtol=1e-4)


def test_sizes_are_read_from_the_weights() -> None:
    assert release_config("acmil", acmil()) == {
        "feature_dim": D,
        "classes": C,
        "width": H,
        "attention_dim": L,
        "branches": M,
    }


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_read_without_running_code(
    tmp_path: Path, wrapped: bool, prefix: str
) -> None:
    path = tmp_path / "release.pth"
    named = {prefix + name: value for name, value in acmil().items()}
    torch.save({"epoch": 3, "model": named} if wrapped else named, path)
    found = read_release(path)
    assert found.keys() == acmil().keys()
    assert all(torch.equal(found[name], value) for name, value in acmil().items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "release.safetensors"
    save_file(acmil(), path)
    assert read_release(path).keys() == acmil().keys()


class Program:
    """Stands for any object of a release's own program."""


@pytest.mark.parametrize("content", [Program(), {"model": acmil(), "config": Program()}])
def test_a_file_with_objects_of_a_program_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "release.pt"
    torch.save(content, path)
    with pytest.raises(ReleaseError, match=r"release\.pt cannot be read as weights"):
        read_release(path)


@pytest.mark.parametrize("name", ["release.pth", "release.safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x02damaged")
    with pytest.raises(ReleaseError, match="cannot be read"):
        read_release(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2]])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "release.pt"
    torch.save(content, path)
    with pytest.raises(ReleaseError, match="contains"):
        read_release(path)


@pytest.mark.parametrize("start", [b"", b"hello", b"\x00" * 8, b"\xff" * 99, b"\x80\x02}q\x00."])
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_a_file_of_anything_else_is_refused(tmp_path: Path, start: bytes, ending: str) -> None:
    path = tmp_path / f"release{ending}"
    path.write_bytes(start)
    with pytest.raises(ReleaseError, match="cannot be read|contains no weights"):
        read_release(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    path, changed = tmp_path / "release.pt", tmp_path / "changed.pt"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for place in range(min(len(content), 400)):
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with suppress(ReleaseError):
            read_release(changed)


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(1).expand(10**12),
        torch.ones(2, 1).expand(2, 2),
        torch.eye(2).to_sparse(),
        torch.empty(2, device="meta"),
    ],
)
def test_a_tensor_whose_numbers_are_not_in_the_file_is_refused(
    tmp_path: Path, value: Tensor
) -> None:
    path = tmp_path / "release.pt"
    torch.save({"head": torch.ones(2), "big": value}, path)
    with pytest.raises(ReleaseError, match="big is not a plain array, or its data is missing"):
        read_release(path)


def test_a_view_of_a_larger_array_is_read(tmp_path: Path) -> None:
    path = tmp_path / "release.pt"
    torch.save({"part": torch.arange(6.0).view(2, 3).T[1:]}, path)
    assert read_release(path)["part"].tolist() == [[1.0, 4.0], [2.0, 5.0]]


@pytest.mark.parametrize("shape", [(), (H,), (H, D, 1), (0, D)])
def test_a_weight_that_tells_a_size_is_a_matrix(shape: tuple[int, ...]) -> None:
    release = acmil() | {"dimreduction.fc1.weight": torch.zeros(shape)}
    with pytest.raises(ReleaseError, match=r"dimreduction\.fc1\.weight is .* not a matrix"):
        release_config("acmil", release)


def test_branches_without_weights_of_their_own_are_refused() -> None:
    release = acmil() | {"attention.attention_weights.weight": torch.zeros(10**6, 1)}
    with pytest.raises(ReleaseError, match="1000000 branches are more than"):
        release_config("acmil", release)


def test_weights_that_are_not_floats_are_refused() -> None:
    release = acmil()
    model = create_model("acmil", **release_config("acmil", release))
    release["Slide_classifier.fc.bias"] = torch.zeros(C, dtype=torch.complex64)
    with pytest.raises(ReleaseError, match=r"Slide_classifier\.fc\.bias is torch\.complex64"):
        load_release(model, release)


def test_what_is_missing_and_what_nobody_expects_is_listed() -> None:
    release = acmil()
    model = create_model("acmil", **release_config("acmil", release))
    del release["classifier.1.fc.bias"]
    release["attention.extra.weight"] = torch.zeros(1)
    kept = model.branch_heads[1].bias.detach().clone()
    taken = load_release(model, release)
    assert taken.missing == ("branch_heads.1.bias",)
    assert taken.unexpected == ("attention.extra.weight",)
    assert torch.equal(model.branch_heads[1].bias, kept)


def test_another_shape_is_refused_by_its_name_and_nothing_is_loaded() -> None:
    release = acmil()
    model = create_model("acmil", **release_config("acmil", release))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    release["Slide_classifier.fc.weight"] = torch.zeros(C + 1, H)
    with pytest.raises(ReleaseError, match=rf"Slide_classifier\.fc\.weight is \({C + 1}, {H}\)"):
        load_release(model, release)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_that_are_no_numbers_are_refused() -> None:
    release = acmil()
    model = create_model("acmil", **release_config("acmil", release))
    release["Slide_classifier.fc.bias"][0] = float("nan")
    with pytest.raises(ReleaseError, match=r"Slide_classifier\.fc\.bias has NaN"):
        load_release(model, release)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ReleaseError, match="not weights of acmil"):
        release_config("acmil", vib())
    model = create_model("acmil", feature_dim=D, classes=C)
    with pytest.raises(ReleaseError, match="no weight belongs to acmil"):
        load_release(model, vib())


def test_a_model_without_a_release_is_refused() -> None:
    with pytest.raises(ReleaseError, match="no release of abmil"):
        release_config("abmil", acmil())


def test_half_precision_becomes_the_model_s_own() -> None:
    release = {name: value.half() for name, value in acmil().items()}
    model = create_model("acmil", **release_config("acmil", release))
    load_release(model, release)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Features of one patch, as the weights take them."""
    grid = PatchGrid(np.zeros((1, 2), dtype=np.int64), patch_size=8, stride=8, pixels=8, mpp=0.5)
    path = tmp_path / "slide.h5"
    save_bag(path, Bag(torch.ones(1, D), encoder="theirs@1", grid=grid))
    return path


def import_weights(release: Release, features: Path, classes: str, model: str = "acmil") -> int:
    path = features.with_name("theirs.safetensors")
    save_file(release, path)
    out = features.with_name("ours.safetensors")
    options = ["--model", model, "--features", str(features), "--classes", classes]
    return main(["import-weights", str(path), *options, "-o", str(out), "--json"])


def test_an_imported_release_is_a_checkpoint_for_the_features_it_was_given(
    features: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_weights(acmil() | {"extra": torch.zeros(1)}, features, "a,b,c") == 0
    assert json.loads(capsys.readouterr().out)["left out"] == ["extra"]
    model, card = load_checkpoint(features.with_name("ours.safetensors"))
    assert (card.encoder, card.mpp, card.pixels, card.classes) == (
        "theirs@1",
        0.5,
        8,
        ("a", "b", "c"),
    )
    assert "theirs.safetensors" in card.data
    found = predict(model, card, load_bag(features))
    assert torch.equal(model.head.bias, acmil()["Slide_classifier.fc.bias"])
    assert found.warnings == ()


def test_vib_keeps_as_many_patches_as_its_release(features: Path) -> None:
    assert import_weights(vib(), features, " a, b ,c", "vib") == 0
    model, card = load_checkpoint(features.with_name("ours.safetensors"))
    assert model.config["keep"] == 1024
    assert card.classes == ("a", "b", "c")


def sized(**shapes: tuple[int, ...]) -> Release:
    """Return a release some of whose weights have another shape."""
    names = {"first": "dimreduction.fc1.weight", "tanh": "attention.attention_V.0.weight"}
    return acmil() | {names[name]: torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("classes", ["a,b,", "a,,b", " ,a,b", "a,b,a", "a,b, b"])
def test_each_class_has_a_name_of_its_own(
    features: Path, classes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_weights(acmil(), features, classes) == 2
    assert "each class needs a distinct name" in capsys.readouterr().err


def test_a_weight_in_two_files_is_refused(features: Path) -> None:
    first, second = features.with_name("1.safetensors"), features.with_name("2.safetensors")
    save_file(acmil(), first)
    save_file({"Slide_classifier.fc.bias": torch.zeros(C), "extra": torch.zeros(1)}, second)
    with pytest.raises(
        ReleaseError, match=r"2\.safetensors repeats .*: Slide_classifier\.fc\.bias"
    ):
        import_release([first, second], "acmil", load_bag(features), ("a", "b", "c"), "2026-01-01")


@pytest.mark.parametrize("name", ["sasha", "abmil"])
def test_only_models_whose_release_is_whole_are_offered(features: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match="choose acmil, hafed, longmil, vib$"):
        import_release([], name, load_bag(features), ("a", "b", "c"), "2026-01-01")


@pytest.mark.parametrize(
    ("release", "classes", "sentence"),
    [
        (sized(first=(H, 10**6)), "a,b,c", "need 1000000 features per patch"),
        (sized(first=(10**6, D), tanh=(10**6, 1)), "a,b,c", "this model needs"),
        (sized(first=(H * D,)), "a,b,c", "not a matrix of weights"),
        (acmil(), "a,b", f"{C} classes, not {D} features and 2 classes"),
        (
            {k: v for k, v in acmil().items() if k != "attention.attention_V.0.bias"},
            "a,b,c",
            "lacks attention.tanh.bias",
        ),
    ],
)
def test_what_cannot_be_imported_whole_is_not_written(
    features: Path,
    release: Release,
    classes: str,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert import_weights(release, features, classes) == 2
    assert sentence in capsys.readouterr().err
    assert not features.with_name("ours.safetensors").exists()


RELEASES = {"acmil": acmil, "hafed": hafed, "longmil": lambda: longmil(16), "vib": vib}
#: Text in the notes of models that predict differently than in their authors' program.
NOTES = {"longmil": "radius mask on one head of four", "vib": "selected patches unweighted"}


def test_vib_answers_as_its_release_but_for_the_weights_that_its_note_names() -> None:
    release, bag = vib(), a_bag()
    model = create_model("vib", **release_config("vib", release)).eval()
    load_release(model, release)
    w = numbers(release)
    h = np.maximum(bag.features.double().numpy() @ w["fc.0.weight"].T + w["fc.0.bias"], 0)
    names = tuple(f"attention_net.attention_{part}" for part in ("a.0", "b.0", "c"))
    z = softmax(gated_by_hand(w, h, names)) @ h  # the program's own
    theirs = w["classifiers.weight"] @ z[0] + w["classifiers.bias"]
    assert not np.allclose(model(bag).logits.detach(), theirs, rtol=0.05)


@pytest.mark.parametrize("name", RELEASES)
def test_imported_weights_say_how_they_differ(
    features: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    note = NOTES.get(name, "")
    assert import_weights(RELEASES[name](), features, "a,b,c", name) == 0
    assert ("warning: imported" in capsys.readouterr().err) == bool(note)
    checkpoint = features.with_name("ours.safetensors")
    assert main(["info", str(checkpoint), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert note in "".join(facts["notes"])
    assert len(facts["notes"]) == len(facts["warnings"]) == bool(note)
    assert main(["models", name, "--json"]) == 0
    stated = json.loads(capsys.readouterr().out)["imported weights"]
    assert (note or "answer as in the authors' program") in stated


@pytest.mark.parametrize("name", NOTES)
def test_predictions_by_imported_weights_warn(
    features: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert import_weights(RELEASES[name](), features, "a,b,c", name) == 0
    capsys.readouterr()
    assert main(["predict", str(features.with_name("ours.safetensors")), str(features)]) == 0
    assert NOTES[name] in capsys.readouterr().err


def test_a_checkpoint_imported_before_notes_were_kept_has_them(features: Path) -> None:
    assert import_weights(vib(), features, "a,b,c", "vib") == 0
    path = features.with_name("ours.safetensors")
    model, card = load_checkpoint(path)
    save_checkpoint(path, model, card.model_copy(update={"notes": ()}))
    assert NOTES["vib"] in "".join(load_checkpoint(path)[1].warnings)
    trained = {"notes": (), "data": "two patients"}
    save_checkpoint(path, model, card.model_copy(update=trained))
    assert load_checkpoint(path)[1].warnings == ()


def test_the_window_says_how_imported_weights_differ(
    docks: Docks, small_slide: Path, tmp_path: Path
) -> None:
    grid = PatchGrid(np.array([[0, 0], [448, 0]]), patch_size=448, stride=448, pixels=224, mpp=1)
    path = tmp_path / "slide.h5"
    save_bag(path, Bag(torch.ones(2, D), encoder="theirs@1", grid=grid))
    assert import_weights(vib(), path, "a,b,c", "vib") == 0
    docks.slide.open(small_slide)
    docks.idle()
    docks.pane.show_bag(load_bag(path))
    docks.explain.open_model(path.with_name("ours.safetensors"))
    docks.idle()
    docks.explain.run()
    docks.idle()
    assert docks.explain.job.error is None
    assert NOTES["vib"] in docks.explain.warnings.text()
