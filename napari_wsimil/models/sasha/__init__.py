"""SASHA: sequential reading of few patches (NeurIPS 2025), and HAFED."""

from napari_wsimil.models.sasha.hafed import HAFED
from napari_wsimil.models.sasha.model import SASHA

__all__ = ["HAFED", "SASHA"]
