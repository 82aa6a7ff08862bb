"""SASHA: sequential looks at a few patches (NeurIPS 2025), and HAFED, which it rests on."""

from napari_wsimil.models.sasha.hafed import HAFED
from napari_wsimil.models.sasha.model import SASHA

__all__ = ["HAFED", "SASHA"]
