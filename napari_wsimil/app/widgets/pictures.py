"""Pictures of a slide as Qt takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtGui import QImage, QPixmap

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pixmap(picture: NDArray[np.uint8] | Any) -> QPixmap:
    """Return (rows, columns, 3) uint8 RGB as a pixmap."""
    pixels = np.ascontiguousarray(picture)
    height, width, _ = pixels.shape
    image = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image)
