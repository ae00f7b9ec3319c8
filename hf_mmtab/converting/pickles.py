"""Read pickles of strangers: bounded in time and memory, with inert stand-ins for the classes that they name.

The unpickler that is written in Python reads them, under these bounds. It makes nothing but containers, plain values
and stand-ins. Keys of dicts are plain values: the hash of 60 tuples, each holding the one before twice, takes for ever.
What calls copy is counted, and so is what tensors claim. A checkpoint of torch is read like this first and then by
`torch.load(weights_only=True)`, which runs no code either, but has none of these bounds.
"""

import pickle
import pickletools
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .stand_ins import BUILT_IN, PLAIN, STAND_INS, Array, Dtype, Record, RefusedFileError, refused

MAX_OPERATIONS = 60_000_000  # a vocabulary of 2.2 million words (GloVe 840B) takes 15 million
MAX_COPIED = 10_000_000  # values that calls copy: labels and classes, a few thousand in real files
MAX_DEPTH = 100
# Python hashes whole numbers modulo 2^61 - 1: of longer ones any number can have one hash.
LARGEST_KEY = 2**64
MAX_UNFOLDING = 8  # tied tensors and shared values appear several times; beyond this a file was made to grow
KNOWN = {**STAND_INS, **BUILT_IN}
CONTAINERS = (dict, *(BUILT_IN[f"collections.{name}"] for name in ("OrderedDict", "Counter")))
_PYTHON: Any = pickle._Unpickler  # type: ignore[attr-defined]  # the one in C asks nobody before it makes a dict
_ALLOWED = re.compile(
    "(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|(SHORT_)?(BIN)?(STRING|UNICODE8?)|(SHORT_)?BINBYTES8?|NONE|NEWTRUE|NEWFALSE|"
    "(EMPTY_)?(LIST|DICT|TUPLE)|TUPLE[123]|(APPEND|SETITEM)S?|(STACK_)?GLOBAL|REDUCE|NEWOBJ|BUILD|BINPERSID|"
    "(LONG_)?(BIN)?(PUT|GET)|MEMOIZE|MARK|PROTO|FRAME|STOP"
)


class _OfTorch:
    """Stands for a function or class of torch, and for what its call gives, until torch itself reads the file."""

    def __call__(self, *arguments: Any) -> "_OfTorch":
        return _OfTorch()


