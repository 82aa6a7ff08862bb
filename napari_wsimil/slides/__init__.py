"""Slides: pixels, tissue, patch grids. Imports no torch."""
