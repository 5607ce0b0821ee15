"""A pickle interpreter that cannot run code: a closed set of opcodes over inert values.

Python's own unpickler imports what a file names and calls it. This one knows the opcodes that
torch.save produces (protocols 2 to 5), makes plain data of them, and looks names up in the closed list
of `torch_calls`. Opcodes, strings and memo are bounded, containers are never hashed or compared, so
neither nested tuples nor shared ones can cost more than the bytes that wrote them.

Reference: pickletools.py of CPython, which describes every opcode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from porting.checkpoint.torch.calls import CALLS, call, resolve, storage
from porting.checkpoint.torch.machine import Machine
from porting.checkpoint.torch.values import Global, Leaf, Mapped, NumpyType, PickleError, StorageRef

OPCODES = 4_000_000
"""At most; a tensor takes about 30, so this is room for 100,000 tensors."""

INTEGER = 128
"""Bytes of an integer at most."""


def load(data: memoryview, at: int = 0, *, persistent: bool = True) -> tuple[Any, int, dict[str, StorageRef]]:
    """The value that the pickle at `at` holds, the offset behind it, and the storages it refers to by key.

    persistent: whether references to storages may occur.
    Raises: PickleError with the offset of the opcode at fault.
    """
    machine = Machine(data, at, persistent=persistent)
    for _ in range(OPCODES):
        begin = machine.at
        if begin >= machine.end:
            raise PickleError("cut off", begin)
        code = data[begin]
        machine.at = begin + 1
        try:
            if code == 0x2E:  # STOP
                return machine.pop(), machine.at, machine.storages
            _STEPS.get(code, _refused)(machine)
        except PickleError as error:
            raise PickleError(error.problem, begin if error.offset is None else error.offset) from None
    raise PickleError(f"more than {OPCODES} opcodes", machine.at)


def _refused(machine: Machine) -> None:
    import pickletools

    code = machine.data[machine.at - 1]
    name = next((kind.name for kind in pickletools.opcodes if ord(kind.code) == code), f"0x{code:02x}")
    raise PickleError(f"opcode {name}, which torch.save does not write")


def _text(machine: Machine, length: int) -> None:
    machine.spend(length)
    try:
        machine.stack.append(str(machine.take(length), "utf-8"))
    except UnicodeDecodeError:
        raise PickleError("a string that is not UTF-8") from None


def _bytes(machine: Machine, length: int) -> None:
    machine.spend(length)
    machine.stack.append(Leaf("bytes", bytes(machine.take(length))))


def _integer(machine: Machine, length: int) -> None:
    if not 0 <= length <= INTEGER:
        raise PickleError(f"an integer of {length} bytes (at most {INTEGER})")
    machine.stack.append(machine.integer(length))


def _proto(machine: Machine) -> None:
    if not 2 <= machine.natural(1) <= 5:
        raise PickleError("wanted pickle protocol 2 to 5")


def _frame(machine: Machine) -> None:
    # A frame only says how far to read ahead; one that reaches beyond the file is damage.
    length = machine.natural(8)
    if length > machine.end - machine.at:
        raise PickleError(f"a frame of {length} bytes, {machine.end - machine.at} are left")


def _global(machine: Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.stack.append(resolve(module, name))


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise PickleError("a name that is not text")
    machine.stack.append(resolve(module, name))


def _put(machine: Machine, index: int) -> None:
    machine.memo[index] = machine.top()


def _get(machine: Machine, index: int) -> None:
    try:
        machine.stack.append(machine.memo[index])
    except KeyError:
        raise PickleError(f"memo {index} is not set") from None


def _tuple(machine: Machine, count: int) -> None:
    items = [machine.pop() for _ in range(count)]
    machine.stack.append(tuple(reversed(items)))


def _pop(machine: Machine) -> None:
    machine.pop()


def _pop_mark(machine: Machine) -> None:
    machine.popped_to_mark()


def _append(machine: Machine, items: list[Any]) -> None:
    target = machine.top()
    if type(target) is not list:
        raise PickleError("items for something that is not a list")
    target.extend(items)


def _add_items(machine: Machine) -> None:
    items = machine.popped_to_mark()
    target = machine.top()
    if not isinstance(target, Leaf) or target.kind != "set":
        raise PickleError("items for something that is not a set")
    target.value.extend(items)


def _set_items(machine: Machine, items: list[Any]) -> None:
    target = machine.top()
    if not isinstance(target, Mapped) or len(items) % 2:
        raise PickleError("items for something that is not a mapping")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Numbers within 64 bits, so that nobody can choose keys that all hash to one value.
        if not (key is None or type(key) in {str, bool, float} or (type(key) is int and -(1 << 63) <= key < 1 << 64)):
            raise PickleError(f"a key that is neither text nor a number but a {type(key).__name__}")
        target[key] = value


_SIZED = (str, list, tuple, dict)


def _reduce(machine: Machine) -> None:
    args, function = machine.pop(), machine.pop()
    if isinstance(args, tuple):
        # What a call copies counts like text: a long list is written once and may be passed many times.
        machine.spend(
            sum(len(arg) if isinstance(arg, str) else 64 * len(arg) for arg in args if isinstance(arg, _SIZED))
        )
    machine.stack.append(call(function, args))


def _new_object(machine: Machine) -> None:
    args, kind = machine.pop(), machine.pop()
    if not isinstance(kind, Global) or kind.name not in {"argparse.Namespace", "collections.OrderedDict"} or args != ():
        raise PickleError("an object that is not plain data: a pickle of a whole module?")
    machine.stack.append(CALLS[kind.name]())


def _build(machine: Machine) -> None:
    state, target = machine.pop(), machine.top()
    if isinstance(target, Mapped) and isinstance(state, Mapped):
        machine.spend(64 * len(state))
        target.build(state)
    elif isinstance(target, NumpyType) and isinstance(state, tuple) and len(state) > 1 and isinstance(state[1], str):
        target.order = ">" if state[1] == ">" else "<"
    else:
        raise PickleError("a state for something that has none")


def _persistent_id(machine: Machine) -> None:
    pid = machine.pop()
    if not machine.persistent:
        raise PickleError("a reference to a storage outside the tensors' pickle")
    machine.stack.append(storage(pid, machine.storages))


def _push(make: Callable[[], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine.stack.append(make())


_STEPS: dict[int, Callable[[Machine], None]] = {
    0x80: _proto,
    0x95: _frame,
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("0"): _pop,
    ord("1"): _pop_mark,
    ord("2"): lambda m: m.stack.append(m.top()),
    ord("N"): _push(lambda: None),
    0x88: _push(lambda: True),
    0x89: _push(lambda: False),
    ord(")"): _push(tuple),
    ord("]"): _push(list),
    ord("}"): _push(Mapped),
    0x8F: _push(lambda: Leaf("set", [])),
    0x90: _add_items,
    0x91: lambda m: m.stack.append(Leaf("set", m.popped_to_mark())),
    ord("K"): lambda m: m.stack.append(m.natural(1)),
    ord("M"): lambda m: m.stack.append(m.natural(2)),
    ord("J"): lambda m: m.stack.append(m.integer(4)),
    ord("G"): lambda m: m.stack.append(m.real()),
    0x8A: lambda m: _integer(m, m.natural(1)),
    0x8B: lambda m: _integer(m, m.integer(4)),
    ord("X"): lambda m: _text(m, m.natural(4)),
    0x8C: lambda m: _text(m, m.natural(1)),
    0x8D: lambda m: _text(m, m.natural(8)),
    ord("U"): lambda m: _text(m, m.natural(1)),  # text of Python 2, which torch reads as UTF-8
    ord("T"): lambda m: _text(m, m.natural(4)),
    ord("C"): lambda m: _bytes(m, m.natural(1)),
    ord("B"): lambda m: _bytes(m, m.natural(4)),
    0x8E: lambda m: _bytes(m, m.natural(8)),
    0x96: lambda m: _bytes(m, m.natural(8)),
    ord("q"): lambda m: _put(m, m.natural(1)),
    ord("r"): lambda m: _put(m, m.natural(4)),
    0x94: lambda m: _put(m, len(m.memo)),
    ord("h"): lambda m: _get(m, m.natural(1)),
    ord("j"): lambda m: _get(m, m.natural(4)),
    0x85: lambda m: _tuple(m, 1),
    0x86: lambda m: _tuple(m, 2),
    0x87: lambda m: _tuple(m, 3),
    ord("t"): lambda m: m.stack.append(tuple(m.popped_to_mark())),
    ord("l"): lambda m: m.stack.append(m.popped_to_mark()),
    ord("a"): lambda m: _append(m, [m.pop()]),
    ord("e"): lambda m: _append(m, m.popped_to_mark()),
    ord("s"): lambda m: _set_items(m, [m.pop(), m.pop()][::-1]),
    ord("u"): lambda m: _set_items(m, m.popped_to_mark()),
    ord("c"): _global,
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _new_object,
    ord("b"): _build,
    ord("Q"): _persistent_id,
}
