"""Bags of patch features, their files and encoders."""
