"""Who: patients, slides and clinical records."""
