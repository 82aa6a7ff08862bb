"""Training of a cohort: a manifest in, a checkpoint with its card out."""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from napari_wsimil.models import create_model
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.training.cases import unit_of
from napari_wsimil.training.checkpoint import Unfinished, check_target, save_checkpoint
from napari_wsimil.training.dataset import read_cases, refuse_unread, split_manifest
from napari_wsimil.training.evaluation import Step, evaluate
from napari_wsimil.training.feature_check import check_features, slide_features, training_features
from napari_wsimil.training.fit import Epoch, TrainingError
from napari_wsimil.training.gaps import parts_of
from napari_wsimil.training.identity import arranged
from napari_wsimil.training.model_card import describe
from napari_wsimil.training.plan import Plan as Plan
from napari_wsimil.training.plan import check_plan
from napari_wsimil.training.recipes import trainer
from napari_wsimil.training.results import figures, results_of
from napari_wsimil.training.tasks import outcome_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from napari_wsimil.cohort.manifest import Manifest, Patient
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.losses import Survival
    from napari_wsimil.training.cases import Case
    from napari_wsimil.training.feature_check import SlideFeatures
    from napari_wsimil.training.results import Results
    from napari_wsimil.training.splits import Fold
    from napari_wsimil.training.tasks import Outcome


_ROUND = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A training that is about to begin.

    Attributes
    ----------
    model
        What is trained; between two yields it has the weights of that moment.
    card
        Its card so far.
    unfinished
        Where the best weights so far are kept.
    unit
        What cases are: "patients" or "slides".
    """

    model: MILModel
    card: Card
    unfinished: Unfinished
    unit: str = "patients"


@dataclass(frozen=True, eq=False)
class Trained:
    """A training that came to its end.

    Attributes
    ----------
    model, card
        As they lie in the checkpoint.
    path
        The checkpoint.
    results
        How the model does on the test patients, or on those who chose its weights where
        nobody tests; None if everybody trained.
    fold
        Who trained, chose the weights and tested.
    remarks
        What to know of the features: accepted scales, unknown ones, repeated slides.
    unnoted
        Why the study whose patients these are does not know of it; empty where it does, or
        they are of no study.
    """

    model: MILModel
    card: Card
    path: Path
    results: Results | None
    fold: Fold
    remarks: tuple[str, ...] = ()
    unnoted: str = ""


Event: TypeAlias = "Step | Epoch | Prepared"


def train_cohort(
    manifest: Manifest, path: Path | str, plan: Plan
) -> Generator[Event, None, Trained]:
    """Yield what the model's trainer yields, write the checkpoint, and return what came of it.

    Models that read records read those of the manifest, which then has a schema; its
    statistics are those of the training patients alone. A `Prepared` comes before the first
    epoch. Until the end the best weights so far lie in a file beside `path`, and stay there
    if training is closed or fails. If it stops at a loss that is not finite after an epoch
    was kept, the checkpoint is written all the same, and its card says so.

    Raises
    ------
    CheckpointError
        If nothing can be written to `path`, before anything is trained; or not any more.
    TrainingError
        If training stopped; it names the file if weights were kept.
    ValueError
        If the model cannot do the task or lacks what it needs, there are fewer than two
        classes, too few patients or events, features are not valid (all such files are
        named), or `check_features` refuses them.
    """
    path = Path(path)
    check_target(path)
    check_plan(plan, manifest)
    ordered, keys = arranged(manifest, plan.fold_rule, plan.task, plan.features)
    cohort = yield from _read(ordered, plan, keys)
    model = _new_model(plan, cohort)
    parts = parts_of(cohort.fold, manifest, plan.task)
    card = cohort.describe(model, plan.fit.seed).model_copy(update={"parts": parts})
    unit = unit_of(manifest.patients)
    unfinished = Unfinished(path, model, card, unit)
    yield Prepared(model, card, unfinished, unit)
    failure = yield from _trained(plan, model, cohort, unfinished)
    scores = yield from evaluate(model, cohort.test, "test")
    metrics, reasons = figures(scores, card.classes, "test") if cohort.test else ({}, {})
    metrics |= yield from _attention_top(model, cohort.validation or cohort.train)
    told = (card.data, model.remark, failure.kept if failure else "")
    survival = yield from _referenced(model, cohort)
    facts: dict[str, Any] = {"data": "; ".join(filter(None, told)), "survival": survival}
    facts |= {"metrics": metrics, "reasons": reasons}
    card = save_checkpoint(path, model, card.model_copy(update=facts))
    unfinished.remove()
    if failure:
        raise TrainingError(f"{failure}, in {path}", failure.kept) from failure
    if cohort.test:
        results: Results | None = results_of("test", scores, card, manifest)
    else:
        results = yield from _chosen(model, card, cohort, manifest)
    return Trained(model, card, path, results, cohort.fold, cohort.remarks)


@dataclass(frozen=True, eq=False)
class _Cohort:
    """The patients of a manifest as a model takes them, and the features of those it learns."""

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
        told = _told(self.train, len(self.validation), self.record)
        return describe(
            model,
            (*self.train, *self.validation),
            classes=self.outcome.classes,
            survival=self.outcome.survival,
            record=self.record,
            data="; ".join((told, *self.remarks)),
            seed=seed,
            salt=salt,
            features=training_features(self.features, salt),
            mixed=self.mixed,
            created=datetime.now(UTC).date().isoformat(),
        )


def _read(
    manifest: Manifest, plan: Plan, keys: Mapping[str, str]
) -> Generator[Step, None, _Cohort]:
    fold = split_manifest(manifest, plan.folds, plan.fold, plan.fit.seed, plan.task, keys)
    parts = [_members(manifest, names) for names in (fold.train, fold.validation, fold.test)]
    outcome = outcome_of(plan.task, manifest, parts[0], plan.time_unit)
    record = _record_format(manifest, parts[0])
    cases, unread = [], dict[str, str]()
    for part in parts:
        read = yield from read_cases(part, outcome, plan.features, record, plan.closer, unread)
        cases.append(read)
    refuse_unread(list(unread.values()))
    features = [_features(*both) for both in zip(parts, cases, strict=True)]
    remarks = check_features([row for part in features for row in part], plan.mixed_scales)
    train, validation, test = cases
    known = [*features[0], *features[1]]
    return _Cohort(
        fold, train, validation, test, known, remarks, plan.mixed_scales, outcome, record
    )


def _features(patients: Sequence[Patient], cases: Sequence[Case]) -> list[SlideFeatures]:
    pairs = zip(patients, cases, strict=True)
    return [one for patient, case in pairs for one in slide_features(patient, case.facts)]


def _members(manifest: Manifest, names: Sequence[str]) -> list[Patient]:
    chosen = set(names)
    return [patient for patient in manifest.patients if patient.name in chosen]


def _record_format(manifest: Manifest, train: Sequence[Patient]) -> RecordFormat | None:
    if manifest.schema is None:
        return None
    records = {patient.person: patient.record for patient in train}
    known = [record for record in records.values() if record is not None]
    return RecordFormat.fit(manifest.schema, known)


def _told(train: Sequence[Case], chose: int, record: RecordFormat | None) -> str:
    """Return the card's sentence on the data, with who has which part of a record."""
    told = f"{_whom(train)} trained, {chose} chose the weights"
    if record is None:
        return told
    clinical = [case.bags[0].clinical for case in train]
    present = torch.stack([tokens.present for tokens in clinical if tokens is not None])
    counts = zip(record.clinical.groups, present.sum(dim=0).tolist(), strict=True)
    return f"{told}; of the former " + ", ".join(f"{count} have {name}" for name, count in counts)


