"""The window: the only package that knows napari and Qt."""
