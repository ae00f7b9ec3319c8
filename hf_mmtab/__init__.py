"""MMBT and TabBERT, native to Hugging Face Transformers."""

from hf_mmtab.models import mmbt

__version__ = "0.1.0"

mmbt.register()
