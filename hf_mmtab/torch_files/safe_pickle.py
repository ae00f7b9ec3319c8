"""Read pickles of strangers: containers, numbers, text, arrays and inert records come out, nothing is run.

This is an interpreter of the pickle format of its own. It imports nothing that a file names and calls nothing
from a file: a class is only ever compared with a short list of names, and each name on the list stands for one
function in here that looks at plain values. Anything else is refused with its name.
"""

import mmap
import pickletools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from .safe_values import (
    FUNCTIONS,
    KEYS,
    NAMES,
    RECORD_CLASSES,
    Array,
    Dtype,
    Global,
    Ordered,
    Record,
    RefusedFileError,
    kind_of,
    make_array,
)

MAX_OPERATIONS = 60_000_000  # a vocabulary of 2.2 million words (GloVe 840B) takes 15 million
MAX_COPIED = 10_000_000  # values that calls copy: labels and classes, a few thousand in real files
MAX_DEPTH = 100

# Operations whose argument is the value itself.
_LITERALS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
    ]
)


def read_pickle(path: str | Path) -> Any:
    """Read a plain pickle file.

    Returns:
        Containers and plain values; `Record` for the few known classes, `Array` for numpy arrays.

    Raises:
        RefusedFileError: if it is no pickle, is damaged, or holds anything else. Nothing was run.
    """
    with open_mapped(path) as stream:
        return Unpickler(stream, str(path)).load()


