"""Importers of feature files from other tools, one module per tool."""
