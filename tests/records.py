"""A small ward of records, and models that read them, shared by the tests of what-if."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_wsimil.clinical.field import Field, Kind
from napari_wsimil.clinical.schema import ClinicalSchema, validated
from napari_wsimil.features.bag import Bag
from napari_wsimil.models import create_model
from napari_wsimil.models.card import Card
from napari_wsimil.models.record_encoder import RecordFormat
from napari_wsimil.slides.patch_grid import PatchGrid

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.models import MILModel

D = 6
CLASSES = ("A", "B")
WARD = ClinicalSchema(
    name="ward",
    fields=(
        Field(name="age", kind=Kind.NUMBER, group="interview", unit="years", hard=(0, 120)),
        Field(name="smoker", kind=Kind.BOOLEAN, group="interview"),
        Field(name="site", kind=Kind.CATEGORY, group="interview", values=("neck", "groin")),
        Field(name="stage", kind=Kind.ORDINAL, group="blood", values=("I", "II", "III")),
        Field(name="ldh", kind=Kind.NUMBER, group="blood", unit="U/L"),
        Field(name="note", kind=Kind.NUMBER, group="blood"),
        Field(name="lymphocytes", kind=Kind.NUMBER, group="blood"),
        Field(name="leukocytes", kind=Kind.NUMBER, group="blood"),
    ),
    inputs=("age", "smoker", "site", "stage", "ldh", "lymphocytes", "leukocytes"),
    rules=("lymphocytes <= leukocytes",),
)


def with_inputs(
    schema: ClinicalSchema, names: tuple[str, ...], forced: tuple[str, ...] = ()
) -> ClinicalSchema:
    """Return the schema with these fields as the inputs of a model."""
    return validated(schema.model_dump() | {"inputs": names, "forced": forced}, schema.name)


def make_cohort(count: int = 40) -> tuple[Record, ...]:
    """Return records of a ward: ages 40 to 79, LDH 200 to 590, nobody of stage III."""
    return tuple(
        WARD.parse(
            {
                "age": str(40 + k),
                "smoker": ("yes", "no", "unknown")[k % 3],
                "site": ("neck", "groin")[k % 2],
                "stage": ("I", "II")[k % 2],
                "ldh": str(200 + 10 * k),
                "lymphocytes": str(1 + 0.1 * k),
                "leukocytes": str(3 + 0.1 * k),
            }
        )
        for k in range(count)
    )


def make_reader(name: str = "persam-live", **shape: int | float | str) -> tuple[MILModel, Card]:
    """Return a model with weights at random that reads the ward's records, and its card."""
    record = RecordFormat.fit(WARD, make_cohort())
    torch.manual_seed(0)
    shape = {"width": 16, **shape}
    model = create_model(name, feature_dim=D, classes=2, groups=record.groups, **shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    card = Card(
        model=name,
        config=model.config,
        encoder="ink",
        encoder_dim=D,
        mpp=0.5,
        pixels=224,
        classes=CLASSES,
        record=record,
        data="made up",
        synthetic=True,
        seed=0,
        threads=1,
        versions={},
        created="2026-01-01",
    )
    return model.eval(), card


def make_slide(n: int = 150, seed: int = 1) -> Bag:
    """Return the bag of a synthetic slide, without a record."""
    rows, columns = np.divmod(np.arange(n), 20)
    coords = np.stack([columns, rows], axis=1).astype(np.int64) * 448
    grid = PatchGrid(coords, patch_size=448, stride=448, pixels=224, mpp=0.5)
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    return Bag(x, encoder="ink", grid=grid, synthetic=True)
