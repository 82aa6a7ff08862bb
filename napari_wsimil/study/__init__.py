"""Studies: patients, slides, clinical records and an audit log."""
