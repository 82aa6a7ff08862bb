"""Phantoms: synthetic H&E-like slides and cohorts with known truth, by recipe."""

from napari_wsimil.synthetic.clinical import VARIABLES, Variable, leaning
from napari_wsimil.synthetic.cohort import CohortRecipe, load_recipe, write_cohort
from napari_wsimil.synthetic.ground_truth import Truth, load_truth, patch_truth, save_truth
from napari_wsimil.synthetic.recipe import KINDS, SlideRecipe
from napari_wsimil.synthetic.slide import Phantom, write_phantom

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
