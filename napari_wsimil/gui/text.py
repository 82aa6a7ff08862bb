"""Words: what the window says of a map, beside it and of the patch under the cursor."""

from __future__ import annotations

import html
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_wsimil.cohort.endpoint import NOT_NAMED, outcome_sentences
from napari_wsimil.cohort.manifest import count_outcomes
from napari_wsimil.explain.color_scale import scaled
from napari_wsimil.explain.statistics import place_of
from napari_wsimil.gui.names import NAMES, unnamed
from napari_wsimil.models.base import ExplanationKind
from napari_wsimil.slides.placeholder import is_blank

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.explain.color_scale import Scale
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.features.matching import Mismatch
    from napari_wsimil.gui.view_state import Display
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.slides.slide import Slide
    from napari_wsimil.study.add_patients import Added
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.workflows.link_features import Found

#: Letters in a line of the words on the canvas, to leave room for the color bar.
_LINE = 46

#: End of the unit of a map's change over an edit.
_CHANGE = " (after − before)"

_NO_SLIDE = "NO SLIDE: patches on a blank grid"

_MADE_UP = "NOT PLACES: the features have none; patches lie row by row, in the order of their file"


def caption(
    slide: Slide | None, prediction: Prediction | None, display: Display, stale: str = ""
) -> str:
    """Return what a map's colors measure, what they do not, and what to beware of."""
    words = ["SYNTHETIC"] if slide is not None and slide.synthetic else []
    words += [_NO_SLIDE] if slide is not None and is_blank(slide) else []
    if prediction is not None:
        scale = scaled(prediction, display.map_index, display.stretch)
        smooth = ", smoothed for the eye" if display.smooth else ""
        words += [f"OUT OF DATE: {stale}"] if stale else []
        words += [f"{_heading(scale)}{smooth}", scale.caveat]
        words += [*_clear(scale, display), *_piled(prediction), *prediction.warnings]
    return "\n".join(line for word in words for line in textwrap.wrap(word, _LINE))


def _heading(scale: Scale) -> str:
    """Return a map's title and unit; of a difference over an edit, its quantity first."""
    unit = scale.unit.removesuffix(_CHANGE)
    if unit == scale.unit or ", moved" not in scale.title:
        return f"{scale.title}, {scale.unit}"
    quantity = "Change" if unit.startswith("signed") else "Attention change"
    return f"{quantity}{_CHANGE}, {unit}: {scale.title.replace(', moved', '', 1)}"


def _clear(scale: Scale, display: Display) -> list[str]:
    """Return what a patch without a color is."""
    low = f"clear: below {display.threshold:.0%} of the color bar" if display.threshold else ""
    absent = f"clear: {scale.absent}" if np.isnan(scale.values).any() else ""
    return [low, absent]


def _piled(prediction: Prediction) -> list[str]:
    grid = prediction.bag.grid
    if grid is not None and grid.made_up:
        return [_MADE_UP]
    piled = grid is not None and grid.stride < grid.patch_size
    return ["patches overlap: a color is their mean"] if piled else []


def numbered(patch: int, patches: int) -> str:
    """Return the number of a patch, the first being 1."""
    return f"patch {patch + 1} of {patches}"


def value_words(scale: Scale, patch: int, place: int) -> str:
    """Return value and rank of a patch in one map."""
    value = scale.values[patch]
    if np.isnan(value):
        return f"{scale.title}: {scale.absent}"
    unit = f"({scale.unit})" if scale.unit[:1].isdigit() else scale.unit
    return f"{scale.title}: {value:.3g} {unit} · rank {place}"


def unseen(prediction: Prediction, shown: Explanation, patch: int) -> list[str]:
    """Return the note on a patch that a step-by-step model did not look at."""
    orders = [one for one in prediction.explanations if one.kind is ExplanationKind.ORDER]
    if not orders or shown.kind is ExplanationKind.ORDER:
        return []
    return [orders[-1].absent] if bool(orders[-1].per_patch()[patch].isnan()) else []


def values_of(prediction: Prediction, display: Display, patch: int) -> str:
    """Return what is known of a patch as rich text: its place, its value in each map, its rank.

    The shown map is marked, and has its unit.
    """
    shown = prediction.explanations[display.map_index]
    lines = [f"<b>patch {patch + 1}</b> of {len(prediction.bag)}", *_place(prediction, patch)]
    lines += unseen(prediction, shown, patch)
    rows = (_row(prediction, display, patch, i) for i in range(len(prediction.explanations)))
    return f"{'<br>'.join(lines)}<table cellspacing=2>{''.join(rows)}</table>"


