"""What may come out of a stranger's pickle, and what the few names that it may mention stand for."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Objects of these classes become a `Record`: their attributes, without the class.
RECORD_CLASSES = frozenset(
    {
        ("argparse", "Namespace"),  # args.pt of MMBT
        ("mmbt.data.vocab", "Vocab"),
        *(
            ("pytorch_pretrained_bert.optimization", name)  # in the optimizer state of model_best.pt
            for name in (
                "ConstantLR",
                "WarmupConstantSchedule",
                "WarmupCosineSchedule",
                "WarmupCosineWithHardRestartsSchedule",
                "WarmupCosineWithWarmupRestartsSchedule",
                "WarmupLinearSchedule",
            )
        ),
        *(
            (f"sklearn.preprocessing.{module}", name)  # encoder_fit.pkl of TabFormer; the module was renamed
            for name, modules in (("LabelEncoder", ("_label", "label")), ("MinMaxScaler", ("_data", "data")))
            for module in modules
        ),
    }
)
_DTYPE = re.compile(r"[fiu][1248]|b1|O8|U\d{1,6}|S\d{1,6}")
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
KEYS = (str, int, float, bool, bytes, type(None))


class RefusedFileError(ValueError):
    """A file that is not what it should be, is damaged, or asks for something that is not allowed."""


@dataclass(frozen=True)
class Global:
    """A name that a pickle mentions; nothing stands behind it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Record:
    """An object without its class: the name of the class and the attributes."""

    class_name: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Array:
    """A numpy array; empty until the pickle has given its content."""

    values: np.ndarray | None = None


@dataclass
class Dtype:
    code: str
    order: str = "<"


class Ordered(dict):
    """An OrderedDict or Counter of the file; attributes given to it are dropped."""


def make_array(shape: Any, dtype: Any, fortran: Any, content: Any) -> np.ndarray:
    """Make the array of a pickled `(version, shape, dtype, fortran, content)`."""
    if type(dtype) is not Dtype or type(shape) is not tuple or not all(type(n) is int for n in shape):
        raise ValueError("it has an array without shape and dtype")
    if dtype.code == "O8":
        if type(content) is not list or not all(type(one) in KEYS for one in content):
            raise ValueError("it has an array of objects that are neither text nor numbers")
        values = np.empty(len(content), dtype=object)
        values[:] = content
    elif type(content) is bytes:
        values = np.frombuffer(content, dtype=dtype.order.replace("|", "<") + dtype.code)
    else:
        raise ValueError(f"it has an array made of {kind_of(content)}")
    if any(n < 0 for n in shape) or values.size != int(np.prod([float(n) for n in shape])):
        raise ValueError(f"it has an array of shape {shape} with {values.size} values")
    return values.reshape(shape, order="F" if fortran else "C")


def kind_of(value: Any) -> str:
    return str(value) if type(value) is Global else f"a value of type {type(value).__name__}"


# --- what the allowed names stand for


def _ordered(pairs: Any = ()) -> Ordered:
    if isinstance(pairs, dict):  # its keys were checked when it was filled
        return Ordered(pairs)
    items = pairs
    if type(items) not in (list, tuple) or not all(
        type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in KEYS for pair in items
    ):
        raise ValueError("pairs of a plain key and a value are needed")
    return Ordered({pair[0]: pair[1] for pair in items})


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin-1")


def _dtype(code: str, align: Any = False, copy: Any = True) -> Dtype:
    if not _DTYPE.fullmatch(code):
        raise ValueError(f"dtype {code!r}")
    return Dtype(code)


def _scalar(dtype: Dtype, content: bytes) -> Any:
    if dtype.code == "O8":
        raise ValueError("a single object")
    (value,) = np.frombuffer(content, dtype=dtype.order.replace("|", "<") + dtype.code)
    return value.item()


def _reconstruct(kind: Global, shape: Any, code: Any) -> Array:
    if kind != Global("numpy", "ndarray") or shape != (0,):
        raise ValueError("only empty arrays, to be filled")
    return Array()


FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("collections", "Counter"): _ordered,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _dtype,
    **{(module, "scalar"): _scalar for module in _ARRAY_MODULES},
    **{(module, "_reconstruct"): _reconstruct for module in _ARRAY_MODULES},
}
NAMES = frozenset({("numpy", "ndarray")})
