"""Training of a run: reads its cohort, writes its checkpoint."""

from __future__ import annotations

import secrets
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch

from napari_wsimil.models import create_model, model_class
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.progress import Progress
from napari_wsimil.study.create_study import StudyError, is_study, open_study
from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.checkpoint import Unfinished, check_target, save_checkpoint
from napari_wsimil.training.dataset import as_read, cohort_of, read_cases, refuse_unread
from napari_wsimil.training.evaluation import attention_top, evaluate, figures, results_of
from napari_wsimil.training.feature_check import check_features, slide_features, training_features
from napari_wsimil.training.fit import Epoch, TrainingError, fit
from napari_wsimil.training.model_card import data_sentence, describe
from napari_wsimil.training.sasha import train_hafed, train_sasha
from napari_wsimil.training.splits import gaps, ordered_split, parts_of
from napari_wsimil.training.subpatch_provider import closer_for
from napari_wsimil.training.tasks import outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.features.case import Case
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.losses import Survival
    from napari_wsimil.progress import Work
    from napari_wsimil.training.config import RunConfig
    from napari_wsimil.training.evaluation import Results, Scores
    from napari_wsimil.training.feature_check import SlideFeatures
    from napari_wsimil.training.fit import Trainer
    from napari_wsimil.training.splits import Fold, Parts
    from napari_wsimil.training.tasks import Outcome, Task


_TRAINERS: dict[str, Trainer] = {"hafed": train_hafed, "sasha": train_sasha}


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(Progress):
    """Step before the first epoch, with the model to train.

    Attributes
    ----------
    model
        The model in training; between two yields it has the current weights.
    card
        Card of the model before training.
    unfinished
        Checkpoint of the best weights so far.
    unit
        Unit of the cases, "patients" or "slides".
    """

    model: MILModel
    card: Card
    unfinished: Unfinished
    unit: str = "patients"


@dataclass(frozen=True, eq=False)
class Trained:
    """Result of a finished training.

    Attributes
    ----------
    model, card
        Model and card, as stored in the checkpoint.
    path
        The checkpoint.
    results
        Results on the test set, or on the validation set if there is no test set; None if
        all cases are in the training set.
    fold
        Training, validation and test set.
    remarks
        Notes on the features: accepted scales, unknown ones, repeated slides.
    unnoted
        Reason if the run could not be added to its study; empty if it was added, or the
        cohort is not a study.
    """

    model: MILModel
    card: Card
    path: Path
    results: Results | None
    fold: Fold
    remarks: tuple[str, ...] = ()
    unnoted: str = ""


def train_run(config: RunConfig, cohort: Manifest | None = None) -> Work[Trained]:
    """Train the model of a run and write its checkpoint.

    The same run gives the same numbers on the same machine. One thread must consume the whole
    generator; its number of torch threads is restored at the end. If the cohort is a study, the
    run is added to it; if that fails, `Trained.unnoted` is the reason.

    Yields a `Prepared` before the first epoch and an `Epoch` after each. Models that read
    records take their statistics from the training patients alone. During training the best
    weights so far are in a file next to the checkpoint, which remains if training is closed
    or fails. If training stops at a loss that is not finite after an epoch was kept, the
    checkpoint is written too, with a note in its card.

    Parameters
    ----------
    config
        The run.
    cohort
        Its cohort, if it has been read already.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be written, checked before training and at the end.
    TrainingError
        If training stopped; the message names the file if weights were kept.
    ValueError
        If the model does not support the task or the bags lack something it needs; if there
        are fewer than two classes, or too few patients or events; if features are invalid
        (all such files are named) or rejected by `check_features`.
    """
    with _threads(config.threads):
        manifest = cohort_of(config) if cohort is None else as_read(config, cohort)
        check_target(config.out)
        trained = yield from _train(config, manifest)
    return replace(trained, unnoted=_note(config.cohort, manifest, trained))


def _train(config: RunConfig, manifest: Manifest) -> Work[Trained]:
    cohort = yield from _read(config, manifest)
    model = _new_model(config, cohort)
    parts = parts_of(cohort.fold, manifest, config.task)
    card = cohort.describe(model, config.fit.seed).model_copy(update={"parts": parts})
    unit = unit_of(manifest.patients)
    unfinished = Unfinished(config.out, model, card, _undefined(parts, config.task, unit))
    yield Prepared(text="starting", model=model, card=card, unfinished=unfinished, unit=unit)
    failure = yield from _fit(config, model, cohort, unfinished)
    scores = yield from evaluate(model, cohort.test, "test")
    facts = yield from _facts(model, card, cohort, scores, failure)
    card = save_checkpoint(config.out, model, card.model_copy(update=facts))
    unfinished.remove()
    if failure:
        raise TrainingError(f"{failure}, in {config.out}", failure.kept) from failure
    results = yield from _results(model, card, cohort, manifest, scores)
    return Trained(model, card, config.out, results, cohort.fold, cohort.remarks)


def _facts(
    model: MILModel, card: Card, cohort: _Cohort, scores: Scores, failure: TrainingError | None
) -> Work[dict[str, Any]]:
    """Return the card's fields known after training."""
    metrics, reasons = figures(scores, card.classes, "test") if cohort.test else ({}, {})
    metrics |= yield from attention_top(model, cohort.validation or cohort.train)
    notes = (card.data, model.remark, failure.kept if failure else "")
    survival = yield from _referenced(model, cohort)
    facts = {"data": "; ".join(filter(None, notes)), "survival": survival}
    return facts | {"metrics": metrics, "reasons": reasons}


