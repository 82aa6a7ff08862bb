"""Predictions and their analysis: maps, queries, what-if edits and occlusion."""
