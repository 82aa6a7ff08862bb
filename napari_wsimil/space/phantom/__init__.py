"""Phantoms: synthetic H&E-like slides and cohorts with known truth, by recipe."""

from napari_wsimil.space.phantom.cohort import CohortRecipe, load_recipe, write_cohort
from napari_wsimil.space.phantom.recipe import KINDS, SlideRecipe
from napari_wsimil.space.phantom.record import VARIABLES, Variable, leaning
from napari_wsimil.space.phantom.slide import Phantom, write_phantom
from napari_wsimil.space.phantom.truth import (
    Truth,
    load_truth,
    patch_truth,
    save_truth,
)

__all__ = [
    "KINDS",
    "VARIABLES",
    "CohortRecipe",
    "Phantom",
    "SlideRecipe",
    "Truth",
    "Variable",
    "leaning",
    "load_recipe",
    "load_truth",
    "patch_truth",
    "save_truth",
    "write_cohort",
    "write_phantom",
]
