"""Encoders keep their contract, say what they need, and never run a pickle."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_wsimil.features.encoders import timm as encoder_timm
from napari_wsimil.features.encoders.base import read_weights, require_encoder, timm_names
from napari_wsimil.features.encoders.factory import KNOWN, create_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.features.encoders.catalog import KnownEncoder


def patches_of(count: int, pixels: int = 224) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    small = torch.rand(count, 3, 28, 28, generator=generator)
    smooth = nn.functional.interpolate(small, (pixels, pixels), mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous()


def test_the_built_in_encoder_is_bit_equal_whatever_the_batch() -> None:
    encoder, patches = create_encoder(), patches_of(5)
    together = encoder(patches)
    assert together.shape == (5, encoder.card.dim)
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    assert torch.equal(together, torch.cat([encoder(p[None]) for p in patches]))
    assert torch.equal(together, create_encoder()(patches))


def test_the_built_in_encoder_describes_white_and_black_without_nan() -> None:
    plain = torch.stack([torch.full((224, 224, 3), v, dtype=torch.uint8) for v in (0, 255)])
    assert torch.isfinite(create_encoder()(plain)).all()


def test_the_built_in_encoder_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    create_encoder()(patches_of(1))
    assert torch.get_num_threads() == before


def test_stain_moves_the_features_of_stain() -> None:
    pink = torch.tensor([230, 130, 180], dtype=torch.uint8).expand(2, 64, 64, 3).clone()
    pink[1] = torch.tensor([110, 70, 150], dtype=torch.uint8)
    eosin_rich, hematoxylin_rich = create_encoder()(pink)
    assert hematoxylin_rich[0] > eosin_rich[0] + 1  # mean hematoxylin


def test_texture_does_not_depend_on_quarter_turns() -> None:
    encoder, patches = create_encoder(), patches_of(1)
    turned = patches.rot90(1, dims=(1, 2)).contiguous()
    torch.testing.assert_close(encoder(turned), encoder(patches), atol=0.3, rtol=0)


def test_the_built_in_encoder_tells_tumor_tiles_from_normal_ones(data: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    folder = data / "tiles" / "oral-oscc-400x"
    files = [sorted((folder / name).iterdir())[:50] for name in ("Normal", "OSCC")]
    tiles = np.stack([np.asarray(Image.open(f).convert("RGB")) for kind in files for f in kind])
    features = create_encoder()(torch.from_numpy(tiles)).numpy()
    labels = np.repeat([0, 1], 50)
    train = np.arange(100) % 3 != 0
    model = LogisticRegression(C=0.1, max_iter=2000).fit(features[train], labels[train])
    scores = model.decision_function(features[~train])
    assert roc_auc_score(labels[~train], scores) > 0.7


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(1, 224, 224, 3),
        torch.zeros(1, 3, 224, 224, dtype=torch.uint8),
        torch.zeros(224, 224, 3, dtype=torch.uint8),
        torch.zeros(1, 20, 20, 3, dtype=torch.uint8),
    ],
)
def test_patches_of_another_shape_are_refused(bad: Tensor) -> None:
    with pytest.raises(ValueError, match="stain-texture takes uint8 patches"):
        create_encoder()(bad)


def onnx_file(path: Path, batch: int | str = "batch", pixels: int | str = 8) -> Path:
    """A model that gives the mean of each channel, and zero beside them."""
    node = helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[2, 3], keepdims=0)
    shapes = [batch, 3, pixels, pixels], [batch, 3]
    graph = helper.make_graph(
        [node],
        "mean",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, shapes[1])],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


@pytest.mark.parametrize("batch", ["batch", 4])
def test_an_onnx_file_states_its_size_and_sees_standardized_pixels(
    tmp_path: Path, batch: int | str
) -> None:
    path = onnx_file(tmp_path / "mean.onnx", batch)
    encoder = create_encoder("onnx", path)
    assert (encoder.card.pixels, encoder.card.dim, encoder.card.name) == (8, 3, "onnx")
    assert encoder.card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    patches = patches_of(3, 8)
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    expected = (patches.float().mean(dim=(1, 2)) / 255 - mean) / std
    torch.testing.assert_close(encoder(patches), expected, atol=1e-5, rtol=1e-5)


def test_an_onnx_file_is_known_by_its_content_and_made_again_by_its_name(tmp_path: Path) -> None:
    encoder = create_encoder("onnx", onnx_file(tmp_path / "mean.onnx"))
    moved = (tmp_path / "mean.onnx").rename(tmp_path / "renamed.onnx")
    again = create_encoder(encoder.card.identity.partition("@")[0], moved)
    assert again.card.identity == encoder.card.identity
    other = create_encoder("onnx", onnx_file(tmp_path / "other.onnx", pixels=16))
    assert other.card.identity != encoder.card.identity


def external_onnx(path: Path, weights: np.ndarray, location: str = "weights.bin") -> Path:
    """A model of 8-px patches whose (D, 3, 8, 8) convolution lies in a file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = onnx.numpy_helper.from_array(weights.astype(np.float32), "kernel")
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["places"]),
        helper.make_node("Flatten", ["places"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "conv",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", len(weights)])],
        [kernel],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    outside = {"save_as_external_data": True, "location": location, "size_threshold": 0}
    onnx.save(made, path, **outside)
    return path


def test_an_onnx_encoder_is_known_by_its_external_weights_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(4, 3, 8, 8)) for _ in range(2))
    paths = [
        external_onnx(tmp_path / n / "a.onnx", w)
        for n, w in zip("ab", (first, second), strict=True)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    one, other = (create_encoder("onnx", path) for path in paths)
    patches = patches_of(2, 8)
    assert not torch.allclose(one(patches), other(patches))
    assert one.card.identity != other.card.identity
    assert create_encoder("onnx", external_onnx(tmp_path / "c" / "x.onnx", first)).card == one.card
    earlier = f"onnx@{hashlib.sha256(paths[0].read_bytes()).hexdigest()[:16]}"
    assert earlier not in (one.card.identity, other.card.identity)
    assert earlier in one.card.notes[0]


def test_a_tensor_of_a_nested_graph_counts_as_well(tmp_path: Path) -> None:
    from napari_wsimil.features.encoders.onnx_files import external_files

    inner = onnx.load(
        external_onnx(tmp_path / "in.onnx", np.ones((1, 3, 8, 8)), "deep.bin"),
        load_external_data=False,
    ).graph
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "outer", [], [])
    onnx.save(helper.make_model(graph), tmp_path / "out.onnx")
    assert external_files(tmp_path / "out.onnx") == ((tmp_path / "deep.bin").resolve(),)


