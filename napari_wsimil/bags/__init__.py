"""What a model sees: bags of patch features, their files and their encoders."""
