"""Compare dock."""
