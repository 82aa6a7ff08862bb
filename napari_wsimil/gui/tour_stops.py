"""Stops of the tour: the views of each method, and how one comes there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_wsimil.gui import tour_actions as ways

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_wsimil.gui.window import Window


@dataclass(frozen=True)
class Stop:
    """A view: how one comes there from a model's prediction, and what is to be seen.

    Attributes
    ----------
    name
        Of the picture's file.
    method
        Whose model has been asked.
    caption
        What the picture shows.
    arrange
        Clicks what a person would.
    layers
        Names of layers that must be there.
    """

    name: str
    method: str
    caption: str
    arrange: Callable[[Window], None]
    layers: tuple[str, ...]


STOPS: tuple[Stop, ...] = (
    Stop(
        "acmil",
        "acmil",
        "ACMIL: the mean attention of its branches, in times of equal attention. Hatched tissue "
        "was not looked at. This slide has lesions of both kinds, so that only the patient's "
        "record tells its class: models of the picture alone must guess here.",
        ways.nothing,
        ("attention", "not looked at"),
    ),
    Stop(
        "patch",
        "acmil",
        "A click tells a patch's picture, and its value and rank in every map.",
        ways.click,
        ("attention", "picked"),
    ),
    Stop(
        "close",
        "acmil",
        "Close up patches are outlines in the colors of the map.",
        ways.close,
        ("attention (outlines)",),
    ),
    Stop(
        "branches",
        "acmil",
        "ACMIL's branches side by side, where they disagree, and on how many patches each lies.",
        ways.branches,
        ("disagreement",),
    ),
    Stop(
        "evidence",
        "acmil",
        "Evidence for (orange) and against (purple) a class; it sums to the model's logit.",
        ways.evidence,
        (),
    ),
    Stop(
        "effect",
        "acmil",
        "Attention or effect? The prediction without the first patches, and as ever more of "
        "them are left out or are all there is, beside as many at random.",
        ways.effect,
        ("attention", "left out"),
    ),
    Stop(
        "train",
        "acmil",
        "Training, here on parts of the demo's slide with and without what a model ranks first: "
        "losses, metrics, and the map of the open slide after each epoch.",
        ways.train,
        ("attention",),
    ),
    Stop(
        "querent",
        "querent",
        "Querent: where one patch looks. The regions that it chose are outlined.",
        ways.query,
        ("attention of the query", "chosen by the query"),
    ),
    Stop(
        "regions",
        "querent",
        "How important Querent thought each region for that patch, before it looked.",
        ways.query_map("region score"),
        ("region score", "chosen by the query"),
    ),
    Stop(
        "chosen",
        "querent",
        "How often each region is chosen by all patches of the slide.",
        ways.show("chosen by"),
        ("chosen by",),
    ),
    Stop(
        "sasha",
        "sasha",
        "SASHA: the path of its looks, in the middle of an episode, and what it has cost.",
        ways.steps,
        ("order so far", "path of looks"),
    ),
    Stop(
        "subpatches",
        "sasha",
        "Attention inside the patches that SASHA read finely.",
        ways.sub_patches,
        ("inside looks, × uniform within the patch",),
    ),
    Stop(
        "longmil",
        "longmil",
        "LongMIL: attention that patches receive from the whole slide.",
        ways.show("attention received"),
        ("attention received",),
    ),
    Stop(
        "neighborhood",
        "longmil",
        "The neighborhood that a clicked patch attends to, with its radius in microns.",
        ways.query,
        ("neighborhood", "picked"),
    ),
    Stop(
        "vib",
        "vib",
        "VIB: the probability that a patch passes the bottleneck; those kept are outlined.",
        ways.nothing,
        ("selection", "kept"),
    ),
    Stop(
        "kept",
        "vib",
        "VIB's attention among the kept patches; the others were dropped.",
        ways.show("attention"),
        ("attention", "kept"),
    ),
    Stop(
        "persam",
        "persam-live",
        "PersAM-live: where this patient's record makes it look, and its explanatory attention "
        "for each class, which is absolute and here far below 1.",
        ways.families("explanatory", "attention"),
        ("attention",),
    ),
    Stop(
        "exploratory",
        "persam-live",
        "Where PersAM-live would look for this record, whatever the class.",
        ways.show("exploratory"),
        ("exploratory",),
    ),
    Stop(
        "record",
        "persam-live",
        "The record dock: of all fields the one that changes this answer most is set to another "
        "value, and the map tells where attention moved.",
        ways.edit,
        ("explanatory, moved",),
    ),
    Stop(
        "values",
        "persam-live",
        "The attention for each value of that field, and without it.",
        ways.values,
        ("attention",),
    ),
    Stop(
        "bd",
        "bd",
        "BD: attention with the record less attention without it, and both branches.",
        ways.families("branch", "attention difference"),
        ("attention difference",),
    ),
)
