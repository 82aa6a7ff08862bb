"""Export of maps and curves: tables, QuPath tiles, pictures.

Positions are level-0 pixels. No export names slide, file or patient. Results on synthetic
slides are labeled "synthetic", and every export repeats the warnings of its prediction.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import textwrap
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from napari_wsimil.explain.color_scale import Stretch, scaled
from napari_wsimil.slides.raster import rasterize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_wsimil.explain.color_scale import Scale
    from napari_wsimil.explain.occlusion import Curves, Series
    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.slides.patch_grid import PatchGrid

ENDINGS = (".csv", ".png")

#: Characters per line in the notes below a picture.
_CURVE = 110

#: Label of the share axis of each curve.
_CURVES = {"deletion": "share of patches removed", "insertion": "share of patches kept"}


def export_curves(curves: Curves, path: Path | str) -> Path:
    """Write curves as a table (.csv) or picture (.png).

    Returns the path of the file.

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
        _write_occlusion_csv(curves, path)
    else:
        figure(curves).savefig(path, dpi=150)
    return path


def check_ending(path: Path | str) -> None:
    """Raise ValueError unless the file ending suits curves."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"cannot write curves to {path.name}: use one of {', '.join(ENDINGS)}")


def figure(curves: Curves) -> Figure:
    """Draw the deletion and insertion curves with the random orders.

    The axis of shares is logarithmic from the smallest share on, to show the first few patches. A
    band spans the random orders; a line is their mean.
    """
    chart = Figure(figsize=(10, 4.8), layout="constrained")
    for axes, name in zip(chart.subplots(1, 2, sharey=True), _CURVES, strict=True):
        _draw(axes, curves, name)
    stamp = "synthetic slide, " if curves.prediction.bag.synthetic else ""
    chart.suptitle(f"{stamp}{curves.prediction.card.model}: by {curves.title}")
    lines = [line for note in curves.prediction.warnings for line in textwrap.wrap(note, _CURVE)]
    if lines:
        chart.supxlabel("\n".join(lines), fontsize="small")
    return chart


def _draw(axes: Axes, curves: Curves, name: str) -> None:
    series: Series = getattr(curves, name)
    share = series.patches / len(curves.prediction.bag)
    axes.fill_between(share, *series.range, color="0.85", label="random patches")
    axes.plot(share, series.mean, color="0.5", label=f"random mean, area {series.random_area:.3f}")
    label = f"{curves.title}, area {series.area:.3f}"
    axes.plot(share, series.probability, color="C0", marker="o", markersize=3, label=label)
    axes.set_xscale("symlog", linthresh=share[share > 0].min())
    axes.set(title=name, xlabel=_CURVES[name], ylim=(-0.02, 1.02))
    axes.set_ylabel(f"probability: {curves.outcome}")
    axes.legend(fontsize="small")


def _write_occlusion_csv(curves: Curves, path: Path) -> None:
    facts = [int(curves.prediction.bag.synthetic), "; ".join(curves.prediction.warnings)]
    header = ["curve", "patches", "share", "probability", "random mean", "random lowest"]
    further = ["random highest", "outcome", "map", "synthetic", "warnings"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*header, *further])
        for name in _CURVES:
            for row in _rows(getattr(curves, name), len(curves.prediction.bag)):
                writer.writerow([name, *row, curves.outcome, curves.title, *facts])


def _rows(series: Series, patches: int) -> Iterator[tuple[float, ...]]:
    low, high = series.range
    columns = (series.patches, series.patches / patches, series.probability, series.mean, low, high)
    yield from zip(*(column.tolist() for column in columns), strict=True)


#: Characters per line in the notes below a picture.
_LINE = 90

#: QuPath's spelling of numbers that JSON does not have.
_INFINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def export_map(
    prediction: Prediction,
    path: Path | str,
    name: str | None = None,
    stretch: Stretch = Stretch.NATURAL,
) -> Path:
    """Write a prediction's maps in the format of the ending.

    Returns the path of the file.

    Parameters
    ----------
    prediction
        Prediction to export; its bag must have coordinates.
    path
        `.csv` and `.geojson` (or `.geojson.gz`) contain every map, a row or tile per patch;
        `.png` is a picture of one.
    name
        Title of the map in a picture; the main one if None.
    stretch
        How a picture's values are scaled; tables and tiles contain the unscaled values.

    Raises
    ------
    ValueError
        If the ending is none of these, there is no such map, or the bag has no coordinates.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    _grid(prediction)
    number = find_map(prediction, name)
    writers: dict[str, Callable[[], None]] = {
        ".csv": lambda: _write_csv(prediction, path),
        ".geojson": lambda: _write_geojson(prediction, path),
        ".geojson.gz": lambda: _write_geojson(prediction, path),
        ".png": lambda: _write_png(prediction, number, stretch, path),
    }
    endings = [ending for ending in writers if path.name.lower().endswith(ending)]
    if not endings:
        raise ValueError(f"cannot write a map to {path.name}: use one of {', '.join(writers)}")
    writers[endings[0]]()
    return path


