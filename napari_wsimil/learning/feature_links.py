"""Feature links: the files of features that people have, linked in place to a study's slides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsimil.features.checks import Verdict
from napari_wsimil.features.matching import LinkedFeatures, survey_features
from napari_wsimil.study.file_links import CONFIRMED, Link
from napari_wsimil.study.pseudonyms import default_key, read_key

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_wsimil.features.importers.base import Confirmed
    from napari_wsimil.features.matching import Match, Survey, Surveyed
    from napari_wsimil.study.open_study import Study


def survey_study(
    study: Study, folder: Path | str, confirmed: Confirmed, key: Path | str | None = None
) -> Generator[Surveyed, None, Survey]:
    """Yield after every file; return what a folder of features has for a study's slides.

    Nothing is written: `Study.link` takes `links_of` it.

    Parameters
    ----------
    confirmed
        What a person says of all files of the folder.
    key
        Key of the study's pseudonyms, since files are called as outside; among the user's
        data if None.

    Raises
    ------
    ValueError
        As `survey_features`, and if the key is broken or of another study.
    """
    folder = Path(folder)
    key = None if key is None else Path(key)
    slides = [slide for patient in study.manifest().patients for slide in patient.slides]
    names = read_key(key or default_key(study.identity), study.folder).slides
    return (yield from survey_features(folder, slides, confirmed, names, _linked(study)))


def _linked(study: Study) -> list[LinkedFeatures]:
    """Return the features that slides of a study have, as far as their links tell."""
    return [
        LinkedFeatures(
            slide=link.slide,
            encoder=link.encoder,
            dim=int(link.facts.get("dim") or 0),
            content=str(link.facts.get("content_sha256") or ""),
            norm=float(link.facts.get("median_norm") or 0),
        )
        for link in study.links().values()
    ]


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
