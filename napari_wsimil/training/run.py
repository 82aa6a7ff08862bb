"""Run: a training as it can be written down, read again and repeated to the last digit."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_wsimil.clinical.errors import RecordError
from napari_wsimil.clinical.schema import read_schema
from napari_wsimil.cohort.class_folder import read_folder
from napari_wsimil.models import model_class
from napari_wsimil.study.create_study import StudyError, is_study, open_study
from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.config import FitConfig, FoldRule
from napari_wsimil.training.dataset import as_predicted, bag_of_slide, feature_path, read_cohort
from napari_wsimil.training.identity import arranged
from napari_wsimil.training.options import check_options
from napari_wsimil.training.plan import Plan, check_plan, reads_records
from napari_wsimil.training.splits import gaps, parts_of, split_manifest
from napari_wsimil.training.subpatch_provider import closer_for
from napari_wsimil.training.tasks import Task
from napari_wsimil.training.train import train_cohort

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.training.splits import Fold
    from napari_wsimil.training.train import Event, Trained

FORMAT = 1

AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]


class RunConfig(BaseModel):
    """A training, with all that decides its numbers; whoever has it can repeat it.

    Attributes
    ----------
    format
        Version of the layout.
    cohort
        A manifest (.csv), a study, or a folder of bags as `read_folder` takes it.
    out
        The checkpoint to write, .safetensors.
    features
        Folder of features that the manifest does not place.
    record_schema
        Schema of the manifest's records (.yaml), for models that read them.
    encoder_weights
        Local weights of the encoder, for models that look closer at slides.
    model, options
        Name in the registry of models, and its arguments besides those that the data give.
    task, time_unit
        What is learned of a patient, and the unit of the manifest's times, for survival.
    folds, fold
        Which fold of how many tests, where the cohort has no split.
    fold_rule
        What folds and the order of cases hang on: the content of slides, or, where a run
        states no rule, names of patients and the order of rows.
    fit
        How the model is fitted; its seed also draws folds and first weights.
    threads
        Of torch: another number may give other last digits.
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
    folds: int = Field(default=Plan.folds, ge=3)
    fold: int = Field(default=Plan.fold, ge=0)
    fold_rule: FoldRule = FoldRule.NAMES
    fit: FitConfig = FitConfig()
    threads: int = Field(ge=1)
    mixed_scales: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        model_class(self.model)
        check_options(self.model, self.options)
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is none of 0 to {self.folds - 1}")
        if self.task is Task.CLASSIFICATION and self.time_unit:
            raise ValueError(f"time_unit {self.time_unit!r} is for survival, not {self.task.value}")
        if self.cohort.suffix.lower() != ".csv" and self.record_schema is not None:
            raise ValueError(
                "record_schema is for a manifest (.csv): a study has its own, bags no records"
            )
        return self


_PATHS = ("cohort", "out", "features", "record_schema", "encoder_weights")


def checked_run(values: Mapping[str, Any], where: str = "run") -> RunConfig:
    """Return a run of these values.

    Raises
    ------
    ValueError
        In one sentence that names `where` and the field that is missing or wrong.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(": ".join(filter(None, (where, field, said)))) from error


def read_run(path: Path | str) -> RunConfig:
    """Return the run that a JSON file states; its paths are relative to the file's folder.

    Raises
    ------
    ValueError
        If it is no JSON, or no run; the message names file and field.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is no run: it must be a JSON object")
    folder = path.absolute().parent
    placed = {n: str(folder / values[n]) for n in _PATHS if isinstance(values.get(n), str)}
    return checked_run(values | placed, str(path))


def write_run(path: Path | str, config: RunConfig) -> None:
    """Write a run as JSON; the file appears whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def open_cohort(path: Path | str, record_schema: Path | str | None = None) -> Manifest:
    """Return the cohort in a manifest, a study or a folder of bags, as predictions are of it.

    Raises
    ------
    RecordError
        If it is not valid, or lacks a column of the schema.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    record_schema = None if record_schema is None else Path(record_schema)
    if path.is_dir() and not is_study(path):
        return read_folder(path)
    schema = read_schema(record_schema) if record_schema else None
    return as_predicted(path, read_cohort(path, schema))


def cohort_of(config: RunConfig) -> Manifest:
    """Return the cohort of a run; a study's without records where the model reads none."""
    return _as_read(config, open_cohort(config.cohort, config.record_schema))


def _as_read(config: RunConfig, cohort: Manifest) -> Manifest:
    needless = is_study(config.cohort) and not reads_records(config.model)
    return replace(cohort, schema=None) if needless else cohort


def encoder_of(manifest: Manifest, features: Path | str | None) -> str:
    """Return what made the features of the cohort's first slide, or raise as `read_cases`."""
    features = None if features is None else Path(features)
    slide = next((slide for patient in manifest.patients for slide in patient.slides), None)
    if slide is None:
        raise RecordError(f"{manifest.path} has no slides")
    path = feature_path(slide, features)
    if not path.exists():
        raise RecordError(f"there are no features at {path}: extract them first")
    return bag_of_slide(slide, features).encoder


def plan_of(config: RunConfig) -> Plan:
    """Return what `train_cohort` takes of a run."""
    return Plan(
        model=config.model,
        options=config.options,
        task=config.task,
        time_unit=config.time_unit,
        features=config.features,
        closer=closer_for(model_class(config.model), config.encoder_weights),
        folds=config.folds,
        fold=config.fold,
        fold_rule=config.fold_rule,
        fit=config.fit,
        mixed_scales=config.mixed_scales,
    )


def split_of(config: RunConfig, manifest: Manifest) -> Fold:
    """Return who trains, chooses and tests; ValueError if the run does not go with the cohort.

    By the rule of slides each slide's file is read once, for its key.
    """
    manifest = _as_read(config, manifest)
    check_plan(plan_of(config), manifest)
    ordered, keys = arranged(manifest, config.fold_rule, config.task, config.features)
    return split_manifest(ordered, config.folds, config.fold, config.fit.seed, config.task, keys)


def gaps_of(config: RunConfig, manifest: Manifest, fold: Fold) -> tuple[str, ...]:
    """Return which class or event is missing in which part of a run, in sentences."""
    cohort = _as_read(config, manifest)
    return gaps(parts_of(fold, cohort, config.task), config.task, unit_of(cohort.patients))


def train_run(config: RunConfig) -> Generator[Event, None, Trained]:
    """Yield and return what `train_cohort` does, with the run's number of threads.

    The same run gives the same numbers on the same machine, whoever drives it. All of it is
    to be driven by one thread, whose number of torch threads is put back at the end. A study
    that is the cohort keeps the run; where it cannot, `Trained.unnoted` says why.
    """
    with _threads(config.threads):
        cohort = cohort_of(config)
        trained = yield from train_cohort(cohort, config.out, plan_of(config))
    return replace(trained, unnoted=_note(config.cohort, cohort, trained))


def _note(path: Path, cohort: Manifest, trained: Trained) -> str:
    """Keep a run in the study that is its cohort; return why that failed, if it did."""
    if not is_study(path):
        return ""
    card, person = trained.card, {one.name: one.person for one in cohort.patients}
    learned, chosen = (
        [person[name] for name in part] for part in (trained.fold.train, trained.fold.validation)
    )
    try:
        with open_study(path) as study:
            study.runs.add(
                card.model,
                card.weights,
                trained.path,
                card.metrics,
                learned,
                chosen,
                reasons=card.reasons,
            )
    except StudyError as error:
        return f"the study does not know of this model: {error}"
    return ""


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
