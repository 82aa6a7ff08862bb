"""Unfinished: the best weights so far, safe on disk while a model is still trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_wsimil.learning.checkpoint import SUFFIX, save_checkpoint
from napari_wsimil.learning.gaps import gaps
from napari_wsimil.learning.outcomes import Task

if TYPE_CHECKING:
    from pathlib import Path

    from napari_wsimil.learning.fit import Epoch
    from napari_wsimil.models.base import MILModel
    from napari_wsimil.models.card import Card
    from napari_wsimil.models.losses import Survival


class Unfinished:
    """A checkpoint beside the one that will be, for a training that may not come to its end.

    Parameters
    ----------
    target
        Where the finished checkpoint will be; what is there stays until then.
    model
        What is trained.
    card
        Of the model, as far as it is known before training.
    unit
        What cases are: "patients" or "slides".

    Attributes
    ----------
    path
        NAME.unfinished.safetensors.
    epoch
        Whose weights lie there; None before the first.
    """

    def __init__(self, target: Path, model: MILModel, card: Card, unit: str = "patients") -> None:
        self.path = target.with_name(f"{target.stem}.unfinished{SUFFIX}")
        self.epoch: Epoch | None = None
        self._model, self._card, self._unit = model, card, unit

    def keep(self, epoch: Epoch, survival: Survival | None) -> None:
        """Write the weights of an epoch in place of those before; the card says of which.

        Raises
        ------
        CheckpointError
            If they cannot be written; those before then stay as they were.
        """
        told = f"{self._card.data}; {title(epoch)}, training not finished"
        metrics = {f"validation {name}": value for name, value in epoch.validation.items()}
        missing = [name for name, value in metrics.items() if math.isnan(value)]
        chosen = {"validation": self._card.parts.get("validation", {})}
        lacking = gaps(chosen, Task(self._card.task), self._unit)
        why = "; ".join(lacking) or f"no two validation {self._unit} can be compared"
        facts = {
            "data": told,
            "metrics": metrics | dict.fromkeys(missing),
            "reasons": dict.fromkeys(missing, f"not defined: {why}"),
            "survival": survival,
        }
        save_checkpoint(self.path, self._model, self._card.model_copy(update=facts))
        self.epoch = epoch

    def remove(self) -> None:
        """Remove what was kept, if this training kept anything."""
        if self.epoch is not None:
            self.path.unlink(missing_ok=True)
            self.epoch = None


def title(epoch: Epoch) -> str:
    """Return what an epoch is called: "epoch 3 of 40", with its stage where there are several."""
    of = "" if epoch.stage == "fit" else f' of stage "{epoch.stage}"'
    return f"epoch {epoch.number} of {epoch.total}{of}"