def test_features_of_an_onnx_encoders_earlier_identity_are_told(tmp_path: Path) -> None:
    path = external_onnx(tmp_path / "a.onnx", np.ones((4, 3, 8, 8)))
    encoder = create_encoder("onnx", path)
    earlier = f"onnx@{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    with pytest.raises(ValueError, match=f"{earlier}.*Earlier versions left external weight files"):
        require_encoder(earlier, encoder.card.identity)
    with pytest.raises(ValueError, match="with that encoder$"):
        require_encoder("uni@1", "stain-texture@2")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", "gone.bin"])
def test_an_onnx_file_reads_weights_of_its_own_folder_alone(tmp_path: Path, location: str) -> None:
    path = external_onnx(tmp_path / "m" / "a.onnx", np.ones((4, 3, 8, 8)))
    (tmp_path / "secret.bin").write_bytes((tmp_path / "m" / "weights.bin").read_bytes())
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())
    said = "is missing" if location == "gone.bin" else "outside its folder"
    with pytest.raises(ValueError, match=rf"a\.onnx: its weight file .*{said}"):
        create_encoder("onnx", path)


def test_an_onnx_file_with_any_byte_changed_is_read_or_named(tmp_path: Path) -> None:
    from napari_wsimil.features.encoders.onnx_files import hash_onnx

    whole = external_onnx(tmp_path / "a.onnx", np.ones((4, 3, 8, 8))).read_bytes()
    rng, path = np.random.default_rng(3), tmp_path / "b.onnx"
    for _ in range(300):
        data = bytearray(whole)
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        named = ""
        try:
            hash_onnx(path)
        except ValueError as error:
            named = str(error)
        assert not named or str(path) in named


def test_an_onnx_file_without_a_fixed_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with S fixed"):
        create_encoder("onnx", onnx_file(tmp_path / "free.onnx", pixels="side"))
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"bad\.onnx: not a readable ONNX"):
        create_encoder("onnx", tmp_path / "bad.onnx")


