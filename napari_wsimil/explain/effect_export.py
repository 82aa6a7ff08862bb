"""Export of curves of effect: as a table or as a picture.

Like the exports of maps they name no slide, file or patient, say "synthetic" of phantoms and
repeat the warnings of the prediction.
"""

from __future__ import annotations

import csv
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from napari_wsimil.explain.effect import Curves, Series

ENDINGS = (".csv", ".png")
#: Letters in a line of the words below a picture.
_LINE = 110
#: What the share on the axis of each curve is of.
_CURVES = {"deletion": "share of the patches taken away", "insertion": "share of the patches shown"}


def export_curves(curves: Curves, path: Path | str) -> Path:
    """Return the path of the written export, a table (.csv) or a picture (.png).

    Raises
    ------
    ValueError
        If the ending is neither.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    check_ending(path)
    if path.suffix.lower() == ".csv":
        _write_csv(curves, path)
    else:
        figure(curves).savefig(path, dpi=150)
    return path


def check_ending(path: Path | str) -> None:
    """Raise ValueError unless curves can be written to a file of this name."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path.name}: curves are exported as one of {', '.join(ENDINGS)}")


def figure(curves: Curves) -> Figure:
    """Return a figure of both curves, that of the ranking beside random orders.

    The axis of shares is logarithmic from the smallest one on: what matters is few
    patches. A band spans the random orders, a line their mean.
    """
    made = Figure(figsize=(10, 4.8), layout="constrained")
    for axes, name in zip(made.subplots(1, 2, sharey=True), _CURVES, strict=True):
        _draw(axes, curves, name)
    stamp = "synthetic slide, " if curves.prediction.bag.synthetic else ""
    made.suptitle(f"{stamp}{curves.prediction.card.model}: by {curves.title}")
    lines = [line for note in curves.prediction.warnings for line in textwrap.wrap(note, _LINE)]
    if lines:
        made.supxlabel("\n".join(lines), fontsize="small")
    return made


def _draw(axes: Axes, curves: Curves, name: str) -> None:
    series: Series = getattr(curves, name)
    share = series.patches / len(curves.prediction.bag)
    axes.fill_between(share, *series.range, color="0.85", label="random orders")
    axes.plot(share, series.mean, color="0.5", label=f"their mean, area {series.random_area:.3f}")
    label = f"{curves.title}, area {series.area:.3f}"
    axes.plot(share, series.probability, color="C0", marker="o", markersize=3, label=label)
    axes.set_xscale("symlog", linthresh=share[share > 0].min())
    axes.set(title=name, xlabel=_CURVES[name], ylim=(-0.02, 1.02))
    axes.set_ylabel(f"probability: {curves.outcome}")
    axes.legend(fontsize="small")


def _write_csv(curves: Curves, path: Path) -> None:
    said = [int(curves.prediction.bag.synthetic), "; ".join(curves.prediction.warnings)]
    header = ["curve", "patches", "share", "probability", "random mean", "random lowest"]
    told = ["random highest", "outcome", "map", "synthetic", "warnings"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *told])
        for name in _CURVES:
            for row in _rows(getattr(curves, name), len(curves.prediction.bag)):
                writer.writerow([name, *row, curves.outcome, curves.title, *said])


def _rows(series: Series, patches: int) -> Iterator[tuple[float, ...]]:
    low, high = series.range
    columns = (series.patches, series.patches / patches, series.probability, series.mean, low, high)
    yield from zip(*(column.tolist() for column in columns), strict=True)
