"""Feature links: the files of features that people have, linked in place to a study's slides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_wsimil.bags.checks import Verdict
from napari_wsimil.bags.survey import survey_features
from napari_wsimil.study.links import CONFIRMED, Link, Linked

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_wsimil.bags.stated import Confirmed
    from napari_wsimil.bags.survey import Match, Survey, Surveyed
    from napari_wsimil.study.opened import Study


@dataclass(frozen=True)
class LinkedFolder:
    """What a folder of features had for a study, and what came of linking it."""

    survey: Survey
    linked: Linked

    @property
    def refused(self) -> tuple[Match, ...]:
        """Return the files that were not linked because a check or an answer failed."""
        return tuple(m for m in self.survey.matches if m.passport.verdict is Verdict.REFUSED)


def link_folder(
    study: Study, folder: Path, confirmed: Confirmed, why: str
) -> Generator[Surveyed, None, LinkedFolder]:
    """Yield after every file; return what was linked of a folder to the slides of a study.

    Files whose passport is refused are not linked.

    Raises
    ------
    ValueError
        As `survey_features`.
    StudyError
        If the study cannot be written.
    """
    slides = [slide for patient in study.manifest().patients for slide in patient.slides]
    survey = yield from survey_features(folder, slides, confirmed)
    return LinkedFolder(survey, study.link(links_of(survey), why))


def links_of(survey: Survey) -> tuple[Link, ...]:
    """Return the links of all files of a survey whose passport is not refused."""
    return tuple(
        _link(match) for match in survey.matches if match.passport.verdict is not Verdict.REFUSED
    )


def _link(match: Match) -> Link:
    shown = match.passport
    facts: dict[str, str | float | bool | None] = {
        name: value
        for name, value in shown.facts.items()
        if value is None or isinstance(value, str | int | float)
    }
    facts |= {f"{check.name} check": f"{check.verdict}: {check.sentence}" for check in shown.checks}
    kept = match.confirmed
    if kept.patches is not None and shown.patch_size is not None:
        kept = replace(kept, patch_size=round(shown.patch_size), pixels=shown.pixels)
    facts[CONFIRMED] = kept.text
    return Link(match.slide, match.features.absolute(), shown.encoder, shown.verified, facts)
