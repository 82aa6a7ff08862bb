"""Notices: napari's notifications without the names of files while they are hidden."""

from __future__ import annotations

from napari.utils.notifications import ErrorNotification, Notification, notification_manager

from napari_wsimil.gui.names import NAMES, paths_of, unnamed

_PLAIN = notification_manager.dispatch
_NO_TRACEBACK = " (Show file names in the Slide dock to see where it arose.)"


class HiddenError(Exception):
    """Stands for an error that names a file, in napari's list of notifications."""


def hide_names() -> None:
    """Let napari show and keep no name of a file while names are hidden.

    This holds for our own notes and for errors that napari meets in our readers and layers,
    or in its own: their words are changed before any window or console shows them.
    """
    notification_manager.dispatch = _dispatch


def _dispatch(notification: Notification) -> None:
    _hide(notification)
    _PLAIN(notification)


def _hide(notification: Notification) -> None:
    """Change words and error of a notification while names are hidden."""
    if NAMES.shown:
        return
    error = getattr(notification, "exception", None)
    words = str(notification.message)
    paths = paths_of(error) if error is not None else set()
    hidden = unnamed(words, paths)
    if hidden == words and not paths:
        return
    notification.message = hidden
    if isinstance(notification, ErrorNotification):  # its traceback would name the file
        notification.exception = HiddenError(hidden + _NO_TRACEBACK)
    if hasattr(notification, "warning"):
        notification.warning = UserWarning(hidden)
