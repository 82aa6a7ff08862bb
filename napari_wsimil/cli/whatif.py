"""Results of `whatif` for the command line, and the scenario of its options."""

from __future__ import annotations

from dataclasses import asdict
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
    from napari_wsimil.models.card import Card
    from napari_wsimil.workflows.whatif import CohortWhatIf, SlideWhatIf

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
    gone = {name: "missing" for group in missing for name in _members(schema_of(card), group)}
    changes = gone | dict(_change(text) for text in given)
    return Scenario("given in the command", schema_of(card).name, changes)


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


def slide_facts(card: Card, made: SlideWhatIf, out: Path | None) -> Facts:
    """Return the facts of a scenario for one slide; its maps are written to a folder `out`."""
    facts = _case_facts(schema_of(card), made.result, made.noise)
    return facts if out is None else facts | {"files": write_maps(made.result, out)}


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


def cohort_facts(card: Card, scenario: Scenario, made: CohortWhatIf, out: Path | None) -> Facts:
    """Return the facts of a scenario for a cohort; its rows are written to `out`/whatif.csv."""
    facts: Facts = {
        "scenario": scenario.name,
        "changes": dict(scenario.changes),
        "cases": [_row(row) for row in made.rows],
        "failed": [row.case for row in made.rows if row.failed],
        "without a slide": made.without_slide,
    }
    return facts if out is None else facts | {"file": str(_write_rows(card, made.rows, out))}


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
