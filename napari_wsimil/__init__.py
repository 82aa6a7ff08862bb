"""Whole-slide images and what multiple-instance-learning models looked at in them."""

__version__ = "0.1.0"
