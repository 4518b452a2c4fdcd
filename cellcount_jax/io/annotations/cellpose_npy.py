"""NumPy files, among them Cellpose's `_seg.npy`, without ever executing a pickle.

A `_seg.npy` is a pickled dictionary of arrays. Unpickling may run any code, so the pickle's
instructions are only walked through: calls become inert records, and arrays are rebuilt from the
bytes of those records whose form is NumPy's own.
"""

import dataclasses
import io
import math
import pickletools
import re
from typing import Any

import numpy as np

from cellcount_jax.io.annotations import base

_MAGIC = b"\x93NUMPY"
_PLAIN = re.compile(r"[biuf][1248]|bool")
_MARK = object()
# Instructions that push their argument.
_PUSH = re.compile(
    r"(SHORT_)?BIN(UNICODE|STRING|BYTES)|BIN(UNICODE|BYTES)8|BYTEARRAY8|UNICODE|STRING"
    r"|BININT[12]?|INT|LONG[14]?|(BIN)?FLOAT"
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_IGNORED = frozenset(("PROTO", "FRAME", "STOP", "READONLY_BUFFER"))


@dataclasses.dataclass(eq=False)
class _Call:
    """What a pickle would call, its arguments, and the state it would set."""

    function: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


def is_npy(source: base.Source) -> bool:
    """First bytes of a NumPy file."""
    return source.data.startswith(_MAGIC)


def parse(source: base.Source) -> np.ndarray:
    """The array of a `.npy` file, or the array `masks` of a Cellpose `_seg.npy`."""
    stream = io.BytesIO(source.data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except Exception as error:  # a damaged header fails in the tokeniser, too
        source.fail(f"is a damaged NumPy file ({base.one_line(error)})")
    body = source.data[stream.tell() :]
    if dtype.hasobject:
        return _masks(source, body)
    if dtype.kind not in "biuf":
        source.fail(f"holds values of type {base.quoted(str(dtype))}, not numbers")
    if math.prod(shape) * dtype.itemsize != len(body):
        source.fail("is a damaged NumPy file (its size does not fit its header)")
    return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")


def _masks(source: base.Source, body: bytes) -> np.ndarray:
    try:
        content = _walk(body)
        # np.save wraps the dictionary in an array without axes.
        while isinstance(content, (list, _Call)):
            content = content.state[4] if isinstance(content, _Call) else content[0]
        masks = _array(content["masks"])
    except Exception as error:  # anything can be wrong in a damaged or foreign pickle
        detail = base.one_line(error)
        source.fail(f"is not a readable Cellpose file with an array 'masks' ({detail})")
    return masks.reshape(masks.shape[1:]) if masks.ndim == 3 and len(masks) == 1 else masks


def _array(call: Any) -> np.ndarray:
    """Array described by the record of NumPy's own reconstruction."""
    if not isinstance(call, _Call):
        raise ValueError("no array")
    if call.function.endswith("multiarray._reconstruct"):
        _, shape, kind, fortran, raw = call.state
    elif call.function.endswith("numeric._frombuffer"):
        raw, kind, shape, order = call.arguments
        fortran = order == "F"
    else:
        raise ValueError(f"{call.function} is no array")
    name = kind.arguments[0]
    if kind.function != "numpy.dtype" or not _PLAIN.fullmatch(name):
        raise ValueError("the array does not hold numbers")
    order = kind.state[1] if kind.state and kind.state[1] in ("<", ">") else "="
    flat = np.frombuffer(raw, np.dtype(name).newbyteorder(order))
    return flat.reshape(shape, order="F" if fortran else "C")


def _walk(body: bytes) -> Any:
    """Content of a pickle with every call left undone."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for instruction, argument, _ in pickletools.genops(body):
        name = instruction.name
        if _PUSH.fullmatch(name):
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in _IGNORED:
            _step(name, argument, stack)
    return stack.pop()


def _step(name: str, argument: Any, stack: list[Any]) -> None:
    """One instruction that builds from what lies on the stack."""
    match name:
        case "MARK":
            stack.append(_MARK)
        case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
            stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[name])
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            size = int(name[-1])
            stack[-size:] = [tuple(stack[-size:])]
        case "TUPLE" | "LIST":
            items = _to_mark(stack)
            stack.append(tuple(items) if name == "TUPLE" else items)
        case "DICT":
            items = _to_mark(stack)
            stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        case "APPEND":
            item = stack.pop()
            stack[-1].append(item)
        case "APPENDS":
            items = _to_mark(stack)
            stack[-1].extend(items)
        case "SETITEM":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        case "SETITEMS":
            items = _to_mark(stack)
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        case "GLOBAL":
            stack.append(_Call(argument.replace(" ", ".")))
        case "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_Call(f"{module}.{attribute}"))
        case "REDUCE" | "NEWOBJ":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_Call(function.function, tuple(arguments)))
        case "BUILD":
            state = stack.pop()
            stack[-1].state = state
        case _:
            raise ValueError(f"unexpected instruction {name}")


def _to_mark(stack: list[Any]) -> list[Any]:
    """Takes off the stack what was pushed since the last mark."""
    at = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return items
