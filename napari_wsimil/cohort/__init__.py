"""Cohorts: manifests and tables."""
