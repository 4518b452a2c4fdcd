"""Maps of whole images in memory, window by window."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cellcount_jax.inference import tiling
from cellcount_jax.inference.batched_predict import Network, OutOfDeviceMemoryError


def predict_all(
    network: Network, images: Iterable[np.ndarray], *, offset: Sequence[int] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Maps of normalised images [*space, C], in order, cropped to the image.

    Windows of neighbouring images share batches. When a window does not fit into the device's
    memory, the images at hand are cut anew into smaller ones.

    Args:
      network: computes.
      images: images.
      offset: of the grid of windows per axis, see `tiling.spans`.
    """
    waiting: deque[_TiledImage] = deque()
    left = iter(images)

    def windows() -> Iterator[np.ndarray]:
        for tiled in tuple(waiting):
            yield from tiled.rows()
        for image in left:
            waiting.append(_TiledImage(network, image, offset))
            yield from waiting[-1].rows()

    while True:
        try:
            for maps in network.maps(windows()):
                next(p for p in waiting if p.left).place(maps)
                while waiting and not waiting[0].left:
                    yield waiting.popleft().maps()
            return
        except OutOfDeviceMemoryError as error:
            if not network.shrink(error.shape):
                raise
            for tiled in waiting:
                tiled.cut(network)


class _TiledImage:
    """An image whose windows are being computed."""

    def __init__(self, network: Network, image: np.ndarray, offset: Sequence[int] | None):
        self.space, self.offset = image.shape[:-1], offset
        self.image = image
        self.cut(network)

    def cut(self, network: Network) -> None:
        """Begins anew, with windows as the network wants them."""
        self.padded, self.left = network.cut(self.space, offset=self.offset)
        self.image = tiling.pad_to(self.image, self.padded)
        self.whole: dict[str, np.ndarray] = {}

    def rows(self) -> Iterator[np.ndarray]:
        return (self.image[window.read] for window in tuple(self.left))

    def place(self, maps: dict[str, np.ndarray]) -> None:
        """Maps of the next window."""
        window = self.left.pop(0)
        side = window.read[0].stop - window.read[0].start
        for name, part in maps.items():
            stride = side // part.shape[0]
            if name not in self.whole:
                shape = [n // stride for n in self.padded]
                self.whole[name] = np.zeros((*shape, *part.shape[len(shape) :]), np.float32)
            tiling.place(self.whole[name], part, window, stride=stride)

    def maps(self) -> dict[str, np.ndarray]:
        cropped = {}
        for name, value in self.whole.items():
            stride = self.padded[0] // value.shape[0]
            cropped[name] = value[tuple(slice(0, -(-n // stride)) for n in self.space)]
        return cropped
