"""Thin docks; each takes a `Session` and knows no other widget."""
