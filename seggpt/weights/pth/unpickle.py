"""An interpreter for the few pickle opcodes that hold tensors, which cannot run anything.

A pickle is a program whose GLOBAL opcode names any function of the process. Here a name is only
looked up in tables; what is not there is refused, and what is there is handled by our own code.
`pickletools.genops`, pure Python and free of side effects, cuts the bytes into opcodes. The stack
machine follows CPython's Lib/pickle.py, the set of opcodes torch/_weights_only_unpickler.py (torch
2.13), less EMPTY_SET, which protocol 2 does not have.
"""

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

MAX_PICKLE_BYTES = 64 << 20
MAX_OPCODES = 400_000  # the published files have about 10,000; with optimiser state 30,000
MAX_STRING = 1 << 20

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
_GETS = {"BINGET", "LONG_BINGET"}
_PUTS = {"BINPUT", "LONG_BINPUT"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OTHERS = {
    *("PROTO", "STOP", "MARK", "EMPTY_LIST", "EMPTY_DICT", "TUPLE", "APPEND", "APPENDS"),
    *("SETITEM", "SETITEMS", "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
}
_ALLOWED = _OTHERS | _LITERALS | _GETS | _PUTS | set(_CONSTANTS) | set(_TUPLES)

_ORDERED_DICT = "collections OrderedDict"
# What the published files hold beside weights: the training options and the losses so far. These
# are kept as what was said about them and never made.
_STUBS = {
    "argparse Namespace",
    "numpy dtype",
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "_codecs encode",
}


class PickleError(ValueError):
    """What is wrong with a pickle, in one line without the file's name."""


@dataclass(frozen=True)
class Global:
    """A name from the tables, e.g. `torch FloatStorage`: compared, never imported."""

    name: str


@dataclass(eq=False, repr=False)
class Stub:
    """An object that was described but not made: its class, its arguments and its state."""

    name: str
    args: Any
    state: Any = None

    def __repr__(self) -> str:
        """Name the class only: the state may be deep, or contain itself."""
        return f"<Stub {self.name}>"


def interpret(
    data: bytes,
    *,
    known: Collection[str],
    call: Callable[[str, tuple[object, ...]], object],
    load: Callable[[object], object],
) -> object:
    """Return the object that a pickle describes.

    `known` are the names, "module name", that `call` can be asked to apply to arguments; `load`
    gets the persistent ids.

    Raises:
        PickleError: for a forbidden opcode or name, a size over the limits, or nonsense.
    """
    _scan(data, {*known, *_STUBS, _ORDERED_DICT})
    machine = _Machine(call, load)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return machine.result()
    except PickleError:
        raise
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise PickleError(f"nonsensical pickle ({type(error).__name__})") from error


def _scan(data: bytes, names: Collection[str]) -> None:
    """Look at every opcode and name before the first is obeyed."""
    if len(data) > MAX_PICKLE_BYTES:
        raise PickleError(f"a pickle of {len(data)} bytes; at most {MAX_PICKLE_BYTES} are read")
    if data[:2] != b"\x80\x02":
        raise PickleError("not a pickle of protocol 2, the one that torch.save writes")
    top_memo = -1
    count = end = 0
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(data), start=1):
            end = (position or 0) + 1
            if opcode.name not in _ALLOWED:
                raise PickleError(f"refused opcode {opcode.name} at byte {position}")
            if count > MAX_OPCODES:
                raise PickleError(f"more than {MAX_OPCODES} opcodes")
            if isinstance(argument, str) and len(argument) > MAX_STRING:
                raise PickleError(f"a string of {len(argument)} characters")
            if opcode.name == "GLOBAL" and argument not in names:
                asked = str(argument)[:100].replace(" ", ".")
                raise PickleError(f"refused global {asked!r}; weights alone do not need it")
            if opcode.name in _PUTS and isinstance(argument, int):
                top_memo = max(top_memo, argument)
    except PickleError:
        raise
    except (ValueError, IndexError, OverflowError, Warning) as error:
        # Warning: genops warns of a backslash in a name, and warnings may be set to raise.
        raise PickleError("damaged pickle") from error
    if end != len(data):
        raise PickleError(f"{len(data) - end} bytes follow the pickle")
    if top_memo >= count:
        raise PickleError(f"memo index {top_memo} in a pickle of {count} opcodes")


class _Machine:
    """The pickle stack machine; one method an opcode family."""

    def __init__(
        self,
        call: Callable[[str, tuple[object, ...]], object],
        load: Callable[[object], object],
    ) -> None:
        self._call, self._load = call, load
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under the open marks
        self._memo: dict[int, Any] = {}

    def result(self) -> object:
        """Return the one object that must be left."""
        if len(self._stack) != 1 or self._below:
            raise PickleError("nonsensical pickle (its stack is not empty at the end)")
        return self._stack[0]

    def step(self, opcode: str, argument: object) -> None:
        """Obey one opcode of the allowed ones."""
        stack = self._stack
        if opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _PUTS and isinstance(argument, int):
            self._memo[argument] = stack[-1]
        elif opcode in _GETS and isinstance(argument, int):
            stack.append(self._memo[argument])
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            items = [stack.pop() for _ in range(_TUPLES[opcode])]
            stack.append(tuple(reversed(items)))
        elif opcode == "MARK":
            self._below.append(stack)
            self._stack = []
        elif opcode in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if opcode == "EMPTY_LIST" else {})
        elif opcode == "TUPLE":
            items = self._since_mark()
            self._stack.append(tuple(items))
        elif opcode in ("APPEND", "APPENDS"):
            self._extend([stack.pop()] if opcode == "APPEND" else self._since_mark())
        elif opcode in ("SETITEM", "SETITEMS"):
            self._update(
                [stack.pop(-2), stack.pop()] if opcode == "SETITEM" else self._since_mark()
            )
        elif opcode == "GLOBAL":
            stack.append(Global(str(argument)))
        elif opcode in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            stack.append(self._make(stack.pop(), arguments, opcode))
        elif opcode == "BUILD":
            self._build(stack.pop())
        elif opcode == "BINPERSID":
            stack.append(self._load(stack.pop()))

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _extend(self, items: list[Any]) -> None:
        if type(target := self._stack[-1]) is not list:
            raise PickleError(f"appends to a {type(target).__name__}")
        target.extend(items)

    def _update(self, items: list[Any]) -> None:
        if type(target := self._stack[-1]) is not dict:
            raise PickleError(f"sets items of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Other keys may take exponential time to hash (nested tuples) or collide by design.
            if type(key) is not str and not (type(key) is int and abs(key) < 1 << 31):
                raise PickleError(f"a dictionary key of type {type(key).__name__}")
            target[key] = value

    def _make(self, function: object, arguments: object, opcode: str) -> object:
        if type(function) is not Global or type(arguments) is not tuple:
            raise PickleError(f"{opcode} of a {type(function).__name__}")
        if function.name in _STUBS:
            return Stub(function.name, arguments)
        if opcode == "NEWOBJ":
            raise PickleError(f"makes a {function.name.replace(' ', '.')} in an unknown way")
        if function.name == _ORDERED_DICT:
            if arguments:
                raise PickleError("makes an OrderedDict in an unknown way")
            return {}
        return self._call(function.name, arguments)

    def _build(self, state: object) -> None:
        target = self._stack[-1]
        if type(target) is Stub:
            target.state = state
        elif type(target) is not dict:  # an OrderedDict's attributes (`_metadata`) are dropped
            raise PickleError(f"sets the state of a {type(target).__name__}")
