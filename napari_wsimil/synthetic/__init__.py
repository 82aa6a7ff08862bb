"""Synthetic H&E-like slides, cohorts and bags with known ground truth.

A synthetic slide is a TIFF file painted from a recipe: tissue, glands, lymphocytes, folds and
lesions of three kinds. A synthetic cohort adds patients with clinical records, labels and
outcomes. The exact outline of every lesion is stored beside its slide, so that a map can be
compared with the truth. Example: `SlideRecipe(seed=1, lesions={"A": 0.06})` gives a slide with
lesion A on 6 % of its tissue, identical on every machine.

Synthetic bags skip the pixels: their features are random vectors around known means. They
train a model in seconds and test whether it detects a lesion that is really there.

Synthetic data are never patients. Files and bags are marked as synthetic.
"""

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
