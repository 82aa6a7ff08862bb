"""Forgetting a patient wherever this program knows of: the study, its key, its models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.study.pseudonyms import default_key, read_key
from napari_wsimil.training.checkpoint import CheckpointError, load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.erase import Forgotten
    from napari_wsimil.study.training_runs import Run


@dataclass(frozen=True)
class Forgot:
    """What went with a patient, and who learned from them.

    Attributes
    ----------
    found
        What the study says.
    models
        Checkpoints that the patient helped to train or select: they still know what they
        learned, and can only be trained again without.
    moved
        Runs of the study that learned from the patient, whose checkpoint is none of these.
    unread
        Checkpoints that could not be asked.
    key
        The key that the patient was taken out of; None if there was none.
    """

    found: Forgotten
    models: tuple[Path, ...]
    moved: tuple[Run, ...]
    unread: tuple[Path, ...]
    key: Path | None


def forget(
    study: Study,
    patient: str,
    why: str,
    key: Path | str | None = None,
    models: Sequence[Path | str] = (),
) -> Forgot:
    """Erase a patient from a study and its key, and return which models were trained on them.

    Parameters
    ----------
    study, patient, why
        As `Study.forget` takes them.
    key
        The study's key; among the user's data if None.
    models
        Folders of checkpoints besides the study's own, and besides where its runs say that
        theirs are.

    Raises
    ------
    ValueError
        As `Study.forget` and `read_key`.
    """
    key = None if key is None else Path(key)
    pseudonyms = read_key(key or default_key(study.identity), study.folder)
    runs = study.runs.read(patient)
    found = study.forget(patient, why)
    kept = pseudonyms.path if pseudonyms.path.exists() else None
    if kept is not None:
        pseudonyms.without((patient, *found.slides)).save()
    folders = (study.folder / "models", *map(Path, models))
    files = {path for folder in folders for path in folder.rglob("*.safetensors")}
    files |= {run.path for run in runs if run.path is not None and run.path.is_file()}
    trained, unread = _trained_on(patient, files)
    moved = tuple(run for run in runs if run.model not in trained.values())
    return Forgot(found, tuple(trained), moved, unread, kept)


def _trained_on(patient: str, files: Iterable[Path]) -> tuple[dict[Path, str], tuple[Path, ...]]:
    """Return the checkpoints whose card lists a patient, with hashes, and those without a card."""
    trained, unread = {}, []
    for path in sorted(files):
        try:
            _, card = load_checkpoint(path)
        except CheckpointError:
            unread.append(path)
            continue
        if card.trained_on(patient):
            trained[path] = card.weights
    return trained, tuple(unread)
