"""Results and scenarios of `whatif`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.clinical.scenario import Scenario, read_scenario
from napari_wsimil.cohort.table import write_table
from napari_wsimil.explain.counterfactual import broken_by, check_reads
from napari_wsimil.workflows.whatif import schema_of, write_maps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from napari_wsimil.clinical.schema import ClinicalSchema
    from napari_wsimil.explain.baseline_variability import Noise
    from napari_wsimil.explain.counterfactual import WhatIf
    from napari_wsimil.explain.counterfactual_cohort import Row
    from napari_wsimil.explain.map_shift import Movement
    from napari_wsimil.models.card import Card
    from napari_wsimil.workflows.whatif import CohortWhatIf, SlideWhatIf

Facts = dict[str, Any]
_ALL = "all"


def scenario_of(
    card: Card, given: Sequence[str], missing: Sequence[str], file: Path | None
) -> Scenario:
    """Return the scenario of a file, or of given options.

    Options are changes such as "ldh=210", and groups to set to missing.

    Raises
    ------
    ValueError
        If the model uses no records, a file and changes are given or neither, a change is not
        FIELD=VALUE, or the model has no such group.
    """
    check_reads(card)
    if bool(given or missing) == (file is not None):
        raise ValueError("edits are missing or given twice. Give --set or --missing, or --scenario")
    if file is not None:
        return read_scenario(file)
    missing_fields = {
        name: "missing" for group in missing for name in _members(schema_of(card), group)
    }
    changes = missing_fields | dict(_change(text) for text in given)
    return Scenario("given in the command", schema_of(card).name, changes)


def _members(schema: ClinicalSchema, group: str) -> list[str]:
    """Return the inputs of a group, or of "all"."""
    if group not in (*schema.groups, _ALL):
        raise ValueError(f"--missing {group!r} is none of {', '.join(schema.groups)}, {_ALL}")
    groups = schema.groups if group == _ALL else (group,)
    return [field.name for one in groups for field in schema.inputs_of(one)]


def _change(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise ValueError(f"--set {text!r} is not FIELD=VALUE, such as ldh=210 or age=missing")
    return name.strip(), value.strip()


def slide_facts(card: Card, outcome: SlideWhatIf, out: Path | None) -> Facts:
    """Return the facts of a scenario for one slide.

    Its maps are written to the folder `out` if given.
    """
    facts = _case_facts(schema_of(card), outcome.result, outcome.noise)
    return facts if out is None else facts | {"files": write_maps(outcome.result, out)}


def _case_facts(schema: ClinicalSchema, what_if: WhatIf, variability: Noise | None) -> Facts:
    before, after = what_if.before, what_if.after
    assert before.record is not None  # both predictions have a record
    assert after.record is not None
    return {
        "changes": _changes(schema, what_if),
        "probabilities": _before_after(what_if),
        "maps": dict(_maps(what_if, variability)),
        "scalars": {
            name: {"before": value, "after": after.scalars.get(name)}
            for name, value in before.scalars.items()
        },
        "rules broken": list(broken_by(after.card, before.record, after.record)),
        "odd": [text for text in _odd(schema, what_if) if text],
        "patches": len(after.bag),
        "synthetic": after.bag.synthetic,
        "warnings": after.warnings,
    }


def _changes(schema: ClinicalSchema, what_if: WhatIf) -> Facts:
    fields = schema.by_name
    return {
        name: {
            word: fields[name].format(value) or "missing"
            for word, value in zip(("before", "after"), pair, strict=True)
        }
        for name, pair in what_if.changes.items()
    }


def _before_after(what_if: WhatIf) -> Facts:
    both = (p.probabilities.tolist() for p in (what_if.before, what_if.after))
    return {
        outcome: {"before": before, "after": after, "change": after - before}
        for outcome, before, after in zip(what_if.before.card.outcomes, *both, strict=True)
    }


def _maps(what_if: WhatIf, variability: Noise | None) -> Iterator[tuple[str, Facts]]:
    """Yield title and facts of each shifted map.

    The facts include the baseline variability if it was measured.
    """
    shifts = what_if.movements
    for map_ in what_if.before.explanations:
        if map_.name not in shifts:
            continue
        facts: Facts = _shift_facts(shifts[map_.name])
        if variability is not None and (bounds := variability.bounds(map_.name)):
            facts["within noise"] = variability.within(shifts[map_.name], map_.name)
            facts["noise"] = {source: _shift_facts(bound) for source, bound in bounds.items()}
        yield what_if.before.title(map_), facts


def _shift_facts(shift: Movement) -> Facts:
    """Return a map shift under its printed names, which never change."""
    return {
        "brighter": shift.brighter,
        "moved": shift.moved,
        "distance": shift.distance,
        "overlap": shift.overlap,
        "signed": shift.signed,
    }


def _odd(schema: ClinicalSchema, what_if: WhatIf) -> Iterator[str]:
    for name, (_, value) in what_if.changes.items():
        remark = schema.by_name[name].remark(value)
        yield f"{name} {remark}" if remark else ""


def cohort_facts(card: Card, scenario: Scenario, outcome: CohortWhatIf, out: Path | None) -> Facts:
    """Return the facts of a scenario for a cohort.

    Its rows are written to `out`/whatif.csv if `out` is given.
    """
    facts: Facts = {
        "scenario": scenario.name,
        "changes": dict(scenario.changes),
        "cases": [_row(row) for row in outcome.rows],
        "failed": [row.case for row in outcome.rows if row.failed],
        "without a slide": outcome.without_slide,
    }
    return facts if out is None else facts | {"file": str(_write_rows(card, outcome.rows, out))}


def _row(row: Row) -> Facts:
    if row.failed:
        return {"case": row.case, "failed": row.failed}
    change = {outcome: row.after[outcome] - before for outcome, before in row.before.items()}
    slides = [_shift_facts(movement) for movement in row.movements]
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
    """Return the cells of a row.

    Of several slides, the largest shift counts.
    """
    probabilities = [
        part.get(outcome, "") for part in (row.before, row.after) for outcome in card.outcomes
    ]
    moved = max((shift.moved for shift in row.movements), default="")
    distance = max((shift.distance for shift in row.movements), default="")
    within = "yes" if all(row.within) else "no"
    further = [within if row.within else "", "; ".join(row.warnings), row.failed]
    return [row.case, *map(str, probabilities), str(moved), str(distance), *further]
