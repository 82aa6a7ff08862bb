"""PersAM and its live variant."""