def open_mapped(path: str | Path) -> mmap.mmap:
    """Map a file for reading. What is read from it never takes more memory than the file has bytes.

    Raises:
        FileNotFoundError: if there is no such file.
        RefusedFileError: if it is empty.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"Expected a checkpoint file, found nothing at {str(path)!r}.")
    if not Path(path).stat().st_size:
        raise RefusedFileError(f"Refused {str(path)!r}: it is empty. Copy it again.")
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Unpickler:
    """Interprets one or more pickles of a stream.

    Args:
        stream: where the pickle begins in a file, see `open_mapped`.
        path: named in errors.
        functions: what stands behind further names, `(module, name)` → function of the arguments.
        names: further names that may be mentioned, but neither called nor built.
        persistent: what stands behind a persistent id; refused if left out.
    """

    def __init__(
        self,
        stream: mmap.mmap,
        path: str,
        functions: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
        names: frozenset[tuple[str, str]] = frozenset(),
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._stream, self._path, self._persistent = stream, path, persistent
        self._functions: dict[tuple[str, str], Callable[..., Any]] = {**FUNCTIONS, **(functions or {})}
        self._names = RECORD_CLASSES | NAMES | names | set(self._functions)
        self._operations = self._copied = 0

    def refuse(self, what: str) -> RefusedFileError:
        return RefusedFileError(f"Refused {self._path!r}: {what}. Nothing in it was run.")

    def load(self) -> Any:
        """Read the next pickle of the stream."""
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # stacks under each mark
        self._memo: dict[int, Any] = {}
        start = self._stream.tell()
        try:
            for operation, argument, _ in pickletools.genops(cast(BinaryIO, self._stream)):
                self._operations += 1
                if operation.name in _LITERALS:
                    self._stack.append(argument)
                elif (step := _STEPS.get(operation.name)) is not None:
                    step(self, argument)
                else:
                    raise self.refuse(f"its pickle uses {operation.name}, which no known checkpoint needs")
                if self._operations > MAX_OPERATIONS:
                    raise self.refuse(f"its pickle takes more than {MAX_OPERATIONS:,} operations")
            value = self._stack.pop()
        except RefusedFileError:
            raise
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise RefusedFileError(
                f"Refused {self._path!r}: no readable pickle at byte {start} ({error}). "
                "The file is truncated, damaged or of another kind. Nothing in it was run."
            ) from error
        if self._stack or self._below:
            raise self.refuse("its pickle leaves values behind, as none that was written by pickle does")
        self._require_tree(value)
        return value

    def _count_values(self, values: Iterable[Any]) -> None:
        """Count what a call copies, so that one long list cannot be copied a million times."""
        self._copied += sum(len(one) for one in values if isinstance(one, dict | list | tuple | str | bytes))
        if self._copied > MAX_COPIED:
            raise self.refuse(f"its pickle copies more than {MAX_COPIED:,} values")

    def _require_tree(self, value: Any) -> None:
        """Refuse containers that contain themselves, or are too deep for code that walks through them."""
        depth: dict[int, int] = {}
        open_: set[int] = set()
        todo = [(value, False)]
        while todo:
            one, done = todo.pop()
            inside = _inside(one)
            if inside is None:
                continue
            if done:
                open_.discard(id(one))
                depth[id(one)] = 1 + max((depth.get(id(child), 0) for child in inside), default=0)
                if depth[id(one)] > MAX_DEPTH:
                    raise self.refuse(f"its containers are nested deeper than {MAX_DEPTH}")
            elif id(one) in open_:
                raise self.refuse("one of its containers contains itself")
            elif id(one) not in depth:
                open_.add(id(one))
                todo.append((one, True))
                for child in inside:
                    if id(child) in open_:
                        raise self.refuse("one of its containers contains itself")
                    if id(child) not in depth and _inside(child) is not None:
                        todo.append((child, False))

    # --- the stack machine

    def _pop_mark(self) -> list[Any]:
        if not self._below:
            raise ValueError("a mark is missing")
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self, _: Any) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _put(self, index: Any) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _get(self, index: Any) -> None:
        self._stack.append(self._memo[index])

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _append(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise self.refuse(f"its pickle appends to {kind_of(self._stack[-1])}, not to a list")
        self._stack[-1].extend(values)

    def _set_items(self, values: list[Any], target: Any) -> None:
        if type(target) not in (dict, Ordered):
            raise self.refuse(f"its pickle sets items of {kind_of(target)}, not of a dict")
        if len(values) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in KEYS:
                raise self.refuse(f"it uses {kind_of(key)} as the key of a dict")
            target[key] = value

    def _tuple(self, size: int) -> None:
        items = [self._stack.pop() for _ in range(size)]
        self._stack.append(tuple(reversed(items)))

    # --- names and what is made of them

    def _global(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self._push_name(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.refuse("it names a class by something other than text")
        self._push_name(module, name)

    def _push_name(self, module: str, name: str) -> None:
        if (module, name) not in self._names:
            raise self.refuse(
                f"it asks for {module}.{name}, which is not one of the few classes that checkpoints need"
            )
        self._stack.append(Global(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        function = self._functions.get((called.module, called.name)) if type(called) is Global else None
        if function is None or type(arguments) is not tuple:
            raise self.refuse(f"it calls {kind_of(called)} with {kind_of(arguments)}")
        self._count_values(arguments)
        try:
            self._stack.append(function(*arguments))
        except RefusedFileError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self.refuse(f"it calls {called} with arguments that do not fit ({error})") from error

    def _new_object(self, _: Any) -> None:
        arguments, of = self._stack.pop(), self._stack.pop()
        if type(of) is not Global or (of.module, of.name) not in RECORD_CLASSES or arguments != ():
            raise self.refuse(f"it makes an object of {kind_of(of)} from {kind_of(arguments)}")
        self._stack.append(Record(str(of)))

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        self._count_values([state] if type(state) is dict else [*state] if type(state) is tuple else [])
        if type(target) is Record and type(state) is dict and all(type(key) is str for key in state):
            target.attributes.update(state)
        elif type(target) is Ordered and type(state) is dict:
            pass  # `_metadata` of a state dict: versions of modules, not needed
        elif (
            type(target) is Dtype and type(state) is tuple and len(state) >= 2 and state[1] in ("<", ">", "|")
        ):
            target.order = state[1]
        elif type(target) is Array and target.values is None and type(state) is tuple and len(state) == 5:
            target.values = make_array(*state[1:])
        else:
            raise self.refuse(f"it sets the state of {kind_of(target)} to {kind_of(state)}")

    def _persistent_id(self, _: Any) -> None:
        identifier = self._stack.pop()
        if self._persistent is None:
            raise self.refuse("it refers to something outside the pickle, which only tensor files may")
        self._stack.append(self._persistent(identifier))


def _inside(value: Any) -> Any:
    if type(value) in (list, tuple):
        return value
    if type(value) in (dict, Ordered):
        return value.values()
    return value.attributes.values() if type(value) is Record else None


def _push(make: Callable[[Unpickler, Any], Any]) -> Callable[[Unpickler, Any], None]:
    def step(machine: Unpickler, argument: Any) -> None:
        made = make(machine, argument)  # may take the stack down to the last mark
        machine._stack.append(made)

    return step


def _marked_dict(machine: Unpickler, _: Any) -> dict:
    made: dict = {}
    machine._set_items(machine._pop_mark(), made)
    return made


def _set_marked(machine: Unpickler, _: Any) -> None:
    items = machine._pop_mark()
    machine._set_items(items, machine._stack[-1])


def _set_one(machine: Unpickler, _: Any) -> None:
    value, key = machine._stack.pop(), machine._stack.pop()
    machine._set_items([key, value], machine._stack[-1])


_STEPS: dict[str, Callable[[Unpickler, Any], None]] = {
    **{name: lambda machine, _: None for name in ("PROTO", "FRAME", "STOP")},
    "MARK": Unpickler._mark,
    "POP": Unpickler._pop,
    "POP_MARK": lambda machine, _: (machine._pop_mark(), None)[1],
    "DUP": Unpickler._dup,
    **{name: Unpickler._put for name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")},
    **{name: Unpickler._get for name in ("GET", "BINGET", "LONG_BINGET")},
    "NONE": _push(lambda machine, _: None),
    "NEWTRUE": _push(lambda machine, _: True),
    "NEWFALSE": _push(lambda machine, _: False),
    "EMPTY_LIST": _push(lambda machine, _: []),
    "LIST": _push(lambda machine, _: machine._pop_mark()),
    "APPEND": lambda machine, _: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine, _: machine._append(machine._pop_mark()),
    "EMPTY_DICT": _push(lambda machine, _: {}),
    "DICT": _push(_marked_dict),
    "SETITEM": _set_one,
    "SETITEMS": _set_marked,
    "EMPTY_TUPLE": _push(lambda machine, _: ()),
    "TUPLE": _push(lambda machine, _: tuple(machine._pop_mark())),
    "TUPLE1": lambda machine, _: machine._tuple(1),
    "TUPLE2": lambda machine, _: machine._tuple(2),
    "TUPLE3": lambda machine, _: machine._tuple(3),
    "GLOBAL": Unpickler._global,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "NEWOBJ": Unpickler._new_object,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent_id,
}
