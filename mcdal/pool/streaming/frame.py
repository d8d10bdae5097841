"""What every image of a pool is made: one shape, one number of channels, or bad."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from mcdal.pool.decode import Bad, Decoder
from mcdal.pool.loading import with_channels
from mcdal.pool.streaming.aside import Aside
from mcdal.pool.streaming.format import Bytes


@dataclass(frozen=True)
class Frame:
    """shape: height and width in pixels of every image of the pool."""

    decoder: Decoder
    shape: tuple[int, int]
    channels: int

    def pixels(self, encoded: Bytes) -> UInt8[np.ndarray, "h w c"] | Bad:
        """One image, grey repeated where the others are in colour."""
        decoded = self.decoder.decode(encoded)
        if isinstance(decoded, Bad):
            return decoded
        height, width, channels = decoded.pixels.shape
        if (height, width) != self.shape:
            return Bad(
                f"{width}x{height} pixels where others have {self.shape[1]}x{self.shape[0]}: give source.size a side to scale to"
            )
        if channels > self.channels:
            return Bad("in colour where others are grey: give source.channels=3")
        return with_channels(decoded.pixels, self.channels)

    def batch(self, ids: Sequence[str], encoded: Sequence[Bytes], aside: Aside) -> UInt8[np.ndarray, "b h w c"]:
        """Some images. One that is set aside is black here, and its id is in `aside`."""
        made = np.zeros((len(ids), *self.shape, self.channels), dtype=np.uint8)
        for i, (id, image) in enumerate(zip(ids, encoded, strict=True)):
            if id in aside:
                continue
            pixels = self.pixels(image)
            if isinstance(pixels, Bad):
                aside.note(id, pixels)
            else:
                made[i] = pixels
        return made
