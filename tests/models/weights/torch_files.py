"""Writes files as torch.save does, opcode by opcode: the tests need no PyTorch."""

import struct
import zipfile

import numpy as np

STORAGES = {
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
}


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + tuple_of(*arguments) + b"R"


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def tensor(
    array: np.ndarray, key: str, *, offset=0, shape=None, strides=None, name="_rebuild_tensor_v2"
) -> bytes:
    """Opcodes of a tensor over the storage `key`, which holds the array in C order."""
    shape = array.shape if shape is None else shape
    if strides is None:
        strides = [step // array.itemsize for step in np.zeros(shape, array.dtype).strides]
    storage = tuple_of(
        text("storage"),
        f"ctorch\n{STORAGES[array.dtype.name]}\n".encode(),
        text(key),
        text("cpu"),
        number(array.size),
    )
    parts = [
        storage + b"Q",
        number(offset),
        tuple_of(*map(number, shape)),
        tuple_of(*map(number, strides)),
    ]
    if name == "_rebuild_tensor_v2":
        parts += [b"\x89", call("collections", "OrderedDict")]
    return call("torch._utils", name, *parts)


def state_dict(tensors: dict[str, bytes]) -> bytes:
    items = b"".join(text(name) + body for name, body in tensors.items())
    return call("collections", "OrderedDict") + b"(" + items + b"u"


def write_zip(path, body: bytes, storages: dict[str, np.ndarray], byteorder=b"little") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program(body))
        archive.writestr("archive/byteorder", byteorder)
        archive.writestr("archive/version", b"3\n")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())


def write_stream(path, body: bytes, storages: dict[str, np.ndarray]) -> None:
    """The format before PyTorch 1.6, with an old file's extra field after the size."""
    magic = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
    info = b"}(" + text("little_endian") + b"\x88u"
    keys = b"](" + b"".join(map(text, storages)) + b"e"
    with open(path, "wb") as file:
        for part in (magic, number(1001), info, body.replace(b"tQ", b"NtQ"), keys):
            file.write(program(part))
        for array in storages.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())


def write_arrays(path, arrays: dict[str, np.ndarray], *, stream=False) -> None:
    """A state dict of whole arrays, one storage each."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    keys = {name: str(i) for i, name in enumerate(arrays)}
    style = "_rebuild_tensor" if stream else "_rebuild_tensor_v2"
    body = state_dict({n: tensor(a, keys[n], name=style) for n, a in arrays.items()})
    write = write_stream if stream else write_zip
    write(path, body, {keys[name]: array for name, array in arrays.items()})
