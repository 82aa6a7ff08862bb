"""PersAM and its incremental variant PersAM-live."""
