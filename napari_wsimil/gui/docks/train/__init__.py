"""Train dock."""
