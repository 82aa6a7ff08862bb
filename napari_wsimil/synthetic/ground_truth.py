"""Ground truth of synthetic slides: exact outlines of lesions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon, mapping, shape
from skimage import measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_wsimil.slides.patch_grid import PatchGrid
    from napari_wsimil.synthetic.layout import Layout, Plane

_COLORS = {"A": [200, 30, 30], "B": [40, 60, 200], "C": [30, 150, 120]}


@dataclass(frozen=True)
class Truth:
    """Ground truth of one slide: lesion polygons by kind.

    In level-0 pixels; pixel i covers i to i + 1.
    """

    lesions: Mapping[str, MultiPolygon]

    def area(self, kind: str | None = None) -> MultiPolygon:
        """Return the area of one kind of lesion, or all.

        Raises
        ------
        ValueError
            If the slide has no lesion of that kind.
        """
        if kind is None:
            return _many(shapely.union_all(list(self.lesions.values())))
        if kind not in self.lesions:
            raise ValueError(f"kind must be one of {sorted(self.lesions)}, not {kind!r}")
        return self.lesions[kind]


def outline(layout: Layout) -> Truth:
    """Return the ground truth of a layout.

    The outlines are the zero lines of its lesion fields.
    """
    return Truth({kind: _zero_area(f, layout.pitch) for kind, f in layout.lesions.items()})


def _zero_area(field: Plane, pitch: int) -> MultiPolygon:
    """Return the area of positive values, without holes."""
    framed = np.pad(field, 1, constant_values=-1e-3)
    rings = measure.find_contours(framed, 0.0)  # type: ignore[no-untyped-call]
    areas = [Polygon((ring[:, ::-1] - 0.5) * pitch).buffer(0) for ring in rings if len(ring) > 3]
    whole = reduce(shapely.symmetric_difference, areas, Polygon())
    return _many(whole.simplify(pitch / 16))


def _many(area: shapely.Geometry) -> MultiPolygon:
    parts = [part for part in shapely.get_parts(area) if isinstance(part, Polygon)]
    return MultiPolygon([part for part in parts if part.area > 0])


def save_truth(truth: Truth, path: Path | str) -> None:
    """Write lesions as GeoJSON annotations for QuPath, one per polygon."""
    path = Path(path)
    features = [
        {
            "type": "Feature",
            "geometry": mapping(shapely.set_precision(polygon, 0.01)),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": kind, "color": _COLORS[kind]},
            },
        }
        for kind, area in truth.lesions.items()
        for polygon in area.geoms
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def load_truth(path: Path | str) -> Truth:
    """Read ground truth from a file of `save_truth`."""
    path = Path(path)
    polygons: dict[str, list[Polygon]] = {}
    for feature in json.loads(path.read_text())["features"]:
        kind = feature["properties"]["classification"]["name"]
        polygons.setdefault(kind, []).append(shape(feature["geometry"]))
    return Truth({kind: MultiPolygon(parts) for kind, parts in polygons.items()})


def patch_truth(truth: Truth, grid: PatchGrid, kind: str | None = None) -> NDArray[np.float64]:
    """Return lesion shares of patches, (N,), 0 to 1.

    Parameters
    ----------
    kind
        Kind of lesion; all kinds if None.
    """
    return _cover(truth.area(kind), grid.coords.astype(float), grid.patch_size)


def _cover(area: MultiPolygon, corners: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    x, y = corners.T
    boxes = shapely.box(x, y, x + side, y + side)
    parts = np.array(list(area.geoms), dtype=object)
    box, part = shapely.STRtree(parts).query(boxes, predicate="intersects")
    overlap = shapely.area(shapely.intersection(boxes[box], parts[part]))
    return np.bincount(box, overlap, len(boxes)) / side**2
