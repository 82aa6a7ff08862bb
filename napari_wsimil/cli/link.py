"""How the command line takes in features that people have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import follow, warn
from napari_wsimil.study.create_study import open_study
from napari_wsimil.workflows.link_features import check_encoder_job, links_of, survey_study

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.features.importers.base import Confirmed
    from napari_wsimil.features.report import Passport
    from napari_wsimil.workflows.pipeline import BagOptions, PatchSettings

#: Which option answers a question.
_OPTIONS = {
    "mpp": "--slide-mpp",
    "patch_size": "--patch-size",
    "encoder": "--encoder",
    "reading": "--reading",
}


def checked(
    path: Path, reference: Path, settings: PatchSettings, options: BagOptions
) -> dict[str, Any]:
    """Return how alike an encoder's features are to those of a file; errors as of the workflow."""
    encoder = settings.create_encoder()
    check = follow(check_encoder_job(path, reference, encoder, options), "encoding")
    found = check.agreement
    return {
        "encoder": encoder.card.identity,
        "file_encoder": check.file_encoder,
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
