"""Study words: what a study holds, and what came of an import, in a few words."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from napari_wsimil.cohort.time_to_event import NOT_NAMED, tally_of, tally_words

if TYPE_CHECKING:
    from napari_wsimil.cohort.manifest import Manifest
    from napari_wsimil.study.add_patients import Added
    from napari_wsimil.study.backups import Backup
    from napari_wsimil.study.create_study import Study
    from napari_wsimil.study.restore import Restored

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
    counts = tally_of(manifest.patients, by_slide=by_slide)
    if not counts.known and not (counts.patients and counts.patients.known):
        return []
    endpoint = html.escape(str(manifest.endpoint))
    return [f"outcome: {endpoint}", *map(html.escape, tally_words(counts))]


def added_words(added: Added) -> str:
    """Return how many patients came in, and the first of those that were passed over."""
    counts = {"new": added.new, "completed": added.completed, "there already": added.same}
    said = [f"{len(some):,} {word}" for word, some in counts.items() if some]
    words = f"Patients: {', '.join(said) or 'none'}."
    if added.outcomes and (added.outcomes.known or set(added.outcomes.without) != {NOT_NAMED}):
        words += "".join(f"<br>{html.escape(line)}." for line in tally_words(added.outcomes))
    if added.conflicts:
        first = "<br>".join(html.escape(said, quote=False) for said in added.conflicts[:_SHOWN])
        words += f"<br><b>{len(added.conflicts):,} were passed over:</b><br>{first}"
    return words


def restored_message(restored: Restored) -> str:
    """Return the restored backup, and where the replaced database is."""
    message = f"Restored the backup of {backup_label(restored.backup)}."
    if restored.replaced is not None:
        replaced = html.escape(restored.replaced.name, quote=False)
        message += f"<br>The replaced database is kept as backups/{replaced}."
    return message


def backup_label(backup: Backup) -> str:
    """Return time and reason of a backup, such as "2026-01-31 14:22:05 UTC (import)"."""
    return f"{backup.when:%Y-%m-%d %H:%M:%S} UTC ({backup.reason})"
