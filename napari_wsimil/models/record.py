"""RecordFormat: how a patient's record becomes what a model sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from pydantic import BaseModel, ConfigDict

from napari_wsimil.bags.bag import ClinicalTokens
from napari_wsimil.study.schema import ClinicalSchema  # noqa: TC001  # pydantic reads it
from napari_wsimil.study.tables import RecordError
from napari_wsimil.study.tokens import Moments, channels, encode, fit_statistics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_wsimil.study.field import Field
    from napari_wsimil.study.schema import Record


class RecordFormat(BaseModel):
    """The schema of the records a model learned from, and their statistics.

    Attributes
    ----------
    clinical
        The schema; the model sees its inputs.
    statistics
        "mean" and "sd" of each numeric input over the training records.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clinical: ClinicalSchema
    statistics: dict[str, dict[str, float]]

    @classmethod
    def fit(cls, schema: ClinicalSchema, records: Iterable[Record]) -> Self:
        """Return the format of a schema with the statistics of training records.

        Raises
        ------
        RecordError
            If the schema names no field as an input.
        """
        if not schema.inputs:
            raise RecordError(
                f"schema {schema.name}: no field is an input: name those a model may see in inputs"
            )
        found = fit_statistics(schema, records)
        statistics = {name: {"mean": m["mean"], "sd": m["sd"]} for name, m in found.items()}
        return cls(clinical=schema, statistics=statistics)

    @property
    def groups(self) -> str:
        """The widths of the groups' tokens, as models take them: such as "18,10"."""
        return ",".join(str(len(names)) for names in channels(self.clinical).values())

    def tokens(self, record: Record | None) -> ClinicalTokens:
        """Return the tokens of a record; all groups are missing where there is none."""
        known = self.clinical.parse({}) if record is None else record
        statistics = {n: Moments(mean=m["mean"], sd=m["sd"]) for n, m in self.statistics.items()}
        tokens = encode(self.clinical, known, statistics)
        return ClinicalTokens(
            tuple(torch.from_numpy(value) for value in tokens.values),
            torch.from_numpy(tokens.present),
        )

    def check(self, schema: ClinicalSchema | None) -> None:
        """Raise RecordError, naming fields, unless a schema has this one's inputs alike."""
        theirs = {field.name: field for field in schema.fields} if schema else {}
        ours = [f for group in self.clinical.groups for f in self.clinical.inputs_of(group)]
        lacking = [f.name for f in ours if f.name not in theirs]
        other = [f.name for f in ours if f.name in theirs and not _alike(f, theirs[f.name])]
        said = (("without ", lacking), ("with another ", other))
        if lacking or other:
            raise RecordError(
                f"these records are of another schema than the model's, {self.clinical.name}: "
                + ", ".join(words + ", ".join(names) for words, names in said if names)
            )


def _alike(one: Field, other: Field) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("kind", "unit", "values"))
