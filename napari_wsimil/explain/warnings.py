"""Warnings of a prediction: mismatches with the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsimil.features.bag_facts import statistics_of

if TYPE_CHECKING:
    from napari_wsimil.clinical.schema import Record
    from napari_wsimil.features.bag import Bag
    from napari_wsimil.models.card import Card

#: Patches from which feature statistics are computed, since predictions may follow each other fast.
SAMPLED = 512


def prediction_warnings(card: Card, bag: Bag, record: Record | None) -> tuple[str, ...]:
    """Return the card's warnings, and those on a bag and a record."""
    return (*card.warnings, *_warnings(card, bag), *_record_warnings(card, record))


def _warnings(card: Card, bag: Bag) -> list[str]:
    warnings = []
    if card.synthetic and not bag.synthetic:
        warnings.append("model trained on synthetic slides: result not meaningful on real slides")
    if bag.synthetic and not card.synthetic:
        warnings.append("model trained on real slides: result not meaningful on synthetic slides")
    if card.record is not None and (bag.clinical is None or not bag.clinical.present.any()):
        warnings.append("the model uses a clinical record, but all its fields are missing here")
    return [
        *warnings,
        *_reading_warnings(card, bag),
        *_scale_warnings(card, bag),
        *_feature_warnings(card, bag),
    ]


def _reading_warnings(card: Card, bag: Bag) -> list[str]:
    """Return warnings on pixels that another reader version reads differently.

    The features are compared with features extracted now, and with the training features.
    """
    caveat = bag.reading.caveat
    kinds = [kind for version in card.readers for kind in bag.reading.changed(version) or ()]
    if not kinds:
        return [caveat] if caveat else []
    names = " and ".join(sorted(set(kinds)))
    return [
        *([caveat] if caveat else []),
        f"another reader version made the training features, and reads the {names} of this slide "
        "differently: train the model again on features extracted now",
    ]


def _record_warnings(card: Card, record: Record | None) -> list[str]:
    if card.record is None or record is None:
        return []
    return [card.record.remark(name, record[name]) for name in card.record.unseen(record)]


def _scale_warnings(card: Card, bag: Bag) -> list[str]:
    if bag.grid is None or bag.grid.made_up or card.mpp is None:
        return []
    warnings = []
    if bag.grid.mpp is None:
        warnings.append(f"the slide's µm per pixel is unknown; the model learned at {card.mpp:g}")
    elif not card.admits_mpp(bag.grid.mpp):
        warnings.append(
            f"patches have {bag.grid.mpp:g} µm per pixel; the model learned at {card.mpp:g}"
        )
    if card.pixels is not None and not card.admits_pixels(bag.grid.pixels):
        warnings.append(
            f"patches are {bag.grid.pixels} pixels wide; the model learned on {card.pixels}"
        )
    return warnings


def _feature_warnings(card: Card, bag: Bag) -> tuple[str, ...]:
    """Return warnings on features unlike the card's training features."""
    if card.features is None or not len(bag):
        return ()
    return card.features.remarks(*statistics_of(bag.features, SAMPLED), len(bag))
