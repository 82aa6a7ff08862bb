"""Plans of imports, in one call each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_wsimil.cohort.table_import.stages import apply_answers, infer
from napari_wsimil.study.import_table import infer_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_wsimil.cohort.table import TextTable
    from napari_wsimil.cohort.table_import.plan import ImportPlan
    from napari_wsimil.study.create_study import Study


def plan_import(
    table: TextTable, answers: Mapping[str, str] | None = None, **known: Any
) -> ImportPlan:
    """Return the plan of a table under some answers."""
    return apply_answers(infer(table, **known), answers)


def plan_for(
    study: Study, path: Path | str, answers: Mapping[str, str] | None = None, **known: Any
) -> ImportPlan:
    """Return the plan of a table for a study under some answers."""
    return apply_answers(infer_table(study, path, **known), answers)


def add_answers(plan: ImportPlan, answers: Mapping[str, str]) -> ImportPlan:
    """Return the plan with further answers."""
    return apply_answers(plan.inferred, {**plan.answers, **answers})


def replace_answers(plan: ImportPlan, answers: Mapping[str, str]) -> ImportPlan:
    """Return the plan with these answers alone, without those that do not fit."""
    return apply_answers(plan.inferred, answers, strict=False)
