"""PersAM against picture and record alone, and what an edit of the deciding fields does.

Two worlds. "planted": features drawn at random, 40 % of the slides with lesions 0 and 1 side by
side, and three of the record's 28 numbers decide; no figure of these worlds was looked at before.
"painted": the cohort that the shipped models learned from (500 patients, of 60 % the record
decides; a tenth lacks the blood group, where nothing can decide), encoded by the built-in encoder.
Settings are those of `recipes.py`; those of the painted cohort's validation patients had a part
in choosing them, its test patients none.

`folds` and `painted_folds` are one fold of five each: every patient is tested once, and the run's
number is the fold. `persam-live`, "picture alone" (ABMIL) and "record alone" (a perceptron of the
record's tokens) are trained with the same settings; in the planted world `persam` too.

`edits` has a world of its own for each seed, 300 patients to train on and 100 held out;
`painted_edits` first weights of their own, and the manifest's split. The record of each held-out
slide is moved along the deciding weights until it points clearly to lesion 1, then to 0. "hit" is
the share of ambiguous slides where Σ a' on lesion 0 / Σ a' on lesions 0 and 1 goes from below .3
to above .7; "follows" how often the class is the lesion pointed to. Of clear slides, whose
picture decides, "holds" is how often the prediction under an edited record is that under the
slide's own; "moved" is the median total variation of the shares of a' between the two edits.
Painted slides without the blood group are not edited: there is nothing to move.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from _painted import painted
from _personal import Edited, RecordOnly, classified, edited, trained

from napari_wsimil.models import create_model
from napari_wsimil.synthetic.bags_clinical import GROUPS, LESIONS, Records, plant_records
from napari_wsimil.training.config import recipe
from napari_wsimil.training.splits import folds as split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_wsimil.models.base import MILModel
    from napari_wsimil.training.config import FitConfig
    from napari_wsimil.training.splits import Fold

TITLE = "PersAM, picture and record together"
CLAIMS = (
    ("PersAM-live beats the picture alone", "accuracy", "accuracy, picture alone"),
    ("PersAM-live beats the record alone", "accuracy", "accuracy, record alone"),
    ("PersAM beats the picture alone", "accuracy, persam", "accuracy, picture alone"),
    ("PersAM beats the record alone", "accuracy, persam", "accuracy, record alone"),
    ("clear maps move less than half as far", "moved, half of ambiguous", "moved, clear"),
)
FIRST_WORLD = 100  # worlds before it were looked at while recipes were made
FOLDS = 5


def folds(fold: int, quick: bool) -> dict[str, float]:
    """Return how four models do on a fold of a planted cohort."""
    cohort = _planted(FIRST_WORLD, 100 if quick else 300, quick)
    parts = _parts(cohort, _fold(cohort, fold))
    return _compared(parts, GROUPS, quick) | _named("persam", parts, GROUPS, quick)


def painted_folds(fold: int, quick: bool) -> dict[str, float]:
    """Return how three models do on a fold of a painted cohort."""
    cohort = painted(quick)
    chosen = _fold(cohort.cases, fold)
    groups, cases = cohort.tokenized(chosen.train)
    return _compared(_parts(cases, chosen), groups, quick)


def edits(seed: int, quick: bool) -> dict[str, float]:
    """Return what edits do in a planted world of the seed's own."""
    world = FIRST_WORLD + 100 + seed
    train = _planted(world, 300, quick)
    test = _planted(world, 40 if quick else 100, quick, drawn=1)
    model = trained(_model("persam-live", train, GROUPS, seed), train, (), _config(quick, seed))
    return classified(model, test) | edited(model, test)


def painted_edits(seed: int, quick: bool) -> dict[str, float]:
    """Return what edits do on the test patients of a painted cohort, for a seed's weights."""
    cohort = painted(quick)
    groups, cases = cohort.tokenized(cohort.split.train)
    train, validation, test = _parts(cases, cohort.split)
    model = _model("persam-live", train, groups, seed)
    trained(model, train, validation, _config(quick, seed))
    return classified(model, test) | edited(model, [one for one in test if one.editable])


def _compared(parts: tuple[Sequence[Edited], ...], groups: str, quick: bool) -> dict[str, float]:
    """Return the figures of PersAM-live, and those of picture and record alone by name."""
    return {
        **_named("persam-live", parts, groups, quick),
        **_named("picture alone", parts, groups, quick),
        **_named("record alone", parts, groups, quick),
    }


def _named(
    title: str, parts: tuple[Sequence[Edited], ...], groups: str, quick: bool
) -> dict[str, float]:
    train, validation, test = parts
    model = _model(title, train, groups, 0)
    found = classified(trained(model, train, validation, _config(quick, 0, title)), test)
    return found if title == "persam-live" else {f"{k}, {title}": v for k, v in found.items()}


def _model(name: str, train: Sequence[Edited], groups: str, seed: int) -> MILModel:
    torch.manual_seed(seed)
    shape = {"feature_dim": train[0].bag.features.shape[1], "classes": LESIONS}
    if name == "record alone":
        return RecordOnly(**shape, groups=groups)
    if name == "picture alone":
        return create_model("abmil", **shape, width=64, attention_dim=64)
    return create_model(name, **shape, groups=groups)


def _config(quick: bool, seed: int, name: str = "persam-live") -> FitConfig:
    config = replace(recipe("persam" if name == "persam" else "persam-live"), seed=seed)
    return replace(config, epochs=6, accumulate=4, lr=2e-3) if quick else config


def _planted(world: int, count: int, quick: bool, drawn: int = 0) -> tuple[Edited, ...]:
    records = Records(world=world)
    if quick:
        records = replace(
            records, patches=(60, 100), dim=32, spread=0.8, share=(0.05, 0.1), signal=3.0
        )
    return plant_records(records, count, 1000 * (1 + drawn) + world)


def _fold(cases: Sequence[Edited], fold: int) -> Fold:
    return split({one.case.patient: one.case.label for one in cases}, FOLDS)[fold]


def _parts(cases: Sequence[Edited], chosen: Fold) -> tuple[Sequence[Edited], ...]:
    by_name = {one.case.patient: one for one in cases}
    return tuple(
        [by_name[name] for name in names]
        for names in (chosen.train, chosen.validation, chosen.test)
    )
