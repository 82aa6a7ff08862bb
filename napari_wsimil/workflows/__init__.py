"""User tasks without Qt, for window, command line and library."""
