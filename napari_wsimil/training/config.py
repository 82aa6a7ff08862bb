"""Configuration of a training run and its JSON file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_wsimil.models import MODELS, model_class
from napari_wsimil.training.options import Option, check_options, documented, reads_records
from napari_wsimil.training.tasks import Task, check_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_wsimil.cohort.manifest import Manifest

FORMAT = 1

#: Default number of patients per step that Cox's loss compares.
COMPARED = 16

AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]


class FoldRule(StrEnum):
    """Basis of the folds and of the case order."""

    NAMES = "names"  # names of patients and order of rows; default of runs without a rule
    SLIDES = "slides"  # content of the slides, see `identity`


@dataclass(frozen=True)
class FitConfig:
    """Training settings; the defaults suit tens to hundreds of slides.

    Attributes
    ----------
    epochs
        Passes over the training cases.
    lr, weight_decay
        Learning rate and weight decay of AdamW.
    schedule
        "one-cycle" increases the learning rate for a tenth of the steps, then decreases it to
        0 along a cosine; "cosine" decreases it from the start.
    accumulate
        Cases per optimizer step; their gradients are averaged, and Cox's loss compares them.
    clip
        Largest norm of the gradient.
    patience
        Epochs without a better validation loss before training stops; None never stops.
    drop
        Share of a slide's patches left out of each pass, drawn again for every pass.
    patches
        Largest number of patches of a case in one pass, divided among its slides. It bounds
        the time and memory of a step; evaluation always uses whole slides.
    noise
        Standard deviation of the noise added to the standardized features of each patch; all
        stored sub-patch features of a patch get the same noise.
    shift
        Standard deviation of a random shift added to all patches of a slide, drawn for each
        standardized feature and each pass.
    record_noise
        Standard deviation of the noise added to every channel of a clinical record's tokens:
        standardized numbers, but also flags, one-hot categories and missing-value indicators.
    standardize
        Whether to compute the features' mean and scale on the training cases first; False
        keeps those of a model that has them.
    seed
        Seed of case order, patch sampling, noise and masks; the caller initializes the model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    epochs: int = 40
    lr: float = 3e-3
    weight_decay: float = 1e-2
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    accumulate: int = 4
    clip: float = 5.0
    patience: int | None = None
    drop: float = 0.5
    patches: int = 4096
    noise: float = 0.5
    shift: float = 0.0
    record_noise: float = 0.0
    standardize: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate", "patches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("weight_decay", "noise", "shift", "record_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, not {getattr(self, name)}")
        if not 0 <= self.drop < 1:
            raise ValueError(f"drop must be in [0, 1), not {self.drop}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, not {self.patience}")
        if self.schedule not in ("one-cycle", "cosine"):
            raise ValueError(f'schedule is "one-cycle" or "cosine", not "{self.schedule}"')


_RECORDS = FitConfig(
    epochs=25, lr=1e-3, accumulate=8, drop=0.0, patches=128, noise=0.0, shift=0.2, record_noise=0.5
)
_PERSAM = replace(_RECORDS, epochs=40, weight_decay=1e-4, clip=1.0, noise=0.4)

_RECIPES: dict[str, FitConfig] = {
    "querent": FitConfig(epochs=10, lr=1e-3, accumulate=2, drop=0.3, noise=1.0),
    "persam": replace(_PERSAM, patches=100),
    "persam-live": _PERSAM,
    "bd": _RECORDS,
    "longmil": FitConfig(epochs=10, lr=1e-3, accumulate=1, drop=0.0, noise=0.5, shift=0.2),
    "vib": FitConfig(epochs=16, lr=2e-3, drop=0.3),
    "hafed": FitConfig(epochs=20, accumulate=2, drop=0.0),
    "sasha": FitConfig(epochs=20, accumulate=2, drop=0.0),
}


def recipe(name: str) -> FitConfig:
    """Return the default training settings of a registered model."""
    return _RECIPES.get(name, FitConfig())


def fit_config(model: str, task: Task, given: Mapping[str, int | float | None]) -> FitConfig:
    """Return a model's recipe, updated by the values given.

    Values of None in `given` are ignored.
    """
    settings: dict[str, Any] = {n: value for n, value in given.items() if value is not None}
    if task is Task.COX:
        settings.setdefault("accumulate", COMPARED)
    return replace(recipe(model), **settings)


def settings_of(model: str, task: Task = Task.CLASSIFICATION) -> dict[str, Option]:
    """Return the training settings of a model by name.

    Their defaults are those of the model's recipe.
    """
    texts = documented(FitConfig, "Attributes")
    config = fit_config(model, task, {})
    return {
        field.name: Option(getattr(config, field.name), texts.get(field.name, ""))
        for field in fields(FitConfig)
    }


