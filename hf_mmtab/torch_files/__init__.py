"""Files of `torch.save` and pickles of strangers, read without running anything that they name."""

from .reading import StoredTensor, load_tensors, read_state_dict, read_torch_file

__all__ = ["StoredTensor", "load_tensors", "read_state_dict", "read_torch_file"]