def _undefined(parts: Parts, task: Task, unit: str) -> str:
    """Return the reason for undefined metrics of the validation cases."""
    known = gaps({"validation": parts["validation"]}, task, unit)
    return "; ".join(known) or f"no two validation {unit} can be compared"


@dataclass(frozen=True, eq=False)
class _Cohort:
    """Training, validation and test cases of a run."""

    fold: Fold
    train: Sequence[Case]
    validation: Sequence[Case]
    test: Sequence[Case]
    features: Sequence[SlideFeatures]
    remarks: tuple[str, ...]
    mixed: bool
    outcome: Outcome
    record: RecordFormat | None

    def describe(self, model: MILModel, seed: int) -> Card:
        """Return the card of a model before it is trained."""
        salt = secrets.token_hex(8)
        sentence = data_sentence(self.train, len(self.validation), self.record)
        return describe(
            model,
            (*self.train, *self.validation),
            classes=self.outcome.classes,
            survival=self.outcome.survival,
            record=self.record,
            data="; ".join((sentence, *self.remarks)),
            seed=seed,
            salt=salt,
            features=training_features(self.features, salt),
            mixed=self.mixed,
            created=datetime.now(UTC).date().isoformat(),
        )


def _read(config: RunConfig, manifest: Manifest) -> Work[_Cohort]:
    ordered, fold = ordered_split(config, manifest)
    parts = [_members(ordered, names) for names in (fold.train, fold.validation, fold.test)]
    outcome = outcome_of(config.task, ordered, parts[0], config.time_unit)
    record = _record_format(ordered, parts[0])
    closer = closer_for(model_class(config.model), config.encoder_weights)
    cases, unread = [], dict[str, str]()
    for part in parts:
        work = read_cases(part, outcome, config.features, record, closer, unread)
        cases.append((yield from work))
    refuse_unread(list(unread.values()))
    features = [_features(*pair) for pair in zip(parts, cases, strict=True)]
    mixed = config.mixed_scales
    remarks = check_features([row for part in features for row in part], mixed)
    known = [*features[0], *features[1]]
    train, validation, test = cases
    return _Cohort(fold, train, validation, test, known, remarks, mixed, outcome, record)


def _features(patients: Sequence[Patient], cases: Sequence[Case]) -> list[SlideFeatures]:
    pairs = zip(patients, cases, strict=True)
    return [one for patient, case in pairs for one in slide_features(patient, case.facts)]


def _members(manifest: Manifest, names: Sequence[str]) -> list[Patient]:
    members = set(names)
    return [patient for patient in manifest.patients if patient.name in members]


def _record_format(manifest: Manifest, train: Sequence[Patient]) -> RecordFormat | None:
    if manifest.schema is None:
        return None
    records = {patient.person: patient.record for patient in train}
    known = [record for record in records.values() if record is not None]
    return RecordFormat.fit(manifest.schema, known)


def _new_model(config: RunConfig, cohort: _Cohort) -> MILModel:
    """Return a model with initial weights for the cohort."""
    bag, record = cohort.train[0].bags[0], cohort.record
    shape = {"feature_dim": bag.features.shape[1], "classes": len(cohort.outcome.classes)}
    groups = {"groups": record.groups} if record is not None else {}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.fit.seed)
        model = create_model(config.model, **shape, **groups, **config.options)
    model.check(bag)
    return model


def trainer(name: str) -> Trainer:
    """Return a model's training function, `fit` by default."""
    return _TRAINERS.get(name, fit)


def _fit(
    config: RunConfig, model: MILModel, cohort: _Cohort, unfinished: Unfinished
) -> Work[TrainingError | None]:
    """Train the model; return the error if weights were kept."""
    train = trainer(config.model)
    try:
        with closing(train(model, cohort.train, cohort.validation, config.fit)) as work:
            for step in work:
                if isinstance(step, Epoch) and step.best:
                    unfinished.keep(step, (yield from _referenced(model, cohort)))
                yield step
    except TrainingError as error:
        if not error.kept:
            raise
        return error
    return None


def _referenced(model: MILModel, cohort: _Cohort) -> Work[Survival | None]:
    """Return the survival settings, for Cox with reference.

    The reference is the median log risk of the training patients.
    """
    survival = cohort.outcome.survival
    if survival is None or survival.loss != "cox":
        return survival
    scores = yield from evaluate(model, cohort.train, "reference")
    return survival.model_copy(update={"reference": scores.risks.median().item()})


def _results(
    model: MILModel, card: Card, cohort: _Cohort, manifest: Manifest, scores: Scores
) -> Work[Results | None]:
    """Return the results on test or validation set.

    The validation set is used if there is no test set. None if both are empty.
    """
    if cohort.test:
        return results_of("test", scores, card, manifest)
    if not cohort.validation:
        return None
    scores = yield from evaluate(model, cohort.validation, "results")
    return results_of("validation", scores, card, manifest)


def _note(path: Path, cohort: Manifest, trained: Trained) -> str:
    """Add a run to its study; return a failure reason.

    Returns an empty text if it was added, or the cohort is not a study.
    """
    if not is_study(path):
        return ""
    card, person = trained.card, {one.name: one.person for one in cohort.patients}
    train, validation = (
        [person[name] for name in part] for part in (trained.fold.train, trained.fold.validation)
    )
    try:
        with open_study(path) as study:
            study.runs.add(
                card.model,
                card.weights,
                trained.path,
                card.metrics,
                train,
                validation,
                reasons=card.reasons,
            )
    except StudyError as error:
        return f"the run was not added to the study: {error}"
    return ""


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
