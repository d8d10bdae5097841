"""How images look, as short vectors: those of near-duplicates point the same way."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.nn import functional as F

from mcdal.pool.base import Images
from mcdal.pool.places import Places

SIDE = 16
"""Images are compared at this many pixels: what differs by compression, light, or a few pixels of place is then alike."""
AT_ONCE = 1_024

# Tried on CIFAR-10 and CamVid: copies that were compressed again or made lighter have .98 and more, those cut at the border by
# 3 % mostly .95 to .98; of 8,000 different images of CIFAR-10 four have another one above .97.
NEAR = 0.97
"""The cosine from which two count as near-duplicates, where nobody says another one."""


class Likeness:
    """Of images as a person sees them, whatever a model is given."""

    def __init__(self, images: Images):
        self._images = images
        self._places: Places | None = None

    def of(self, ids: Sequence[str]) -> Float[np.ndarray, "k d"]:
        """A vector of length 1 for each: the image at SIDE x SIDE pixels less the mean of each channel; 0 of a blank one."""
        if self._places is None:
            self._places = Places(self._images.ids)
        return self.at(np.array([self._places[id] for id in ids], dtype=np.int64))

    def at(self, positions: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k d"]:
        """As `of`, by their places."""
        if not len(positions):
            return np.empty((0, 1), dtype=np.float32)
        pictures = np.stack([self._images.picture(int(i)) for i in positions])
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        small = F.interpolate(x, (SIDE, SIDE), mode="area")
        vectors: Float[np.ndarray, "k d"] = F.normalize(
            (small - small.mean(dim=(2, 3), keepdim=True)).flatten(1), dim=1
        ).numpy()
        return vectors

    def parts(self) -> Iterator[tuple[Int[np.ndarray, " k"], Float[np.ndarray, "k d"]]]:
        """All in their order, part by part: places and vectors."""
        for first in range(0, len(self._images), AT_ONCE):
            places = np.arange(first, min(first + AT_ONCE, len(self._images)))
            yield places, self.at(places)