class Tiny(nn.Module):
    """Stands in for a vision transformer: the token is a projection of the mean color."""

    num_features, num_prefix_tokens = 4, 1
    pretrained_cfg = MappingProxyType(
        {"input_size": (3, 6, 6), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    )

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(pixels.mean(dim=(2, 3)))


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    stub = SimpleNamespace(create_model=lambda *_, **__: Tiny(), list_models=lambda: ["tiny"])
    monkeypatch.setattr(encoder_timm, "import_timm", lambda: stub)
    return stub


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_are_loaded_and_their_hash_is_shown(
    tmp_path: Path, suffix: str
) -> None:
    model, path = Tiny(), tmp_path / f"w{suffix}"
    tensors = {**model.state_dict(), "decoder.bias": torch.zeros(2)}
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    encoder = create_encoder("timm:tiny", path)
    assert encoder.card.identity == (
        "timm:tiny@" + hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    )
    assert encoder.card.mpp is None
    assert "decoder.bias" in encoder.card.notes[0]
    patches = patches_of(2, 6)
    pixels = (patches.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    features = encoder(patches)
    torch.testing.assert_close(features, model(pixels).detach())
    assert not features.is_inference()


@pytest.mark.usefixtures("timm")
def test_weights_that_lack_something_are_refused_and_it_is_listed(tmp_path: Path) -> None:
    save_file({"head.bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w\.safetensors: lacks 1 tensors \(head\.weight\)"):
        create_encoder("timm:tiny", tmp_path / "w.safetensors")
    save_file(
        {"head.bias": torch.zeros(5), "head.weight": torch.zeros(5, 3)}, tmp_path / "v.safetensors"
    )
    with pytest.raises(ValueError, match=r"v\.safetensors: does not fit"):
        create_encoder("timm:tiny", tmp_path / "v.safetensors")


def test_a_checkpoint_that_is_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harmed"),)

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Harm()))
    torch.save({"weight": Harm()}, tmp_path / "v.pth")
    for name in ("w.pth", "v.pth"):
        with pytest.raises(ValueError, match=f"{name}: not a file of plain tensors"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "harmed").exists()


def test_names_of_hugging_face_become_timms() -> None:
    layer = "encoder.layer.3.attention.attention."
    parts = {
        f"{layer}{n}.weight": torch.full((2, 2), i) for i, n in enumerate(("query", "key", "value"))
    }
    named = timm_names(
        {
            **parts,
            "embeddings.cls_token": torch.zeros(1, 1, 2),
            "embeddings.mask_token": torch.zeros(1, 2),
            "encoder.layer.3.output.dense.bias": torch.zeros(2),
            "encoder.layer.3.attention.output.dense.bias": torch.zeros(2),
            "encoder.layer.3.layer_scale1.lambda1": torch.ones(2),
        }
    )
    assert set(named) == {
        "blocks.3.attn.qkv.weight",
        "cls_token",
        "blocks.3.mlp.fc2.bias",
        "blocks.3.attn.proj.bias",
        "blocks.3.ls1.gamma",
    }
    assert named["blocks.3.attn.qkv.weight"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.usefixtures("timm")
def test_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_wsimil.features.encoders.factory.import_timm", lambda: None)
    monkeypatch.setattr(
        "napari_wsimil.features.encoders.factory.download", lambda _: pytest.fail("asked")
    )
    with pytest.raises(ValueError, match=r"uni: its weights.*Request access.*MahmoodLab/UNI"):
        create_encoder("uni")


def test_a_missing_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm is not installed: pip install .*\[encoders\]"):
        create_encoder("uni")


def test_a_broken_torchvision_under_timm_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="torch and torchvision are not of one release"):
        create_encoder("uni")


@pytest.mark.parametrize(
    ("name", "says"),
    [("nonesuch", "no encoder is called 'nonesuch'.*uni"), ("onnx", "needs a model file")],
)
def test_a_name_that_is_not_enough_is_answered(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create_encoder(name)


def test_a_file_of_weights_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        create_encoder("onnx", tmp_path / "none.onnx")


@pytest.mark.parametrize("known", KNOWN.values(), ids=list(KNOWN))
def test_every_known_encoder_says_how_to_get_it(known: KnownEncoder) -> None:
    assert known.repository in known.access
    assert ("Request access" in known.access) == known.gated
    assert known.license
    assert known.pixels % 14 == 0 or known.pixels % 16 == 0


def test_a_failed_download_explains_access(monkeypatch: pytest.MonkeyPatch) -> None:
    class HfHubHTTPError(Exception):
        pass

    def refuse(*_: str) -> str:
        raise HfHubHTTPError("401")

    hub, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    hub.hf_hub_download, errors.HfHubHTTPError = refuse, HfHubHTTPError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    with pytest.raises(ValueError, match="download failed.*401.*Request access"):
        encoder_timm.download(KNOWN["uni"])


def test_a_changed_formula_needs_a_new_revision() -> None:
    """If this fails, raise REVISION: stored features and models are of other formulas now."""
    y, x, channel = np.mgrid[:64, :64, :3]
    patch = ((y * 7 + x * 3 + channel * 50 + (y * x) // 16) % 200 + 30).astype(np.uint8)
    features = create_encoder()(torch.from_numpy(patch[None]))[0].double()
    weights = torch.arange(1, len(features) + 1)
    assert float(features @ weights.double()) == pytest.approx(12645.09, rel=1e-4)
    assert create_encoder().card.identity == "stain-texture@0565af1e440cbb2e"
