"""Outputs of frozen parts, computed once per example, stored, and served until the part thaws."""