def _row(prediction: Prediction, display: Display, patch: int, number: int) -> str:
    scale = scaled(prediction, number, display.stretch)
    value, title = scale.values[patch], html.escape(scale.title)
    marked = number == display.map_index
    if marked:
        title = f"{title} ({html.escape(scale.unit)})"
    if np.isnan(value):
        return f"<tr><td>{title}</td><td align=right>{scale.absent}</td><td></td></tr>"
    rank = place_of(prediction.explanations[number], patch)
    cells = f"<td>{title}</td><td align=right>{value:.3g}</td><td>&nbsp;rank {rank}</td>"
    return f"<tr>{cells.replace('<td', '<td style=font-weight:bold') if marked else cells}</tr>"


def _place(prediction: Prediction, patch: int) -> list[str]:
    grid = prediction.bag.grid
    if grid is None:
        return []
    if grid.made_up:
        return ["its place is not known"]
    x, y = grid.coords[patch].tolist()
    if grid.mpp is None:
        return [f"at {x:,}, {y:,} px"]
    um = grid.mpp * grid.pixels / grid.patch_size
    return [f"at {x * um:,.0f}, {y * um:,.0f} µm, {grid.patch_size * um:.0f} µm wide"]


_SHOWN = 4


def study_facts(study: Study, manifest: Manifest) -> str:
    """Return name, counts, and why it is read-only if it is."""
    slides = sum(len(patient.slides) for patient in manifest.patients)
    fields = 0 if manifest.schema is None else len(manifest.schema.fields)
    counts = f"{len(manifest.patients):,} patients · {slides:,} slides · {fields:,} fields"
    lines = [f"<b>{html.escape(study.name)}</b>, predicted by {study.unit}", counts]
    lines += _outcomes(manifest, by_slide=study.unit == "slide")
    if study.read_only:
        lines.append(f"<b>Read-only</b>: {html.escape(study.read_only, quote=False)}")
    return "<br>".join(lines)


def _outcomes(manifest: Manifest, *, by_slide: bool) -> list[str]:
    """Return endpoint and counts of outcomes, nothing where a study has no times."""
    counts = count_outcomes(manifest.patients, by_slide=by_slide)
    if not counts.known and not (counts.patients and counts.patients.known):
        return []
    endpoint = html.escape(str(manifest.endpoint))
    return [f"outcome: {endpoint}", *map(html.escape, outcome_sentences(counts))]


def added_words(added: Added) -> str:
    """Return how many patients came in, and the first of those that were passed over."""
    counts = {"new": added.new, "completed": added.completed, "there already": added.same}
    said = [f"{len(some):,} {word}" for word, some in counts.items() if some]
    words = f"Patients: {', '.join(said) or 'none'}."
    if added.outcomes and (added.outcomes.known or set(added.outcomes.without) != {NOT_NAMED}):
        words += "".join(f"<br>{html.escape(line)}." for line in outcome_sentences(added.outcomes))
    if added.conflicts:
        first = "<br>".join(html.escape(said, quote=False) for said in added.conflicts[:_SHOWN])
        words += f"<br><b>{len(added.conflicts):,} were passed over:</b><br>{first}"
    return words


def passport_rows(found: Found) -> list[tuple[str, str, str, str]]:
    """Return slide, verdict, encoder and what is to be known of each file, in words."""
    rows = []
    for match in found.survey.matches:
        shown = match.passport
        asked = [question.text for question in shown.questions if question.needed]
        checks = [f"{c.name} {c.verdict}: {c.sentence}" for c in shown.checks]
        size = "" if shown.patch_size is None else f", patches of {shown.patch_size:g} px"
        what = f"{shown.tool}: {shown.patches:,} × {shown.dim}{size}"
        encoder = shown.encoder or "unnamed"
        encoder += "" if shown.verified else " (unverified)"
        said = "\n".join([what, *asked, *checks, *shown.notes])
        rows.append((match.slide, shown.verdict.value, encoder, said))
    return rows


def mismatch_lines(found: Found) -> list[str]:
    """Return a line for each file and slide that does not fit, without hidden file names."""
    mismatches = found.survey.mismatches
    if NAMES.shown or not any(Path(one.what).suffix for one in mismatches):
        return [f"{one.what}: {one.why}" for one in mismatches]
    hint = "Check Show file names in the Slide dock, then link again, to see which files these are."
    return [*(_unnamed(one, found.folder) for one in mismatches), hint]


def _unnamed(mismatch: Mismatch, folder: Path) -> str:
    path = folder / mismatch.what
    if not path.suffix:  # a slide, which has a pseudonym
        return f"{mismatch.what}: {mismatch.why}"
    reason = unnamed(mismatch.why, {path}).removeprefix("The file: ")
    return f"{NAMES.of(path)}: {reason}"
