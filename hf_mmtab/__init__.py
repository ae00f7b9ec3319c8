"""MMBT and TabBERT, native to Hugging Face Transformers."""

__version__ = "0.1.0"
