"""Read pickles of strangers: bounded in time and memory, with inert stand-ins for the classes that they name.

`torch.load(weights_only=True)` and `pickle.Unpickler.find_class` see to it that no code runs. `check_pickle` comes
before them for what they lack: a tuple of 60 tuples as a key, each holding the one before twice, is hashed for ever
by both; a `Counter` of a long dict is copied as often as the pickle says; `torch.load` allocates the size that a
tensor claims and knows more classes than checkpoints need. It only counts; it makes no value.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from .stand_ins import BUILT_IN, PLAIN, STAND_INS, Array, Record, RefusedFileError, refused

MAX_OPERATIONS = 60_000_000  # a vocabulary of 2.2 million words (GloVe 840B) takes 15 million
MAX_COPIED = 10_000_000  # values that calls copy: labels and classes, a few thousand in real files
MAX_DEPTH = 100
LARGEST_KEY = (
    2**64
)  # Python hashes whole numbers modulo 2^61 - 1: of longer ones any number can have one hash
MAX_UNFOLDING = 8  # tied tensors and shared values appear several times; beyond this a file was made to grow
HASHABLE = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "_codecs.encode")
CONTAINERS = (dict, *(BUILT_IN[f"collections.{name}"] for name in ("OrderedDict", "Counter")))
_LITERALS = re.compile(
    "(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|(SHORT_)?(BIN)?(STRING|UNICODE8?)|(SHORT_)?BINBYTES8?|NONE|NEWTRUE|NEWFALSE"
)
_MAKES = re.compile(
    "(EMPTY_)?(LIST|DICT|TUPLE)|TUPLE[123]|(APPEND|SETITEM)S?|(STACK_)?GLOBAL|REDUCE|NEWOBJ|BUILD|BINPERSID"
)
_PUT, _GET = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Made:
    """What an operation puts on the stack; plain values stand for themselves."""

    __slots__ = ("kind", "length", "parts")

    def __init__(self, kind: str, parts: Any = (), length: int = 0) -> None:
        self.kind, self.parts, self.length = kind, parts, length

    def __str__(self) -> str:
        return str(self.parts) if self.kind == "name" else f"a value of type {self.kind}"


class _Check:
    def __init__(self, path: str, names: Collection[str], storages: dict[Any, int] | None) -> None:
        self.path, self.names, self.storages = path, names, storages
        self.stack: list[Any] = []
        self.copied = self.claimed = 0

    def refuse(self, what: str) -> RefusedFileError:
        return refused(self.path, what)

    def run(self, stream: BinaryIO) -> None:
        memo: dict[int, Any] = {}
        marks: list[int] = []
        for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            name = operation.name
            if count > MAX_OPERATIONS:
                raise self.refuse(f"its pickle takes more than {MAX_OPERATIONS:,} operations")
            if _LITERALS.fullmatch(name):
                self.stack.append(_CONSTANTS.get(name, argument))
            elif name in _PUT:
                index: Any = len(memo) if argument is None else argument
                if index > count:  # pickle's memo is a list as long as the highest index
                    raise self.refuse("its pickle remembers more values than it has")
                memo[index] = self.stack[-1]
            elif name in _GET:
                self.stack.append(memo[cast(int, argument)])
            elif name == "MARK":
                marks.append(len(self.stack))
            elif _MAKES.fullmatch(name):
                slice_ = pickletools.stackslice in operation.stack_before
                place = marks.pop() if slice_ else len(self.stack)
                items, self.stack[place:] = self.stack[place:], []
                number = len(operation.stack_before) - 2 * slice_
                if number > len(self.stack) - (marks[-1] if marks else 0):
                    raise ValueError("its stack is empty")
                taken, self.stack[place - number :] = self.stack[place - number :], []
                self.stack.append(self.make(name, argument, taken, items))
            elif name not in ("PROTO", "FRAME", "STOP"):
                raise self.refuse(f"its pickle uses {name}, which no known checkpoint needs")
        if len(self.stack) != 1 or marks:
            raise self.refuse("its pickle leaves values behind, as none that was written by pickle does")

    def make(self, name: str, argument: Any, taken: list[Any], items: list[Any]) -> Any:
        """Return what an operation makes of the values that it takes."""
        if "TUPLE" in name:
            return _Made("tuple", [*taken, *items], len(taken) + len(items))
        if name in ("EMPTY_LIST", "LIST"):
            return _Made("list", length=len(items))
        if name in ("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"):
            target = taken[0] if name.startswith("SET") else _Made("dict")
            return self.grow(target, "dict", [*taken[1:], *items], "sets items of")
        if name.startswith("APPEND"):
            return self.grow(taken[0], "list", [*taken[1:], *items], "appends to")
        if "GLOBAL" in name:
            return self.name(".".join(taken) if taken else argument.replace(" ", ".", 1))
        if name == "BINPERSID":
            return self.storage(taken[0])
        return self.call(name, *taken)

    def grow(self, target: Any, kind: str, added: list[Any], what: str) -> Any:
        if getattr(target, "kind", None) != kind:
            raise self.refuse(f"its pickle {what} {_described(target)}, not of a {kind}")
        if kind == "dict":
            for key in added[::2]:
                if isinstance(key, _Made) and key.kind != "number":
                    raise self.refuse(f"it uses {key} as the key of a dict")
                if type(key) is int and not -LARGEST_KEY <= key < LARGEST_KEY:
                    raise self.refuse("it uses a whole number of more than 64 bits as the key of a dict")
        target.length += len(added)
        return target

    def name(self, name: str) -> _Made:
        if name not in self.names:
            raise self.refuse(
                f"it asks for {name[:100]}, which is not one of the few classes that checkpoints need"
            )
        return _Made("name", name)

    def call(self, name: str, target: Any, argument: Any) -> Any:
        """Judge REDUCE, NEWOBJ or BUILD."""
        kind, given = getattr(target, "kind", ""), getattr(argument, "kind", "")
        if name == "BUILD":
            if kind not in ("dict", "object") or given not in ("dict", "tuple"):
                raise self.refuse(f"it sets the state of {_described(target)} to {_described(argument)}")
            self.copied += argument.length
        elif kind != "name" or given != "tuple":
            raise self.refuse(f"it calls {_described(target)} with {_described(argument)}")
        parts = argument.parts if given == "tuple" else []
        self.copied += len(parts) + sum(getattr(part, "length", 0) for part in parts)
        if self.copied > MAX_COPIED:
            raise self.refuse(f"its pickle copies more than {MAX_COPIED:,} values")
        if name == "BUILD":
            return target
        called = target.parts
        if name == "NEWOBJ" and (argument.length or not isinstance(STAND_INS.get(called), type)):
            raise self.refuse(f"it makes an object of {called} from {_described(argument)}")
        if called.startswith("collections."):
            if any(getattr(part, "kind", "") != "dict" for part in parts) or len(parts) > 1:
                raise self.refuse(f"it calls {called} with something other than a dict")
            return _Made("dict", length=sum(part.length for part in parts))
        if called == "_codecs.encode" and (len(parts) != 2 or parts[1] not in ("latin1", "latin-1")):
            raise self.refuse("it encodes text in another way than latin1")
        return _Made("number" if called in HASHABLE else "object")

    def storage(self, identifier: Any) -> _Made:
        """Note how many elements the storage of a tensor claims."""
        parts: list[Any] = identifier.parts if getattr(identifier, "kind", "") == "tuple" else []
        if self.storages is None or len(parts) not in (5, 6) or parts[0] != "storage":
            raise self.refuse("it refers to something outside the pickle that is not the storage of a tensor")
        key, elements = parts[2], parts[4]
        if type(key) is not str or type(elements) is not int or elements < 0 or parts[5:] not in ([], [None]):
            raise self.refuse("it has a malformed storage of a tensor")
        self.claimed += elements - self.storages.get(key, 0)
        self.storages[key] = elements
        if self.claimed > (size := Path(self.path).stat().st_size):
            raise self.refuse(
                f"it claims tensors of {self.claimed:,} numbers in a file of {size:,} bytes: it is truncated (copy it "
                "again), or was made to claim that"
            )
        return _Made("storage")


def _described(value: Any) -> str:
    return str(value) if isinstance(value, _Made) else f"a value of type {type(value).__name__}"


def check_pickle(
    stream: BinaryIO, path: str, names: Collection[str], storages: dict[Any, int] | None = None
) -> None:
    """Go through the next pickle of a stream without making any value of it; raise if it must not be loaded.

    Args:
        stream: where the pickle begins; afterwards, where it ends.
        path: of the file, for its size and for errors.
        names: `module.name` of everything that it may mention.
        storages: filled with the storages of tensors, key → number of elements; refused if left out.

    Raises:
        RefusedFileError: says what is wrong.
    """
    start = stream.tell()
    try:
        _Check(path, names, storages).run(stream)
    except RefusedFileError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise refused(
            path,
            f"no readable pickle at byte {start} ({str(error)[:200]}). It is truncated, damaged or of another kind",
        ) from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name that `check_pickle` let pass."""
        return {**STAND_INS, **BUILT_IN}[f"{module}.{name}"]


def load_pickle(stream: BinaryIO, path: str) -> Any:
    """Read the next pickle of a stream into plain values, `Record` and `Array`.

    Raises:
        RefusedFileError: if it is damaged or holds anything else. Nothing was run.
    """
    start = stream.tell()
    check_pickle(stream, path, {*STAND_INS, *BUILT_IN})
    end = stream.tell()
    stream.seek(start)
    try:
        value = _Unpickler(io.BytesIO(stream.read(end - start))).load()
    except Exception as error:  # whatever arguments that do not fit make pickle raise
        reason = str(error)[:200]
        raise refused(path, f"no readable pickle ({reason}): it is damaged or made by hand") from error
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