class _BoundedUnpickler(_PYTHON):
    """Python's own unpickler under the bounds that this module tells of."""

    def __init__(self, stream: BinaryIO, path: str, names: Collection[str], storages: dict[Any, int] | None) -> None:
        super().__init__(stream)
        self.path, self.names, self.storages = path, names, storages
        self.size = Path(path).stat().st_size
        self.named: dict[str, Any] = {}  # what the pickle asked for by name
        self.operations = self.copied = self.characters = self.claimed = 0

    def refuse(self, what: str) -> RefusedFileError:
        return refused(self.path, what)

    def name_of(self, value: Any) -> str:
        return next((name for name, one in self.named.items() if one is value), "")

    def describe(self, value: Any) -> str:
        kind = "dict" if isinstance(value, dict) else type(value).__name__
        return self.name_of(value) or f"a value of type {kind}"

    def count(self, copied: Collection[Any]) -> None:
        for one in (copied, *copied):
            if isinstance(one, str | bytes):
                self.characters += len(one)
            elif isinstance(one, list | tuple | dict):
                self.copied += len(one)
        if self.copied > MAX_COPIED:
            raise self.refuse(f"its pickle copies more than {MAX_COPIED:,} values")
        if self.characters > MAX_UNFOLDING * max(self.size, 100_000):
            raise self.refuse("its pickle copies texts or bytes of many times the size of the file")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a class or function."""
        full = f"{module}.{name}"
        if full not in self.names:
            few = "which is not one of the few classes that checkpoints need"
            raise self.refuse(f"it asks for {full[:100]}, {few}")
        return self.named.setdefault(full, KNOWN.get(full) or _OfTorch())

    def persistent_load(self, pid: Any) -> Any:
        """Note how many elements the storage of a tensor claims."""
        parts = pid if type(pid) is tuple else ()
        if self.storages is None or len(parts) not in (5, 6) or parts[0] != "storage":
            raise self.refuse("it refers to something outside the pickle that is not the storage of a tensor")
        key, elements = parts[2], parts[4]
        if type(key) is not str or type(elements) is not int or elements < 0 or parts[5:] not in ((), (None,)):
            raise self.refuse("it has a malformed storage of a tensor")
        self.claimed += elements - self.storages.get(key, 0)
        self.storages[key] = elements
        if self.claimed > self.size:
            raise self.refuse(
                f"it claims tensors of {self.claimed:,} numbers in a file of {self.size:,} bytes: it is truncated "
                "(copy it again), or was made to claim that"
            )
        return _OfTorch()

    def before_append(self, target: Any) -> None:
        if type(target) is not list:
            raise self.refuse(f"its pickle appends to {self.describe(target)}, not to a list")

    def before_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict):
            raise self.refuse(f"its pickle sets items of {self.describe(target)}, not of a dict")
        for key in items[::2]:
            if type(key) not in PLAIN:
                raise self.refuse(f"it uses {self.describe(key)} as the key of a dict")
            if type(key) is int and not -LARGEST_KEY <= key < LARGEST_KEY:
                raise self.refuse("it uses a whole number of more than 64 bits as the key of a dict")

    def before_call(self, function: Any, arguments: Any) -> None:
        name = self.name_of(function)
        if not name or type(arguments) is not tuple:
            raise self.refuse(f"it calls {self.describe(function)} with {self.describe(arguments)}")
        self.count(arguments)
        if name.startswith("collections."):
            if len(arguments) > 1 or not all(isinstance(one, dict) for one in arguments):
                raise self.refuse(f"it calls {name} with something other than a dict")
        elif name == "_codecs.encode" and arguments[1:] not in (("latin1",), ("latin-1",)):
            raise self.refuse("it encodes text in another way than latin1")

    def before_object(self, kind: Any, arguments: Any) -> None:
        if not isinstance(STAND_INS.get(self.name_of(kind)), type) or arguments != ():
            raise self.refuse(f"it makes an object of {self.describe(kind)} from {self.describe(arguments)}")

    def before_state(self, target: Any, state: Any) -> None:
        ours = isinstance(target, Record | Array | Dtype) and type(state) in (dict, tuple)
        # An attribute such as __setstate__ would be called by the next BUILD.
        of_dict = isinstance(target, dict) and type(state) is dict and set(state) <= {"_metadata"}
        if not (ours or of_dict):
            raise self.refuse(f"it sets the state of {self.describe(target)} to {self.describe(state)}")
        self.count(state)

    def before_stop(self) -> None:
        if len(self.stack) != 1 or self.metastack:
            raise self.refuse("its pickle leaves values behind, as none that was written by pickle does")


_BEFORE: dict[str, Callable[[Any], None]] = {
    "APPEND": lambda one: one.before_append(one.stack[-2]),
    "APPENDS": lambda one: one.before_append(one.metastack[-1][-1]),
    "DICT": lambda one: one.before_items({}, one.stack),
    "SETITEM": lambda one: one.before_items(one.stack[-3], one.stack[-2:]),
    "SETITEMS": lambda one: one.before_items(one.metastack[-1][-1], one.stack),
    "REDUCE": lambda one: one.before_call(*one.stack[-2:]),
    "NEWOBJ": lambda one: one.before_object(*one.stack[-2:]),
    "BUILD": lambda one: one.before_state(*one.stack[-2:]),
    "STOP": _BoundedUnpickler.before_stop,
}


def _bounded(name: str, load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return an operation of pickle that is counted, and refused or looked at before it is carried out."""
    is_allowed, before, puts = _ALLOWED.fullmatch(name) is not None, _BEFORE.get(name), "PUT" in name

    def operation(one: Any) -> None:
        one.operations += 1
        if one.operations > MAX_OPERATIONS:
            raise one.refuse(f"its pickle takes more than {MAX_OPERATIONS:,} operations")
        if not is_allowed:
            raise one.refuse(f"its pickle uses {name}, which no known checkpoint needs")
        if before is not None:
            before(one)
        load(one)
        # No writer of pickles skips places, and an unpickler in C allocates them all.
        if puts and next(reversed(one.memo)) > one.operations:
            raise one.refuse("its pickle remembers more values than it has")

    return operation


