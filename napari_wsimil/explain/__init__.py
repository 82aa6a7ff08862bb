"""Prediction and the questions asked of one."""
