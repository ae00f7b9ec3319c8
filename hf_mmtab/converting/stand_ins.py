"""What the few class names that original checkpoints mention stand for here: inert values, no class of theirs."""

import re
from _codecs import encode
from collections import Counter, OrderedDict
from typing import Any

import numpy as np

DTYPE = re.compile(r"[fiu][1248]|b1|O8|U\d{1,6}|S\d{1,6}")
PLAIN = (str, int, float, bool, bytes, type(None))


class RefusedFileError(ValueError):
    """A file that is not what it should be, is damaged, or asks for something that is not allowed."""


def refused(path: Any, what: str) -> RefusedFileError:
    """Return the error for a file, to be raised."""
    return RefusedFileError(f"Refused {str(path)!r}: {what}. Nothing in it was run.")


class Record:
    """An object without its class: its attributes. Each class of the originals has a subclass."""

    class_name = ""

    def __new__(cls) -> "Record":
        """Make it without attributes; the state follows."""
        record = super().__new__(cls)
        record.attributes = {}
        return record

    attributes: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        """Take the attributes."""
        if type(state) is not dict or not all(type(name) is str for name in state):
            raise ValueError("the attributes of an object are no mapping of names")
        self.attributes = state


class Dtype:
    """A numpy dtype of numbers, text or plain objects."""

    def __init__(self, code: str, align: Any = False, copy: Any = True) -> None:
        if not DTYPE.fullmatch(code):
            raise ValueError(f"dtype {code[:20]!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        """Take the byte order."""
        if state[1] not in ("<", ">", "|"):
            raise ValueError("a dtype without byte order")
        self.order = state[1].replace("|", "<")

    def read(self, content: bytes) -> np.ndarray:
        """Return the values of a buffer."""
        if self.code == "O8":
            raise ValueError("objects in a buffer")
        return np.frombuffer(content, dtype=self.order + self.code)


class Array:
    """A numpy array; empty until the pickle has given its content."""

    values: np.ndarray | None = None

    def __init__(self, kind: Any, shape: Any, code: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Take `(version, shape, dtype, fortran, content)`, whose size must fit the shape."""
        _, shape, dtype, fortran, content = state
        if type(content) is list and dtype.code == "O8" and all(type(one) in PLAIN for one in content):
            values = np.empty(len(content), dtype=object)
            values[:] = content
        else:
            values = dtype.read(content)
        if any(n < 0 for n in shape) or values.size != int(np.prod([float(n) for n in shape])):
            raise ValueError(f"an array of shape {str(shape)[:60]} with {values.size} values")
        self.values = values.reshape(shape, order="F" if fortran else "C")


def scalar(dtype: Dtype, content: bytes) -> Any:
    """Return a numpy scalar as a plain number."""
    (value,) = dtype.read(content)
    return value.item()


_RATES = ("Constant", "Cosine", "Linear", "CosineWithHardRestarts", "CosineWithWarmupRestarts")
RECORD_CLASSES = (
    "argparse.Namespace",  # args.pt of MMBT
    "mmbt.data.vocab.Vocab",
    "pytorch_pretrained_bert.optimization.ConstantLR",  # in the optimizer state of model_best.pt
    *(f"pytorch_pretrained_bert.optimization.Warmup{kind}Schedule" for kind in _RATES),
    # encoder_fit.pkl of TabFormer; scikit-learn renamed the modules
    *(f"sklearn.preprocessing.{module}.LabelEncoder" for module in ("_label", "label")),
    *(f"sklearn.preprocessing.{module}.MinMaxScaler" for module in ("_data", "data")),
)
STAND_INS: dict[str, Any] = {
    **{name: type("Record", (Record,), {"class_name": name}) for name in RECORD_CLASSES},
    "numpy.dtype": Dtype,
    "numpy.ndarray": Array,
    **{f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": Array for core in ("core", "_core")},
}
# Names that torch knows, of which plain pickles use three.
BUILT_IN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
    "_codecs.encode": encode,
}
