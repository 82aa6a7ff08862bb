"""Explain dock."""
