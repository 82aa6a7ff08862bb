"""Export: the maps of a prediction as a table, as QuPath tiles or as a picture.

Positions are level-0 pixels. No export names slide, file or patient; what was computed from
a phantom says "synthetic".
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from napari_wsimil.models.base import ExplanationKind
from napari_wsimil.space.raster import rasterize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_wsimil.explain.predict import Prediction
    from napari_wsimil.models.base import Explanation
    from napari_wsimil.space.grid import PatchGrid

#: What the color bar says of each kind.
SCALES = {
    ExplanationKind.ATTENTION: "attention, × uniform",
    ExplanationKind.PROBABILITY: "probability",
    ExplanationKind.SIGMOID: "weight, 0 to 1",
    ExplanationKind.SCORE: "score, unbounded",
    ExplanationKind.EVIDENCE: "evidence, in logits",
    ExplanationKind.ORDER: "order of looking",
}
#: How QuPath writes what JSON cannot.
_INFINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
UNIT_KINDS = (ExplanationKind.PROBABILITY, ExplanationKind.SIGMOID)


def export_map(prediction: Prediction, path: Path | str, name: str | None = None) -> Path:
    """Return the path of the written export, in the format its ending names.

    Parameters
    ----------
    prediction
        What is exported; its bag must have places.
    path
        `.csv` and `.geojson` (or `.geojson.gz`) hold every map, a row or tile per patch;
        `.png` is a picture of one.
    name
        Which map a picture shows, by its title; the main one if None.

    Raises
    ------
    ValueError
        If the ending is none of these, there is no such map, or the bag has no places.
    OSError
        If the file cannot be written.
    """
    path = Path(path)
    _grid(prediction)
    explanation = find_map(prediction, name)
    writers: dict[str, Callable[[], None]] = {
        ".csv": lambda: _write_csv(prediction, path),
        ".geojson": lambda: _write_geojson(prediction, path),
        ".geojson.gz": lambda: _write_geojson(prediction, path),
        ".png": lambda: _write_png(prediction, explanation, path),
    }
    endings = [ending for ending in writers if path.name.lower().endswith(ending)]
    if not endings:
        raise ValueError(f"{path.name}: a map is exported as one of {', '.join(writers)}")
    writers[endings[0]]()
    return path


def find_map(prediction: Prediction, name: str | None = None) -> Explanation:
    """Return the map with this title, or the main one; ValueError names those there are."""
    maps = {prediction.title(e): e for e in prediction.explanations}
    if name is None:
        return prediction.explanations[0]
    if name not in maps:
        raise ValueError(f"there is no map {name!r}; this model has {', '.join(maps)}")
    return maps[name]


def map_picture(prediction: Prediction, explanation: Explanation) -> Figure:
    """Return a figure of one map with a color bar that names its scale.

    The axes are µm where the slide's pixel size is known, level-0 pixels otherwise; places
    without a patch stay gray.
    """
    grid = _grid(prediction)
    scores = _scores(explanation)
    if explanation.kind is ExplanationKind.ATTENTION:
        scores = scores * len(explanation.scores)
    raster = rasterize(grid, scores)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot(facecolor="0.85")
    low, high = _limits(explanation.kind, scores)
    colors = "RdBu_r" if explanation.kind is ExplanationKind.EVIDENCE else "inferno"
    image = axes.imshow(
        raster.values,
        cmap=colors,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        extent=_extent(grid, raster.origin, raster.step, raster.values.shape),
    )
    figure.colorbar(image, label=SCALES[explanation.kind])
    _label(axes, prediction, explanation)
    return figure


def _label(axes: Axes, prediction: Prediction, explanation: Explanation) -> None:
    unit = "level-0 pixels" if _slide_mpp(_grid(prediction)) is None else "µm"
    stamp = "synthetic slide, " if prediction.bag.synthetic else ""
    axes.set_title(f"{stamp}{prediction.card.model}: {prediction.title(explanation)}")
    axes.set_xlabel(f"{unit}\nwhere the model looked, not tumor probability")
    axes.set_ylabel(unit)


def _limits(kind: ExplanationKind, scores: NDArray[np.float64]) -> tuple[float, float]:
    known = scores[np.isfinite(scores)]
    if kind in UNIT_KINDS:
        return 0.0, 1.0
    if len(known) == 0:
        return 0.0, 1.0
    if kind is ExplanationKind.EVIDENCE:
        most = float(np.abs(known).max())
        return -most, most
    low = 0.0 if kind is ExplanationKind.ATTENTION else float(known.min())
    return low, float(known.max())


def _extent(
    grid: PatchGrid, origin: tuple[int, int], step: int, shape: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """Return left, right, bottom, top of a raster, in µm or level-0 pixels."""
    mpp = _slide_mpp(grid) or 1.0
    (x, y), (rows, columns) = origin, shape
    left, top, right, bottom = x, y, x + columns * step, y + rows * step
    return left * mpp, right * mpp, bottom * mpp, top * mpp


def _slide_mpp(grid: PatchGrid) -> float | None:
    """Return µm per level-0 pixel."""
    return None if grid.mpp is None else grid.mpp * grid.pixels / grid.patch_size


def _write_png(prediction: Prediction, explanation: Explanation, path: Path) -> None:
    map_picture(prediction, explanation).savefig(path, dpi=150)


def _write_csv(prediction: Prediction, path: Path) -> None:
    grid = _grid(prediction)
    names, columns = _columns(prediction)
    synthetic = int(prediction.bag.synthetic)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x", "y", "width", "height", *names, "synthetic"])
        for (x, y), row in zip(grid.coords.tolist(), columns.tolist(), strict=True):
            scores = ("" if math.isnan(score) else repr(score) for score in row)
            writer.writerow([x, y, grid.patch_size, grid.patch_size, *scores, synthetic])


def _write_geojson(prediction: Prediction, path: Path) -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, tile in enumerate(_tiles(prediction)):
            file.write((",\n" if number else "\n") + json.dumps(tile))
        file.write("\n]}\n")


def _tiles(prediction: Prediction) -> Iterator[dict[str, object]]:
    """Yield one QuPath tile per patch; its id depends on slide and place alone."""
    grid, bag = _grid(prediction), prediction.bag
    names, columns = _columns(prediction)
    for (x, y), row in zip(grid.coords.tolist(), columns.tolist(), strict=True):
        scores = (score if math.isfinite(score) else _INFINITE[str(score)] for score in row)
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{bag.slide} {x} {y} {grid.patch_size}")),
            "geometry": {"type": "Polygon", "coordinates": [_square(x, y, grid.patch_size)]},
            "properties": {
                "objectType": "tile",
                "measurements": dict(zip(names, scores, strict=True)),
                **({"metadata": {"synthetic": "yes"}} if bag.synthetic else {}),
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
    if prediction.bag.grid is None:
        raise ValueError("these features have no coordinates, so their map has no place")
    return prediction.bag.grid
