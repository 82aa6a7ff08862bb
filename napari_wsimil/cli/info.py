"""Facts of a slide, features, checkpoint or manifest, for `info`.

Values that may identify a patient (header text, names of attached images, ids) are included
only on request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.features.importers.base import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Facts = dict[str, Any]


def facts_of(path: Path, mpp: float | None, identifying: bool) -> Facts:
    """Return the facts of a file by its ending.

    Files with other endings are opened as slides.

    Parameters
    ----------
    mpp
        µm per level-0 pixel of a slide, replaces its header.
    identifying
        Whether to include values that may identify a patient.
    """
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _checkpoint(path, identifying)
    if suffix in SUFFIXES or (path.is_dir() and _is_lazyslide(path)):
        return _features(path)
    if suffix == ".csv":
        return _manifest(path, identifying)
    return _slide(path, mpp, identifying)


def _is_lazyslide(path: Path) -> bool:
    from napari_wsimil.features.importers.lazyslide import is_lazyslide

    return is_lazyslide(path)


def _slide(path: Path, mpp: float | None, identifying: bool) -> Facts:
    from napari_wsimil.slides.slide import open_slide

    with open_slide(path, mpp=mpp) as slide:
        reader, resolution = slide.reader, slide.resolution
        facts: Facts = {
            "kind": "slide",
            "vendor": reader.vendor,
            "width_px": slide.dimensions[0],
            "height_px": slide.dimensions[1],
            "mpp_um": resolution.mpp,
            "mpp_source": resolution.source.value,
            "synthetic": slide.synthetic,
            "fingerprint": slide.fingerprint,
            "levels": [_level(level) for level in slide.levels],
        }
        if resolution.note:
            facts["mpp_note"] = resolution.note
        if len(slide.images) > 1:
            facts["images"] = [
                {
                    "name": image.name,
                    "width_px": image.size[0],
                    "height_px": image.size[1],
                    "mpp_um": image.mpp,
                    "open": number == slide.image,
                }
                for number, image in enumerate(slide.images)
            ]
        if notes := slide.notes(names=True):
            facts["notes"] = list(notes)
        if identifying:
            facts["associated"] = list(reader.associated)
            facts["header"] = dict(reader.properties)
        return facts


def _level(level: Any) -> Facts:
    facts = {"width_px": level.width, "height_px": level.height, "downsample": level.downsample}
    x, y = level.factors
    return facts if x == y else {**facts, "downsample_x": x, "downsample_y": y}


def _features(path: Path) -> Facts:
    from napari_wsimil.features.checks import Verdict
    from napari_wsimil.features.importers.base import Confirmed, Tool
    from napari_wsimil.features.importers.open import read_stated, with_patches
    from napari_wsimil.features.report import passport
    from napari_wsimil.features.store import load_bag

    confirmed = with_patches(path, Confirmed())
    stated = read_stated(path, confirmed)
    if stated.tool not in (Tool.OWN, Tool.TRIDENT):
        return {"kind": "features", **passport(stated, confirmed).facts}
    bag = load_bag(path, partial=True)
    checks = passport(stated, confirmed, features=bag.features.numpy()).checks
    doubts = [one.sentence for one in checks if one.verdict in (Verdict.WARNED, Verdict.REFUSED)]
    facts: Facts = {
        "kind": "features",
        "patches": len(bag),
        "dim": bag.features.shape[1],
        "encoder": bag.encoder or None,
        "slide_fingerprint": bag.slide or None,
        "synthetic": bag.synthetic,
        "reader_version": bag.reading.version or None,
        "warnings": [*filter(None, [bag.reading.caveat]), *doubts],
    }
    if bag.grid is not None:
        facts |= {
            "patch_level0_px": bag.grid.patch_size,
            "stride_level0_px": bag.grid.stride,
            "patch_px": bag.grid.pixels,
            "mpp_um": bag.grid.mpp,
        }
    return facts


def _checkpoint(path: Path, identifying: bool) -> Facts:
    from napari_wsimil.training.checkpoint import load_checkpoint

    _, card = load_checkpoint(path)
    facts = card.model_dump()
    patients = facts.pop("patients")
    facts.pop("salt")
    if facts["features"] is not None:
        facts["features"].pop("known")
    pseudonyms = {"pseudonyms": list(patients)} if identifying else {}
    return {
        "kind": "checkpoint",
        "task": card.task,
        **facts,
        "training_patients": len(patients),
        "warnings": list(card.warnings),
        **pseudonyms,
    }


def _manifest(path: Path, identifying: bool) -> Facts:
    from napari_wsimil.cohort.endpoint import counts_of
    from napari_wsimil.cohort.manifest import Split, outcome_of_patient
    from napari_wsimil.cohort.manifest_file import read_manifest

    manifest = read_manifest(path)
    patients = manifest.patients
    facts: Facts = {
        "kind": "manifest",
        "patients": len(patients),
        "slides": sum(len(patient.slides) for patient in patients),
        "classes": {c: sum(p.label == c for p in patients) for c in manifest.classes},
        "unlabeled": sum(patient.label is None for patient in patients),
        "splits": {split.value: len(manifest.part(split)) for split in Split},
        **counts_of(map(outcome_of_patient, patients)).to_dict(),
    }
    if identifying:
        facts["patient_ids"] = [patient.name for patient in patients]
    return facts


def metric_facts(
    metrics: Mapping[str, float | None], reasons: Mapping[str, str], as_json: bool
) -> dict[str, Any]:
    """Return metrics to print, with reasons for missing ones.

    In lines for people a reason replaces the missing value.
    """
    if as_json:
        return {"metrics": dict(metrics)} | ({"reasons": dict(reasons)} if reasons else {})
    return {"metrics": {n: reasons.get(n, value) for n, value in metrics.items()}}


def interval_facts(
    metrics: Mapping[str, Mapping[str, float | str | None]], as_json: bool
) -> dict[str, Any]:
    """Return metrics with intervals to print.

    In lines for people undefined values are omitted.
    """
    if as_json:
        return dict(metrics)
    return {name: _readable(one) for name, one in metrics.items()}


def _readable(metric: Mapping[str, float | str | None]) -> Any:
    if metric["value"] is None:
        return f"not defined: {metric['reason']}"
    return {name: value for name, value in metric.items() if value is not None}
