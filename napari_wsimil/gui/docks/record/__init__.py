"""Record dock."""
