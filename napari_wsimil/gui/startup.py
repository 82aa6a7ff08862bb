"""Opening: what a window shows when it opens; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_wsimil.study.case import Case
from napari_wsimil.study.create_study import is_study
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import read_cohort
from napari_wsimil.workflows.slides import record_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_wsimil.models.card import Card


@dataclass(frozen=True, eq=False)
class Opening:
    """A slide or a patient of a study, and a model to be asked about it.

    Attributes
    ----------
    slide, features
        A slide, and features of it made before.
    case
        Whose slide it is, for a model that reads records.
    study, patient
        A study's folder, and its patient who is shown, with slide and features, in place of
        the above.
    checkpoint
        The trained model.
    map_name
        The map that is shown first; the main one if empty.
    tried
        Texts of fields of the patient's record that are tried on: the window then shows where
        the map moved.
    """

    slide: Path | None = None
    features: Path | None = None
    case: Case | None = None
    study: Path | None = None
    patient: str = ""
    checkpoint: Path | None = None
    map_name: str = ""
    tried: Mapping[str, str] = field(default_factory=dict)


def opening_of(
    path: Path | None,
    checkpoint: Path | None,
    features: Path | None,
    manifest: Path | None,
    patient: str | None,
) -> Opening:
    """Return the opening of a slide, or of a patient of a study.

    Raises
    ------
    ValueError
        As `record_for`, if a manifest is given without slide or model, or a patient without a
        study.
    """
    if path is not None and is_study(path):
        return Opening(study=path, patient=patient or "", checkpoint=checkpoint)
    if patient is not None:
        raise ValueError(f"--patient {patient} is of a study: give its folder in place of a slide")
    case = None
    if manifest is not None:
        if path is None or checkpoint is None:
            raise ValueError(f"--manifest {manifest} is for a slide that a model is asked about")
        case = _case(path, load_checkpoint(checkpoint)[1], manifest)
    return Opening(path, features, case, checkpoint=checkpoint)


def _case(path: Path, card: Card, manifest: Path) -> Case | None:
    """Return the patient with a slide at `path`, among the others of a manifest."""
    record = record_for(path, card, manifest)
    if record is None or card.record is None:
        return None
    schema = card.record.clinical
    cohort = [one.record for one in read_cohort(manifest, schema).patients if one.record]
    return Case("", schema, record, cohort=tuple(cohort))
