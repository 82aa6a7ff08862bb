"""Patch encoders: built-in, timm and ONNX."""