_BoundedUnpickler.dispatch = {
    ord(one.code): _bounded(one.name, _PYTHON.dispatch[ord(one.code)]) for one in pickletools.opcodes
}


def check_pickle(stream: BinaryIO, path: str, names: Collection[str], storages: dict[Any, int] | None = None) -> Any:
    """Read the next pickle of a stream; return its value, in which `_OfTorch` stands for what is torch's.

    Args:
        stream: where the pickle begins; afterwards, where it ends.
        path: of the file, for its size and for errors.
        names: `module.name` of everything that it may mention.
        storages: filled with the storages of tensors, key → number of elements; refused if left out.

    Raises:
        RefusedFileError: says what is wrong. Nothing was run.
    """
    start = stream.tell()
    try:
        return _BoundedUnpickler(stream, path, names, storages).load()
    except RefusedFileError:
        raise
    except Exception as error:  # whatever damaged bytes, or arguments that do not fit, make pickle raise
        what = f"no readable pickle at byte {start} ({str(error)[:200]}). It is truncated, damaged or of another kind"
        raise refused(path, what) from error


def load_pickle(stream: BinaryIO, path: str) -> Any:
    """Read the next pickle of a stream into plain values, `Record` and `Array`.

    Raises:
        RefusedFileError: if it is damaged or holds anything else. Nothing was run.
    """
    value = check_pickle(stream, path, KNOWN)
    require_plain(value, path)
    return value


def read_pickle(path: str | Path) -> Any:
    """Read a plain pickle file, see `load_pickle`."""
    with open(path, "rb") as file:
        return load_pickle(file, str(path))


def require_plain(value: Any, path: str) -> None:
    """Refuse values of other types, and containers too deep, endless or so shared that a walk through them never ends.

    Raises:
        RefusedFileError: says which.
    """
    sizes: dict[int, tuple[int, int]] = {}  # id → values inside when written out, depth
    tensors: dict[int, torch.Tensor] = {}
    todo, open_ = [(value, False)], set()

    while todo:
        one, done = todo.pop()
        inside: Any = ()
        if type(one) in (list, tuple):
            inside = one
        elif type(one) in CONTAINERS:
            inside = one.values()
        elif isinstance(one, Record):
            inside = one.attributes.values()
        elif isinstance(one, torch.Tensor):
            tensors[id(one)] = one
        elif type(one) not in PLAIN and type(one) is not Array:
            kind = type(one).__name__
            raise refused(path, f"it holds a value of type {kind}, which no known checkpoint needs")
        if not inside or (id(one) in sizes and not done):
            continue
        if done:
            open_.discard(id(one))
            parts = [sizes.get(id(child), (1, 0)) for child in inside]
            sizes[id(one)] = size, depth = 1 + sum(p[0] for p in parts), 1 + max(p[1] for p in parts)
            if depth > MAX_DEPTH:
                raise refused(path, f"its containers are nested deeper than {MAX_DEPTH}")
            if size > MAX_UNFOLDING * max(Path(path).stat().st_size, 100_000):
                raise refused(path, "its values, which share parts, are too many when written out")
        elif id(one) in open_:
            raise refused(path, "one of its containers contains itself")
        else:
            open_.add(id(one))
            todo.append((one, True))
            todo += [(child, False) for child in inside]
    unfolded = sum(one.numel() * one.itemsize for one in tensors.values())
    if unfolded > MAX_UNFOLDING * Path(path).stat().st_size:
        raise refused(path, f"its tensors unfold into more than {MAX_UNFOLDING} times the size of the file")
