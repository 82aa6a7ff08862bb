"""Slide dock."""
