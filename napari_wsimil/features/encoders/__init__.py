"""Patch encoders."""