def find_map(prediction: Prediction, name: str | None = None) -> int:
    """Return the number of the map with a title.

    It is 0, the main map, if no title is given.

    Raises
    ------
    ValueError
        If no map has this title; the message lists the titles.
    """
    titles = [prediction.title(explanation) for explanation in prediction.explanations]
    if name is not None and name not in titles:
        raise ValueError(f"there is no map {name!r}; this model has {', '.join(titles)}")
    return 0 if name is None else titles.index(name)


def map_picture(
    prediction: Prediction, map_index: int = 0, stretch: Stretch = Stretch.NATURAL
) -> Figure:
    """Draw a map in the window's colors and limits.

    The axes are µm where the slide's pixel size is known, level-0 pixels otherwise; places
    without a patch are gray.
    """
    grid, scale = _grid(prediction), scaled(prediction, map_index, stretch)
    raster = rasterize(grid, scale.values)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot(facecolor="0.85")
    low, high = scale.limits
    image = axes.imshow(
        raster.values,
        cmap=scale.colormap,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        extent=_extent(grid, raster.origin, raster.step, raster.values.shape),
    )
    figure.colorbar(image, label=scale.unit)
    _label(axes, prediction, scale)
    return figure


def _label(axes: Axes, prediction: Prediction, scale: Scale) -> None:
    unit = "level-0 pixels" if _slide_mpp(_grid(prediction)) is None else "µm"
    stamp = "synthetic slide, " if prediction.bag.synthetic else ""
    axes.set_title(f"{stamp}{prediction.card.model}: {scale.title}")
    notes = [note for note in (scale.caveat, *prediction.warnings) if note]
    lines = [line for note in notes for line in textwrap.wrap(note, _LINE)]
    axes.set_xlabel("\n".join([unit, *lines]), fontsize="small")
    axes.set_ylabel(unit, fontsize="small")


def _extent(
    grid: PatchGrid, origin: tuple[int, int], step: int, shape: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """Return left, right, bottom, top in µm or level-0 pixels."""
    mpp = _slide_mpp(grid) or 1.0
    (x, y), (rows, columns) = origin, shape
    left, top, right, bottom = x, y, x + columns * step, y + rows * step
    return left * mpp, right * mpp, bottom * mpp, top * mpp


def _slide_mpp(grid: PatchGrid) -> float | None:
    """Return µm per level-0 pixel."""
    return None if grid.mpp is None else grid.mpp * grid.pixels / grid.patch_size


def _write_png(prediction: Prediction, number: int, stretch: Stretch, path: Path) -> None:
    map_picture(prediction, number, stretch).savefig(path, dpi=150)


def _write_csv(prediction: Prediction, path: Path) -> None:
    grid = _grid(prediction)
    names, columns = _columns(prediction)
    facts = [int(prediction.bag.synthetic), "; ".join(prediction.warnings)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x", "y", "width", "height", *names, "synthetic", "warnings"])
        for (x, y), row in zip(grid.coords.tolist(), columns.tolist(), strict=True):
            scores = ("" if math.isnan(score) else repr(score) for score in row)
            writer.writerow([x, y, grid.patch_size, grid.patch_size, *scores, *facts])


def _write_geojson(prediction: Prediction, path: Path) -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, tile in enumerate(_tiles(prediction)):
            file.write((",\n" if number else "\n") + json.dumps(tile))
        file.write("\n]}\n")


def _tiles(prediction: Prediction) -> Iterator[dict[str, object]]:
    """Yield one QuPath tile per patch.

    Its id depends only on the slide and the position.
    """
    grid, bag = _grid(prediction), prediction.bag
    names, columns = _columns(prediction)
    metadata = {"synthetic": "yes"} if bag.synthetic else {}
    if prediction.warnings:
        metadata["warnings"] = "; ".join(prediction.warnings)
    for (x, y), row in zip(grid.coords.tolist(), columns.tolist(), strict=True):
        scores = (score if math.isfinite(score) else _INFINITE[str(score)] for score in row)
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{bag.slide} {x} {y} {grid.patch_size}")),
            "geometry": {"type": "Polygon", "coordinates": [_square(x, y, grid.patch_size)]},
            "properties": {
                "objectType": "tile",
                "measurements": dict(zip(names, scores, strict=True)),
                **({"metadata": metadata} if metadata else {}),
            },
        }


def _square(x: int, y: int, side: int) -> list[list[int]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def _columns(prediction: Prediction) -> tuple[list[str], NDArray[np.float64]]:
    """Return the titles of all maps and their (N, maps) scores."""
    names = [prediction.title(explanation) for explanation in prediction.explanations]
    return names, np.stack([_scores(e) for e in prediction.explanations], axis=1)


def _scores(explanation: Explanation) -> NDArray[np.float64]:
    scores: NDArray[np.float64] = explanation.per_patch().detach().cpu().double().numpy()
    return scores


def _grid(prediction: Prediction) -> PatchGrid:
    if prediction.bag.grid is None or prediction.bag.grid.made_up:
        raise ValueError("these features have no coordinates, so their map cannot be exported")
    return prediction.bag.grid
