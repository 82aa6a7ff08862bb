"""Workflows: complete tasks of a user, shared by window, command line and library."""
