"""Training: fit, cross-validation, metrics, checkpoints."""