def _whom(cases: Sequence[Case]) -> str:
    counted = f"{len(cases)} {unit_of(cases)}"
    persons = len({case.person for case in cases})
    return counted if unit_of(cases) == "patients" else f"{counted} of {persons} patients"


def _new_model(plan: Plan, cohort: _Cohort) -> MILModel:
    """Return a model with its first weights, which takes bags such as the cohort's."""
    bag, record = cohort.train[0].bags[0], cohort.record
    shape = {"feature_dim": bag.features.shape[1], "classes": len(cohort.outcome.classes)}
    groups = {"groups": record.groups} if record is not None else {}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(plan.fit.seed)
        model = create_model(plan.model, **shape, **groups, **plan.options)
    model.check(bag)
    return model


def _trained(
    plan: Plan, model: MILModel, cohort: _Cohort, unfinished: Unfinished
) -> Generator[Step | Epoch, None, TrainingError | None]:
    """Train the model; return why training stopped, if it did with weights that were kept."""
    try:
        with closing(trainer(plan.model)(model, cohort.train, cohort.validation, plan.fit)) as work:
            for event in work:
                if isinstance(event, Epoch) and event.best:
                    unfinished.keep(event, (yield from _referenced(model, cohort)))
                yield event
    except TrainingError as error:
        if not error.kept:
            raise
        return error
    return None


def _referenced(model: MILModel, cohort: _Cohort) -> Generator[Step, None, Survival | None]:
    """Return survival with the log risk of the median training patient, which Cox needs."""
    survival = cohort.outcome.survival
    if survival is None or survival.loss != "cox":
        return survival
    scores = yield from evaluate(model, cohort.train, "reference")
    return survival.model_copy(update={"reference": scores.risks.median().item()})


def _chosen(
    model: MILModel, card: Card, cohort: _Cohort, manifest: Manifest
) -> Generator[Step, None, Results | None]:
    """Return how the model does on those who chose its weights, if anybody did."""
    if not cohort.validation:
        return None
    scores = yield from evaluate(model, cohort.validation, "results")
    return results_of("validation", scores, card, manifest)


def _attention_top(
    model: MILModel, cases: Sequence[Case]
) -> Generator[Step, None, dict[str, float]]:
    """Return where the color bar of a model's attention ends, the same for every slide.

    It is the attention, in times of equal attention, that one patch in 50 of the slides at
    hand exceeds, up to the next round number. Models without attention have none.
    """
    found = []
    for done, case in enumerate(cases):
        yield Step("attention", done, len(cases))
        for bag in case.bags:
            with torch.no_grad():
                maps = model.eval()(bag).explanations
            found += [one.times_uniform() for one in maps if one.name == "attention"]
    if not found:
        return {}
    top = float(np.nanquantile(torch.cat(found).numpy(), 0.98))
    return {"attention_top": next((nice for nice in _ROUND if nice >= top), _ROUND[-1])}
