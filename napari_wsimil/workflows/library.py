"""Library: functions of the public API that run a whole task without showing progress.

The window and the command line run the same work step by step, to show its progress.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from napari_wsimil.explain.query import query_maps
from napari_wsimil.features import extraction
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.importers.open import open_bag
from napari_wsimil.progress import finish
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.config import (
    FitConfig,
    FoldRule,
    RunConfig,
    checked_run,
    fit_config,
    read_run,
)
from napari_wsimil.training.dataset import cohort_of, open_cohort
from napari_wsimil.training.evaluate import assess
from napari_wsimil.training.subpatch_provider import closer_for
from napari_wsimil.training.train import train_run
from napari_wsimil.workflows.pipeline import PatchSettings, spare_core
from napari_wsimil.workflows.slides import encode_missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_wsimil.features.bag import Bag
    from napari_wsimil.features.encoders.base import PatchEncoder
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.training.evaluate import Assessment
    from napari_wsimil.training.train import Trained

_FIT = frozenset(field.name for field in fields(FitConfig))


def extract_features(
    slide: Slide,
    grid: PatchGrid,
    encoder: PatchEncoder | str = "stain-texture",
    path: str | Path | None = None,
    *,
    weights: str | Path | None = None,
) -> Bag:
    """Encode the patches of a slide.

    Parameters
    ----------
    slide
        An open slide.
    grid
        The N patches to encode, from `make_grid`.
    encoder
        An encoder or its name. The built-in one needs no weights.
    path
        HDF5 file to write. If an interrupted call left one, only missing patches are
        encoded. None keeps the features in memory.
    weights
        Local file of weights, for an encoder that is given by name. Nothing is downloaded.

    Returns
    -------
    Bag
        Features (N, D) float32, in the order of the grid.

    Raises
    ------
    ValueError
        If there is no such encoder, its weights are missing, or the file has the features of
        another slide, encoder or grid.
    OSError
        If the slide cannot be read or the file cannot be written.

    Examples
    --------
    >>> grid = wsi.make_grid(slide, wsi.find_tissue(slide), mpp=0.5, pixels=224)
    >>> bag = wsi.extract_features(slide, grid)
    """
    if isinstance(encoder, str):
        encoder = create_encoder(encoder, weights)
    elif weights is not None:
        raise ValueError(f"weights {weights} are for a named encoder: give its name, too")
    with spare_core():
        return finish(extraction.extract_features(slide, grid, encoder, path))


def load_features(
    path: str | Path,
    *,
    patch_size: int | None = None,
    pixels: int | None = None,
    stride: int | None = None,
    patches: str | Path | None = None,
    mpp: float | None = None,
    encoder: str = "",
    table: str = "",
) -> Bag:
    """Load the features of one slide, also files of other tools.

    Files of TRIDENT, CLAM, STAMP, LazySlide and Slideflow are read, too. A file without
    coordinates becomes a bag without a grid. Options fill in the facts that a file lacks.

    Parameters
    ----------
    path
        The file, or the zarr folder of LazySlide.
    patch_size
        Side of a patch in level-0 pixels.
    pixels
        Side of a patch in pixels, as the encoder saw it.
    stride
        Step between patches in level-0 pixels.
    patches
        CLAM's file of patches of the same slide, which has the sizes.
    mpp
        µm per level-0 pixel, for coordinates of STAMP and Slideflow.
    encoder
        Name of the encoder, marked as unverified.
    table
        Name of a table of features in a zarr folder of LazySlide.

    Returns
    -------
    Bag
        Features (N, D) float32, with coordinates in level-0 pixels where these are known.

    Raises
    ------
    ValueError
        If the file is of no known layout, lacks a size, or is damaged. The message names
        the option to give.

    Examples
    --------
    >>> bag = wsi.load_features("h5_files/slide.h5", patch_size=512)
    >>> bag.features.shape
    """
    return open_bag(
        path,
        patch_size=patch_size,
        pixels=pixels,
        stride=stride,
        patches=patches,
        mpp=mpp,
        encoder=encoder,
        table=table,
    )


def load_model(path: str | Path) -> tuple[MILModel, Card]:
    """Load a checkpoint.

    Nothing is unpickled.

    Parameters
    ----------
    path
        A .safetensors file that `train` or this program wrote.

    Returns
    -------
    model : MILModel
        In eval mode, on the CPU.
    card : Card
        Its encoder, scale, classes and training data.

    Raises
    ------
    CheckpointError
        If the file is a pickle, damaged, or written by a newer version. It is a ValueError.

    Examples
    --------
    >>> model, card = wsi.load_model("model.safetensors")
    >>> card.classes
    """
    return load_checkpoint(path)


def query(
    model: MILModel, bag: Bag, patches: int | Sequence[int] | Tensor
) -> tuple[Explanation, ...]:
    """Return the maps of a model for one patch or an area.

    Parameters
    ----------
    model
        A model that answers queries, such as Querent. It is put in eval mode.
    bag
        The slide's bag of N patches. For a model that reads a clinical record, take
        `prediction.bag`, which holds the record.
    patches
        Indices of the Q patches of the query, 0 to N - 1.

    Returns
    -------
    tuple of Explanation
        Maps over the N patches, the main one first.

    Raises
    ------
    ValueError
        If the model answers no queries, or an index is out of range.

    Examples
    --------
    >>> maps = wsi.query(model, bag, [0, 1])
    >>> maps[0].per_patch().argmax()
    """
    index = torch.as_tensor(patches, dtype=torch.int64).reshape(-1)
    return query_maps(model, bag, index, type(model).__name__)


def train(config: RunConfig | str | Path | None = None, **settings: Any) -> Trained:
    """Train a model and write its checkpoint.

    Slides whose features are missing are encoded first with the built-in encoder. The same run
    gives the same numbers on the same machine.

    Parameters
    ----------
    config
        A run, or its JSON file.
    **settings
        Without `config`: the fields of `RunConfig`, of which `cohort` and `out` are
        required, and of its `fit`, such as `epochs`, `lr` and `seed`. Other fields have the
        defaults of the model's recipe.

    Returns
    -------
    Trained
        `model`, `card`, the checkpoint's `path`, and `results` on the test patients.

    Raises
    ------
    ValueError
        If a setting is unknown or wrong, or the cohort does not suit the model.
    OSError
        If a file cannot be read or written.

    Examples
    --------
    >>> trained = wsi.train(cohort="cohort.csv", out="m.safetensors", features="features")
    >>> trained.card.metrics
    """
    if config is None:
        config = new_run(settings)
    elif settings:
        raise ValueError(f"{', '.join(settings)}: give a run or its settings, not both")
    elif not isinstance(config, RunConfig):
        config = read_run(config)
    cohort = cohort_of(config)
    finish(encode_missing(cohort, config.features, PatchSettings(), config.task))
    return finish(train_run(config, cohort))


def new_run(settings: Mapping[str, Any]) -> RunConfig:
    """Return a run of settings, by default those of the model's recipe.

    Parameters
    ----------
    settings
        Fields of `RunConfig` and of `FitConfig`.

    Raises
    ------
    ValueError
        If a setting is missing, unknown or wrong.
    """
    fit = {name: value for name, value in settings.items() if name in _FIT}
    if fit and "fit" in settings:
        raise ValueError(f"{', '.join(fit)}: give fit or its settings, not both")
    defaults = {"fold_rule": FoldRule.SLIDES, "threads": torch.get_num_threads()}
    values = {name: value for name, value in settings.items() if name not in _FIT}
    run = checked_run(defaults | values, "train")
    if "fit" in settings:
        return run
    return run.model_copy(update={"fit": fit_config(run.model, run.task, fit)})


def evaluate(
    model: MILModel,
    card: Card,
    cohort: str | Path,
    features: str | Path | None = None,
    *,
    split: str | None = None,
    draws: int = 1000,
    encoder_weights: str | Path | None = None,
    mixed_scales: bool = False,
) -> Assessment:
    """Measure how well a model predicts the patients of a cohort.

    Classes are scored by AUC, balanced accuracy and macro-F1, survival by Harrell's c-index.
    In a study whose unit is the slide, each slide is a case.

    Parameters
    ----------
    model, card
        From `load_model` or `train`.
    cohort
        A manifest (.csv), a study, or a folder of features.
    features
        Folder of features that the manifest does not list.
    split
        "train", "validation" or "test"; None takes the patients that the model has not
        been trained on.
    draws
        Bootstrap draws of patients, for the 95 % intervals.
    encoder_weights
        Local weights of the encoder, for models that encode patches at high resolution.
    mixed_scales
        Whether to accept features of another scale or patch size than the card's.

    Returns
    -------
    Assessment
        `metrics` with `value`, `low` and `high` by name, `patients` with probabilities, and
        `warnings`; `failed` names cases with unreadable features.

    Raises
    ------
    ValueError
        If no case is left, or features or records do not suit the model.
    OSError
        If the cohort cannot be read.

    Examples
    --------
    >>> result = wsi.evaluate(model, card, "cohort.csv", "features", split="test")
    >>> result.metrics["auc"]["value"]
    """
    manifest = open_cohort(cohort, card.record.clinical if card.record else None)
    closer = closer_for(type(model), encoder_weights)
    return finish(assess(model, card, manifest, features, split, draws, closer, mixed_scales))
