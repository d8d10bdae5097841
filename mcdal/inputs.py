"""What a model is given, and what its outputs are called: kept beside its weights, so that it can be used later and elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from mcdal.errors import PoolError
from mcdal.pool.base import LabeledView, Pool
from mcdal.pool.frozen import FeatureImages, Spread


@dataclass(frozen=True)
class Inputs:
    """Of the pool that a model was trained on; a pool that grows has other statistics later.

    classes: by the number of the output. shape: channels, height and width of an image; of features their number, 1, 1.
    mean, std: per channel, of pixels scaled to 0..1. spread: of features, which are shifted and scaled by it; None where there
    is no encoder.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    spread: Spread | None = None

    @classmethod
    def of(cls, pool: Pool) -> "Inputs":
        images, (channels, (height, width)) = pool.images, pool.shape
        spread = images.spread if isinstance(images, FeatureImages) else None
        if spread is not None:  # a mean and deviation of 0 and 1 for each feature, which say nothing
            return cls(pool.classes, (channels, height, width), (), (), spread)
        return cls(pool.classes, (channels, height, width), pool.mean, pool.std)

    def to_text(self) -> dict[str, str]:
        """As metadata of a safetensors file, which are texts."""
        return {"mcdal": json.dumps(asdict(self), ensure_ascii=False)}

    @classmethod
    def from_text(cls, kept: Mapping[str, str]) -> "Inputs | None":
        """What `to_text` gave; None for a file without it."""
        if "mcdal" not in kept:
            return None
        told = json.loads(kept["mcdal"])
        channels, height, width = told["shape"]
        spread = None if told["spread"] is None else Spread(**told["spread"])
        return cls(tuple(told["classes"]), (channels, height, width), tuple(told["mean"]), tuple(told["std"]), spread)

    def on(self, pool: Pool) -> Pool:
        """A later pool of the same source as this model is to see it. PoolError where its images have another shape by now."""
        channels, (height, width) = pool.shape
        if (channels, height, width) != self.shape:
            was, now = ("x".join(map(str, shape)) for shape in (self.shape, (channels, height, width)))
            raise PoolError(
                f"the model was trained on images of {was} (channels, height, width), and they are {now} now: take a later round"
            )
        if self.spread is None:
            return replace(pool, mean=self.mean, std=self.std)
        assert isinstance(pool.images, FeatureImages) and isinstance(pool.test.images, FeatureImages)
        seen = LabeledView(pool.test.images.scaled(self.spread), pool.test.positions, pool.test.y)
        return replace(pool, images=pool.images.scaled(self.spread), test=seen)
