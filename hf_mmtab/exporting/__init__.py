"""Saved models as ONNX."""

from .checkpoint import export_checkpoint
