"""What the command line says of a record that were otherwise."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from napari_wsimil.cli.console import follow, warn
from napari_wsimil.cli.record_edits import Tried, tried_of, tried_row
from napari_wsimil.cli.slides import bag_for, patient_for
from napari_wsimil.clinical.scenario import Scenario, read_scenario
from napari_wsimil.cohort.table import write_table
from napari_wsimil.explain.baseline_variability import noise
from napari_wsimil.explain.counterfactual import broken_by, check_reads, what_if
from napari_wsimil.explain.counterfactual_cohort import rerun
from napari_wsimil.explain.export import export_map
from napari_wsimil.explain.map_shift import ABSOLUTE, MOVABLE, level_difference, share_difference
from napari_wsimil.training.checkpoint import load_checkpoint
from napari_wsimil.training.dataset import BagFiles, read_cohort

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_wsimil.clinical.schema import ClinicalSchema, Record
    from napari_wsimil.cohort.manifest import SlideRow
    from napari_wsimil.explain.baseline_variability import Noise
    from napari_wsimil.explain.counterfactual import WhatIf
    from napari_wsimil.explain.counterfactual_cohort import Row
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.base import Explanation, MILModel
    from napari_wsimil.models.card import Card

Facts = dict[str, Any]
_ALL = "all"


def scenario_of(
    card: Card, given: Sequence[str], missing: Sequence[str], file: Path | None
) -> Scenario:
    """Return the scenario in a file, or of changes such as "ldh=210" and of groups taken away.

    Raises
    ------
    ValueError
        If the model reads no records, a file and changes are given or neither, a change is no
        FIELD=VALUE, or a group is none of the model's.
    """
    check_reads(card)
    if bool(given or missing) == (file is not None):
        raise ValueError("what is to change? Give --set or --missing, or a --scenario, not both")
    if file is not None:
        return read_scenario(file)
    gone = {name: "missing" for group in missing for name in _members(_schema(card), group)}
    changes = gone | dict(_change(text) for text in given)
    return Scenario("given in the command", _schema(card).name, changes)


def _members(schema: ClinicalSchema, group: str) -> list[str]:
    """Return the names of the inputs of a group, or of "all"."""
    if group not in (*schema.groups, _ALL):
        raise ValueError(f"--missing {group!r} is none of {', '.join(schema.groups)}, {_ALL}")
    groups = schema.groups if group == _ALL else (group,)
    return [field.name for one in groups for field in schema.inputs_of(one)]


def _change(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise ValueError(f"--set {text!r} is not FIELD=VALUE, such as ldh=210 or age=missing")
    return name.strip(), value.strip()


def one_case(
    loaded: tuple[MILModel, Card],
    path: Path,
    manifest: Path,
    scenario: Scenario,
    bag_options: tuple[Path | None, float | None, int | None],
    *,
    fold_models: Sequence[Path],
    noisy: bool,
    out: Path | None,
) -> tuple[Facts, list[Tried]]:
    """Return what a scenario does to one slide, of whose patient the manifest has the record.

    It is told in facts, and as a study's ledger notes it. With a folder `out`, which is made,
    the maps before and after and their differences are written there.

    Raises
    ------
    ValueError
        If the manifest has no record of the slide, or a change is none of its schema.
    """
    model, card = loaded
    patient = patient_for(path, card, manifest)
    record = patient.record
    if record is None:
        raise ValueError(f"{manifest} has no record of {path.stem}")
    other = scenario.apply(_schema(card), record)
    bag = bag_for(path, card, *bag_options)
    found = what_if(model, card, bag, record, other)
    measured = _noise(loaded, bag, record, fold_models) if noisy else None
    warn(found.after.warnings)
    facts = _case_facts(_schema(card), found, measured)
    files = {} if out is None else {"files": write_maps(found, out)}
    return facts | files, [tried_of(_schema(card), patient.name, found)]


def _case_facts(schema: ClinicalSchema, found: WhatIf, measured: Noise | None) -> Facts:
    before, after = found.before, found.after
    assert before.record is not None  # both were asked with a record
    assert after.record is not None
    return {
        "changes": _changes(schema, found),
        "probabilities": _before_after(found),
        "maps": dict(_maps(found, measured)),
        "scalars": {
            name: {"before": value, "after": after.scalars.get(name)}
            for name, value in before.scalars.items()
        },
        "rules broken": list(broken_by(after.card, before.record, after.record)),
        "odd": [text for text in _odd(schema, found) if text],
        "patches": len(after.bag),
        "synthetic": after.bag.synthetic,
        "warnings": after.warnings,
    }


def _schema(card: Card) -> ClinicalSchema:
    assert card.record is not None  # `scenario_of` has been through
    return card.record.clinical


def _noise(
    loaded: tuple[MILModel, Card], bag: Bag, record: Record, fold_models: Sequence[Path]
) -> Noise:
    others = [load_checkpoint(path) for path in fold_models]
    return follow(noise(*loaded, bag, record, others), "measuring the noise")


def _changes(schema: ClinicalSchema, found: WhatIf) -> Facts:
    fields = schema.by_name
    return {
        name: {
            word: fields[name].format(value) or "missing"
            for word, value in zip(("before", "after"), pair, strict=True)
        }
        for name, pair in found.changes.items()
    }


def _before_after(found: WhatIf) -> Facts:
    both = (p.probabilities.tolist() for p in (found.before, found.after))
    return {
        outcome: {"before": before, "after": after, "change": after - before}
        for outcome, before, after in zip(found.before.card.outcomes, *both, strict=True)
    }


def _maps(found: WhatIf, measured: Noise | None) -> Iterator[tuple[str, Facts]]:
    """Yield the title of each map that lies somewhere, how far it moved, and beside what noise."""
    moved = found.movements
    for map_ in found.before.explanations:
        if map_.name not in moved:
            continue
        facts: Facts = asdict(moved[map_.name])
        if measured is not None and (bounds := measured.bounds(map_.name)):
            facts["within noise"] = measured.within(moved[map_.name], map_.name)
            facts["noise"] = {source: asdict(bound) for source, bound in bounds.items()}
        yield found.before.title(map_), facts


def _odd(schema: ClinicalSchema, found: WhatIf) -> Iterator[str]:
    for name, (_, value) in found.changes.items():
        remark = schema.by_name[name].remark(value)
        yield f"{name} {remark}" if remark else ""


def write_maps(found: WhatIf, folder: Path) -> list[str]:
    """Return the files written: tables of all maps, and pictures of the main one.

    "difference" has, of each map that lies somewhere, where it moved, and of absolute ones
    how much brighter they are, on scales that are the same for every case.
    """
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


def many_cases(
    loaded: tuple[MILModel, Card],
    manifest: Path,
    scenario: Scenario,
    *,
    features: Path | None,
    split: str | None,
    noisy: bool,
    out: Path | None,
) -> tuple[Facts, list[Tried]]:
    """Return what a scenario does to each patient of a manifest; who fails is named.

    It is told in facts, and as a study's ledger notes it of those who did not fail. Patients
    without a slide are left out, and counted. With a folder `out` the rows are written there as
    whatif.csv.

    Raises
    ------
    ValueError
        If the manifest has no patients of the split, or its records are of another schema.
    """
    model, card = loaded
    schema = _schema(card)
    patients = [
        patient
        for patient in read_cohort(manifest, schema).patients
        if split is None or patient.split == split
    ]
    if not patients:
        raise ValueError(f"{manifest} has no patient of the split '{split}'")
    shown = [patient for patient in patients if patient.slides]
    subjects = [(p.name, p.record, BagFiles(p.slides, features)) for p in shown]
    work = rerun(model, card, subjects, lambda one: scenario.apply(schema, one), noisy=noisy)
    slides = {patient.name: patient.slides for patient in shown}
    rows = [_unnamed(row, slides[row.case]) for row in follow(work, "asking")]
    warn([f"{row.case}: {row.failed}" for row in rows if row.failed])
    facts: Facts = {
        "scenario": scenario.name,
        "changes": dict(scenario.changes),
        "cases": [_row(row) for row in rows],
        "failed": [row.case for row in rows if row.failed],
        "without a slide": len(patients) - len(shown),
    }
    written = {} if out is None else {"file": str(_write_rows(card, rows, out))}
    tried = [tried_row(schema, scenario, *pair) for pair in zip(shown, rows, strict=True)]
    return facts | written, [one for one in tried if one is not None]


def _unnamed(row: Row, slides: Sequence[SlideRow]) -> Row:
    """Return a row whose failure is told without the names of files."""
    words = row.failed
    for slide in slides:
        words = slide.unnamed(words)
    return replace(row, failed=words)


def _row(row: Row) -> Facts:
    if row.failed:
        return {"case": row.case, "failed": row.failed}
    change = {outcome: row.after[outcome] - before for outcome, before in row.before.items()}
    slides = [asdict(movement) for movement in row.movements]
    for slide, within in zip(slides, row.within, strict=False):
        slide["within noise"] = within
    return {
        "case": row.case,
        "before": row.before,
        "after": row.after,
        "change": change,
        "slides": slides,
        "warnings": list(row.warnings),
    }


def _write_rows(card: Card, rows: Sequence[Row], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    heads = [f"{word}: {outcome}" for word in ("before", "after") for outcome in card.outcomes]
    columns = ["case", *heads, "moved", "distance", "within noise", "warnings", "failed"]
    write_table(folder / "whatif.csv", columns, (_cells(card, row) for row in rows))
    return folder / "whatif.csv"


def _cells(card: Card, row: Row) -> list[str]:
    """Return the cells of a row; of several slides the one that moved farthest tells how far."""
    chances = [
        part.get(outcome, "") for part in (row.before, row.after) for outcome in card.outcomes
    ]
    moved = [max((getattr(m, n) for m in row.movements), default="") for n in ("moved", "distance")]
    within = "yes" if all(row.within) else "no"
    said = [within if row.within else "", "; ".join(row.warnings), row.failed]
    return [row.case, *map(str, chances), *map(str, moved), *said]
