"""Cohorts: manifests, and tables of patients read and written."""
