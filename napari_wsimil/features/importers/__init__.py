"""Importers of other tools' feature files, one module each."""