class RunConfig(BaseModel):
    """Complete configuration of a training run.

    A run is one training of one model on one cohort. Its configuration contains every
    setting that influences the result, so that the same file repeats the training. A run of
    `acmil` on fold 0 of 5 with its default settings is, for example,
    ``RunConfig(cohort="manifest.csv", out="acmil.safetensors", threads=2)``.

    Attributes
    ----------
    format
        Version of the file layout.
    cohort
        A manifest (.csv), a study, or a folder of bags, see `read_folder`.
    out
        Path of the checkpoint to write, .safetensors.
    features
        Folder of features that have no path in the manifest.
    record_schema
        Schema of the manifest's records (.yaml), for models that read records.
    encoder_weights
        Local weights of the encoder, for models that read sub-patches of slides.
    model, options
        Name of a registered model, and its arguments except those given by the data.
    task, time_unit
        Learning task, and for survival the unit of the manifest's times.
    folds, fold
        Number of folds and index of the test fold, for cohorts without a split.
    fold_rule
        Basis of folds and case order: the content of slides, or, in a run without a rule, the
        names of patients and the order of rows.
    fit
        Training settings; their seed also draws the folds and the initial weights.
    threads
        Number of torch threads; another number may change the last digits.
    mixed_scales
        Whether features of several µm per pixel or patch sizes are accepted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = Field(default=FORMAT, ge=1, le=FORMAT)
    cohort: AbsolutePath
    out: AbsolutePath
    features: AbsolutePath | None = None
    record_schema: AbsolutePath | None = None
    encoder_weights: AbsolutePath | None = None
    model: str = "acmil"
    options: dict[str, int | float | str] = {}
    task: Task = Task.CLASSIFICATION
    time_unit: str = ""
    folds: int = Field(default=5, ge=3)
    fold: int = Field(default=0, ge=0)
    fold_rule: FoldRule = FoldRule.NAMES
    fit: FitConfig = FitConfig()
    threads: int = Field(ge=1)
    mixed_scales: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        model_class(self.model)
        check_options(self.model, self.options)
        if self.fold >= self.folds:
            raise ValueError(f"fold must be 0 to {self.folds - 1}, not {self.fold}")
        if self.task is Task.CLASSIFICATION and self.time_unit:
            raise ValueError(f"time_unit {self.time_unit!r} is for survival, not {self.task.value}")
        if self.cohort.suffix.lower() != ".csv" and self.record_schema is not None:
            raise ValueError(
                "record_schema is for a manifest (.csv): a study has its own schema, "
                "and a folder of bags has no records"
            )
        return self


def check_run(config: RunConfig, manifest: Manifest) -> None:
    """Raise ValueError if a model does not fit its data.

    The data are the task, the manifest and its schema.
    """
    check_task(config.task, manifest, config.time_unit)
    if config.task is not Task.CLASSIFICATION and not model_class(config.model).survives:
        able = ", ".join(name for name, cls in MODELS.items() if cls.survives)
        raise ValueError(f"{config.model} does not support {config.task}: choose one of {able}")
    if reads_records(config.model) and manifest.schema is None:
        raise ValueError(
            f"{config.model} reads clinical records: give the schema of the manifest's records"
        )
    if manifest.schema is not None and not reads_records(config.model):
        able = ", ".join(name for name in MODELS if reads_records(name))
        raise ValueError(
            f"{config.model} does not use clinical records. Drop the schema, or choose {able}"
        )


_PATHS = ("cohort", "out", "features", "record_schema", "encoder_weights")


def checked_run(values: Mapping[str, Any], where: str = "run") -> RunConfig:
    """Return the run configuration with these values.

    Raises
    ------
    ValueError
        If a field is missing or invalid; the message names `where` and the field.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(": ".join(filter(None, (where, field, message)))) from error


def read_run(path: Path | str) -> RunConfig:
    """Read a run configuration from a JSON file.

    Relative paths in the file are relative to its folder.

    Raises
    ------
    ValueError
        If it is not JSON or not a run; the message names file and field.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is not a run: it must be a JSON object")
    folder = path.absolute().parent
    paths = {n: str(folder / values[n]) for n in _PATHS if isinstance(values.get(n), str)}
    return checked_run(values | paths, str(path))


def write_run(path: Path | str, config: RunConfig) -> None:
    """Write a run configuration as JSON, atomically.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
