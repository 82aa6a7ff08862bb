"""Opening: what a window shows when it opens; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_wsimil.gui.case import Case


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
