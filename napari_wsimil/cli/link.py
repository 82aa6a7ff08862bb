"""How the command line takes in features that people have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import follow, warn
from napari_wsimil.features.encoders.compare import agreement
from napari_wsimil.features.encoders.factory import create_encoder
from napari_wsimil.features.importers.base import Confirmed
from napari_wsimil.features.importers.open import bag_as, read_stated, with_patches
from napari_wsimil.features.report import passport
from napari_wsimil.slides.slide import open_slide
from napari_wsimil.study.create_study import open_study
from napari_wsimil.workflows.link_features import links_of, survey_study

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.cli.slides import Patches
    from napari_wsimil.features.report import Passport

#: Which option answers a question.
_OPTIONS = {
    "mpp": "--slide-mpp",
    "patch_size": "--patch-size",
    "encoder": "--encoder",
    "reading": "--reading",
}

#: Least median cosine at which two files of features may pass for those of one encoder.
ALIKE = 0.99


def checked(
    path: Path, reference: Path, patches: Patches, slide_mpp: float | None, patch_size: int | None
) -> dict[str, Any]:
    """Return how alike an encoder's features are to those of a file, nothing written.

    Raises
    ------
    ValueError
        As `agreement`, and if the file's places do not lie on the slide.
    """
    encoder = create_encoder(patches.encoder, patches.weights, patches.download)
    confirmed = with_patches(reference, Confirmed(patch_size=patch_size, mpp=slide_mpp))
    with open_slide(path, mpp=slide_mpp) as slide:
        warn([f"{path.name}: {note}" for note in slide.notes(names=True)])
        stated = read_stated(reference, confirmed)
        shown = passport(stated, confirmed, slide)
        for check in shown.checks:
            if check.verdict == "refused":
                raise ValueError(f"{reference}: {check.name} check: {check.sentence}")
        bag = bag_as(stated, confirmed, slide.resolution)
        warn(list(filter(None, [bag.reading.of(slide.reading).caveat])))
        found = follow(agreement(slide, bag, encoder), "encoding")
    if found.median < ALIKE:
        warn([f"the features are not those of {encoder.card.name} at these patches: do not mix"])
    return {
        "encoder": encoder.card.identity,
        "file_encoder": shown.encoder or None,
        "patches": found.patches,
        "cosine_median": found.median,
        "cosine_5th_percentile": found.fifth,
        "cosine_of_different_patches": found.chance,
    }


def link_features(
    folder: Path, features: Path, confirmed: Confirmed, why: str, key: Path | None, dry_run: bool
) -> dict[str, Any]:
    """Return what a folder of features has for a study, once it is linked to its slides.

    Files that a check refuses, or that lack an answer, are not linked. With `dry_run` nothing
    is written.

    Raises
    ------
    ValueError
        As `survey_study` and `Study.link`.
    """
    with open_study(folder) as study:
        survey = follow(survey_study(study, features, confirmed, key), "reading features")
        warn([f"{one.what}: {one.why}" for one in survey.mismatches])
        facts: dict[str, Any] = {
            "passports": {match.slide: match.passport.facts for match in survey.matches}
        }
        if not dry_run:
            found = study.link(links_of(survey), why or f"features in {features.name}")
            facts["linked"] = list(found.linked)
            facts["linked already"] = list(found.same)
        refused = [match for match in survey.matches if match.passport.verdict == "refused"]
        facts["refused"] = {match.slide: _reason(match.passport) for match in refused}
        facts["failed"] = {one.what: one.why for one in survey.mismatches if one.failed}
        return facts | {"mismatches": {one.what: one.why for one in survey.mismatches}}


def _reason(shown: Passport) -> str:
    asked = [f"{_OPTIONS[q.fact]}: {q.text}" for q in shown.questions if q.needed]
    failed = [f"{check.name}: {check.sentence}" for check in shown.checks]
    refused = [text for text, c in zip(failed, shown.checks, strict=True) if c.verdict == "refused"]
    return "; ".join([*asked, *refused])
