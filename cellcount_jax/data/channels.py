"""From an image's number of channels to a network's."""

import numpy as np


def adapt_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Brings [*space, C] to a network's number of channels.

    Raises:
      ValueError: there is no plain way from one number to the other.
    """
    given = pixels.shape[-1]
    if given == channels:
        return pixels
    if given == 1:
        return np.repeat(pixels, channels, axis=-1)
    if (given, channels) == (2, 3):
        return np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=-1)
    if (given, channels) == (3, 1):
        # In this order for any memory layout, so that a part equals the part of the whole.
        return (pixels[..., :1] + pixels[..., 1:2] + pixels[..., 2:]) / np.float32(3)
    raise ValueError(
        f"the image has {given} channels and the network takes {channels}; choose which with "
        "the option channels"
    )
