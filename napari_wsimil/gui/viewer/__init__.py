"""Drawing on napari's canvas: layers, camera, picking."""
