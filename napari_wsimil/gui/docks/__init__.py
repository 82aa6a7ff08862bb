"""Docks: one package each, `dock.py` first."""
