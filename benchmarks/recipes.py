"""The two small, fixed protocols that every strategy is compared under on two cores: minutes a run, seconds a round."""

from dataclasses import dataclass, replace
from pathlib import Path

from mcdal import Augment, Config, Pool, Protocol, Source, Training
from mcdal.events import Listener, nobody
from mcdal.models.small import SmallConv
from mcdal.pool.base import ArrayImages, LabeledView
from mcdal.pool.digits import Digits
from mcdal.pool.idx import FASHION_MNIST, Idx
from mcdal.strategies.mcdal import MCDAL

POOL, TEST = 6_000, 5_000


@dataclass(frozen=True)
class First(Source):
    """The first images of another source: enough to compare on, few enough to be measured in a second."""

    of: Source
    """The whole."""
    pool: int
    """Images of the pool that are kept."""
    test: int
    """Test images that are kept."""

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        whole = self.of.open(cache, listen)
        assert isinstance(whole.images, ArrayImages) and whole.targets is not None
        images = ArrayImages(whole.images.ids[: self.pool], whole.images.pixels[: self.pool])
        test = LabeledView(whole.test.images, whole.test.positions[: self.test], whole.test.y[: self.test])
        fingerprint = f"{whole.fingerprint}, first {self.pool} and {self.test}"
        return replace(whole, images=images, targets=whole.targets[: self.pool], test=test, fingerprint=fingerprint)


def digits() -> Config:
    """Scikit-learn's digits: 1,258 images of 8x8, from 20 labels by 20 to 120; 200 steps of batch 32."""
    augment = Augment(crop_padding=1, flip=False, rotation=10.0)
    training = Training(
        epochs=10, steps_per_epoch=20, batch_size=32, unlabeled_batch_size=32, augment=augment, precision="float32"
    )
    return Config(Digits(), SmallConv(width=16), MCDAL(), training, Protocol(start=20, budget=20, rounds=6), gallery=0)


def fashion(data: Path) -> Config:
    """Fashion-MNIST: its first 6,000 images, from 100 labels by 100 to 500; 500 steps of batch 64. Tested on 5,000."""
    augment = Augment(crop_padding=2, flip=True, rotation=0.0)
    training = Training(
        epochs=10, steps_per_epoch=50, batch_size=64, unlabeled_batch_size=64, augment=augment, precision="float32"
    )
    source = First(Idx(data, classes=FASHION_MNIST, name="fashion_mnist"), POOL, TEST)
    return Config(source, SmallConv(width=16), MCDAL(), training, Protocol(start=100, budget=100, rounds=5), gallery=0)
