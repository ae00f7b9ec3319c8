"""Checkpoints of the original implementations, read safely and turned into ours, and back."""
