"""Writes the smallest Nikon ND2 file (version 3) that the nd2 package reads, for tests."""

import struct
from typing import Any

import numpy as np

_MAGIC = 0x0ABECEDA
_HEADER = 24 + 4072
"""Bytes before a frame's pixels in its chunk: header, padded name, time stamp."""


def nd2_bytes(
    stack: np.ndarray, *, step: float, pixel: float | None, channels: tuple[str, ...]
) -> bytes:
    """A z-stack.

    Args:
      stack: [Z, Y, X, C] uint16.
      step: Micrometres between planes.
      pixel: Micrometres per pixel; None if not calibrated.
      channels: names.
    """
    depth, height, width, count = stack.shape
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": width * count * 2,
        "uiHeight": height,
        "uiComp": count,
        "uiBpcInMemory": 16,
        "uiBpcSignificant": 16,
        "uiSequenceCount": depth,
    }
    dye = {"m_ExcitationSpectrum": {"uiCount": 0}}
    planes = {
        f"a{i}": {"uiCompCount": 1, "sDescription": n, "pFluorescentProbe": dye}
        for i, n in enumerate(channels)
    }
    metadata = {
        "dCalibration": pixel or 1.0,
        "bCalibrated": pixel is not None,
        "sPicturePlanes": {"uiCount": count, "uiCompCount": count, "sPlaneNew": planes},
    }
    experiment = {"eType": 4, "uLoopPars": {"uiCount": depth, "dZStep": step}}
    file = _chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
    places: dict[bytes, tuple[int, int]] = {}
    for name, value in (
        (b"ImageAttributesLV!", _level("SLxImageAttributes", attributes)),
        (b"ImageMetadataSeqLV|0!", _level("SLxPictureMetadata", metadata)),
        (b"ImageMetadataLV!", _level("SLxExperiment", experiment)),
        *(
            (b"ImageDataSeq|%d!" % i, bytes(8) + np.ascontiguousarray(plane).tobytes())
            for i, plane in enumerate(stack)
        ),
    ):
        places[name] = len(file), len(value)
        file += _chunk(name, value, _HEADER - 24)
    table = b"".join(name + struct.pack("QQ", *place) for name, place in places.items())
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    table += end + bytes(16)
    start = len(file)
    file += _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", table, 32)
    return file + end + struct.pack("Q", start)


def _chunk(name: bytes, data: bytes, width: int) -> bytes:
    return struct.pack("IIQ", _MAGIC, width, len(data)) + name.ljust(width, b"\0") + data


def _level(name: str, values: dict[str, Any]) -> bytes:
    """A named group of Nikon's binary metadata."""
    items = b"".join(_item(key, value) for key, value in values.items())
    head = _named(11, name)
    length = len(head) + 12 + len(items)
    return head + struct.pack("<IQ", len(values), length) + items + bytes(8 * len(values))


def _item(name: str, value: Any) -> bytes:
    if isinstance(value, dict):
        return _level(name, value)
    if isinstance(value, bool):
        return _named(1, name) + struct.pack("B", value)
    if isinstance(value, int):
        return _named(3, name) + struct.pack("I", value)
    if isinstance(value, float):
        return _named(6, name) + struct.pack("d", value)
    return _named(8, name) + value.encode("utf-16-le") + b"\0\0"


def _named(kind: int, name: str) -> bytes:
    return struct.pack("BB", kind, len(name) + 1) + name.encode("utf-16-le") + b"\0\0"
