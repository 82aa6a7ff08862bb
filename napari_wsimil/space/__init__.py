"""Places and pixels: slides, tissue, grids of patches. Imports no torch."""
