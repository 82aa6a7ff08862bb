"""What-if: rerun a model on an edited clinical record, of one slide or of a cohort."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.explain.baseline_variability import noise
from napari_wsimil.explain.counterfactual import what_if
from napari_wsimil.explain.counterfactual_cohort import rerun
from napari_wsimil.explain.export import export_map
from napari_wsimil.explain.map_shift import ABSOLUTE, MOVABLE, level_difference, share_difference
from napari_wsimil.progress import relabel
from napari_wsimil.training.bag_files import BagFiles
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import read_cohort
from napari_wsimil.workflows.pipeline import bag_of
from napari_wsimil.workflows.progress import Remark
from napari_wsimil.workflows.record_edits import whatif_edit, whatif_row
from napari_wsimil.workflows.slides import patient_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_wsimil.clinical.scenario import Scenario
    from napari_wsimil.clinical.schema import ClinicalSchema, Record
    from napari_wsimil.cohort.manifest import SlideRow
    from napari_wsimil.explain.baseline_variability import Noise
    from napari_wsimil.explain.counterfactual import WhatIf
    from napari_wsimil.explain.counterfactual_cohort import Row
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.progress import Work
    from napari_wsimil.workflows.pipeline import BagOptions
    from napari_wsimil.workflows.record_edits import WhatIfEdit


@dataclass(frozen=True, eq=False)
class SlideWhatIf:
    """Result of a scenario for one slide.

    Attributes
    ----------
    result
        Predictions before and after.
    noise
        Movements of the maps without any edit; None if not measured.
    edit
        The edit as a study's ledger notes it.
    """

    result: WhatIf
    noise: Noise | None
    edit: WhatIfEdit


@dataclass(frozen=True)
class CohortWhatIf:
    """Results of a scenario for a cohort.

    Attributes
    ----------
    rows
        One per patient with slides, without names of files.
    without_slide
        Number of patients without slides.
    edits
        Edits as a study's ledger notes them, of the rows that did not fail.
    """

    rows: tuple[Row, ...]
    without_slide: int
    edits: tuple[WhatIfEdit, ...]


def what_if_slide(
    loaded: tuple[MILModel, Card],
    path: Path | str,
    manifest: Path | str,
    scenario: Scenario,
    options: BagOptions,
    *,
    fold_models: Sequence[Path | str],
    noisy: bool,
) -> Work[SlideWhatIf]:
    """Apply a scenario to the record of one slide's patient, and predict again.

    Raises
    ------
    ValueError
        If the manifest has no record of the slide, or a change does not fit its schema.
    """
    path = Path(path)
    manifest = Path(manifest)
    model, card = loaded
    schema = schema_of(card)
    patient = patient_for(path, card, manifest)
    record = patient.record
    if record is None:
        raise ValueError(f"{manifest} has no record of {path.stem}")
    other = scenario.apply(schema, record)
    bag = yield from bag_of(path, card, options)
    result = what_if(model, card, bag, record, other)
    measured = (yield from _noise(loaded, bag, record, fold_models)) if noisy else None
    for warning in result.after.warnings:
        yield Remark(remark=warning, warning=True)
    return SlideWhatIf(result, measured, whatif_edit(schema, patient.name, result))


def what_if_cohort(
    loaded: tuple[MILModel, Card],
    manifest: Path | str,
    scenario: Scenario,
    *,
    features: Path | str | None,
    split: str | None,
    noisy: bool,
) -> Work[CohortWhatIf]:
    """Apply a scenario to each patient of a manifest; a patient that fails is named.

    Raises
    ------
    ValueError
        If the manifest has no patients of the split, or its records are of another schema.
    """
    manifest = Path(manifest)
    features = None if features is None else Path(features)
    model, card = loaded
    schema = schema_of(card)
    patients = [
        patient
        for patient in read_cohort(manifest, schema).patients
        if split is None or patient.split == split
    ]
    if not patients:
        raise ValueError(f"{manifest} has no patient of the split {split!r}")
    shown = [patient for patient in patients if patient.slides]
    subjects = [(p.name, p.record, BagFiles(p.slides, features)) for p in shown]
    made = yield from rerun(
        model, card, subjects, lambda one: scenario.apply(schema, one), noisy=noisy
    )
    rows = tuple(_unnamed(row, p.slides) for row, p in zip(made, shown, strict=True))
    for row in rows:
        if row.failed:
            yield Remark(remark=f"{row.case}: {row.failed}", warning=True)
    edits = (whatif_row(schema, scenario, *pair) for pair in zip(shown, rows, strict=True))
    kept = tuple(edit for edit in edits if edit is not None)
    return CohortWhatIf(rows, len(patients) - len(shown), kept)


def schema_of(card: Card) -> ClinicalSchema:
    """Return the clinical schema of a model that reads records."""
    assert card.record is not None  # `check_reads` has been through
    return card.record.clinical


def _noise(
    loaded: tuple[MILModel, Card], bag: Bag, record: Record, fold_models: Sequence[Path | str]
) -> Work[Noise]:
    others = [load_checkpoint(path) for path in fold_models]
    return (yield from relabel(noise(*loaded, bag, record, others), "measuring the noise"))


def write_maps(found: WhatIf, folder: Path | str) -> list[str]:
    """Return the files written: tables of all maps, and pictures of the main one.

    "difference" has, of each map that lies somewhere, where it moved, and of absolute ones
    how much brighter they are, on scales that are the same for every case.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    difference = replace(found.after, explanations=tuple(_differences(found)))
    parts = {"before": found.before, "after": found.after, "difference": difference}
    paths = [folder / f"{n}{end}" for n in parts for end in (".csv", ".png")]
    for path in paths:
        export_map(parts[path.stem], path)
    return [str(path) for path in paths]


def _differences(found: WhatIf) -> Iterator[Explanation]:
    later = {map_.name: map_ for map_ in found.after.explanations}
    for map_ in found.before.explanations:
        if map_.kind in MOVABLE and map_.name in later:
            yield share_difference(map_, later[map_.name])
        if map_.kind in ABSOLUTE and map_.name in later:
            yield level_difference(map_, later[map_.name])


def _unnamed(row: Row, slides: Sequence[SlideRow]) -> Row:
    """Return a row whose failure is told without the names of files."""
    words = row.failed
    for slide in slides:
        words = slide.unnamed(words)
    return replace(row, failed=words)
