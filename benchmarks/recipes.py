"""The small, fixed protocols that every strategy is compared under on two cores: minutes a run, seconds a round."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from mcdal import Augment, Config, Pool, Protocol, Source, Training
from mcdal.encoders.efficientnet_lite0 import EfficientNetLite0
from mcdal.events import Listener, nobody
from mcdal.models.resnet import ResNet
from mcdal.models.small import SmallConv
from mcdal.pool.base import ArrayImages, LabeledView
from mcdal.pool.caltech101 import FOLDER, Caltech101
from mcdal.pool.cifar import Cifar
from mcdal.pool.digits import Digits
from mcdal.pool.idx import FASHION_MNIST, Idx
from mcdal.recipes.base import frozen
from mcdal.recipes.cifar10 import cifar10
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


def cifar10_scratch(data: Path) -> Config:
    """CIFAR-10, all 50,000 images, from 1,000 labels by 1,000 to 5,000: a ResNet-10 of width 8, 1,000 steps of batch 64."""
    small = cifar10(data, "small")
    training = replace(small.training, batch_size=64, unlabeled_batch_size=64)
    return replace(small, training=training, protocol=Protocol(start=1_000, budget=1_000, rounds=5), gallery=0)


def cifar10_gpu(data: Path) -> Config:
    """The same start and budgets for a GPU: a ResNet-18 of width 32, 4,000 steps of batch 128, in which it learns all labels.

    Not compiled: that takes longer than a round.
    """
    full = cifar10(data)
    training = replace(full.training, epochs=20, steps_per_epoch=200, compile=False)
    protocol = Protocol(start=1_000, budget=1_000, rounds=5)
    return replace(full, model=ResNet(depth=18, width=32), training=training, protocol=protocol, gallery=0)


ENCODED = EfficientNetLite0(size=96)
ENCODED_POOL = 10_000


def cifar10_frozen(data: Path) -> Config:
    """CIFAR-10: its first 10,000 images through EfficientNet-Lite0 at 96 pixels, from 50 labels by 50 to 250."""
    source = First(Cifar(data, classes=10), ENCODED_POOL, TEST)
    return _heads(Config(source, SmallConv(), MCDAL(), protocol=Protocol(start=50, budget=50, rounds=5), gallery=0))


def cifar10_frozen_tenth(data: Path) -> Config:
    """The same pool under the paper's protocol: from 10 % by 5 % to 40 %."""
    return tenth(cifar10_frozen(data))


def fashion_frozen(data: Path) -> Config:
    """Fashion-MNIST: its first 10,000 images through the same encoder, from 50 labels by 50 to 250."""
    source = First(Idx(data, classes=FASHION_MNIST, name="fashion_mnist"), ENCODED_POOL, TEST)
    return _heads(Config(source, SmallConv(), MCDAL(), protocol=Protocol(start=50, budget=50, rounds=5), gallery=0))


def fashion_frozen_tenth(data: Path) -> Config:
    """The same pool under the paper's protocol: from 10 % by 5 % to 40 %."""
    return tenth(fashion_frozen(data))


def folders_frozen(data: Path) -> Config:
    """Folders as Caltech-101's (`make_folders`), through the same encoder, from 90 labels by 90 to 450."""
    source = Caltech101(data)
    return _heads(Config(source, SmallConv(), MCDAL(), protocol=Protocol(start=90, budget=90, rounds=5), gallery=0))


def tenth(config: Config) -> Config:
    """From 10 % of the pool by 5 % to 40 %, with three times the steps: a head on thousands of labels needs them."""
    training = replace(config.training, steps_per_epoch=30)
    return replace(config, training=training, protocol=Protocol(start=0.1, budget=0.05, rounds=7))


def _heads(config: Config) -> Config:
    made = frozen(config, ENCODED)
    training = replace(
        made.training, steps_per_epoch=10, batch_size=64, unlabeled_batch_size=64, precision="float32"
    )  # 100 steps a round
    return replace(made, training=training)


LARGEST, SMALLEST = 800, 31
"""Images of Caltech-101's largest class and of its smallest."""


def make_folders(cifar: Path, fashion: Path, to: Path) -> Path:
    """Thirty class folders in Caltech-101's layout, of CIFAR-10's, Fashion-MNIST's and the digits' classes.

    Their sizes fall geometrically from 800 to 31 in an order that mixes the three; Caltech-101 itself is not at hand.
    """
    classes = list(_classes(cifar, fashion, to.parent / "cache"))
    sizes = np.geomspace(LARGEST, SMALLEST, len(classes)).round().astype(int)
    order = np.random.default_rng(0).permutation(len(classes))
    for place, size in zip(order, sizes, strict=True):
        name, pixels = classes[place]
        folder = to / FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(pixels[:size], 1):
            file = folder / f"image_{i:04d}.png"
            if not file.exists():
                sink = io.BytesIO()
                Image.fromarray(image.squeeze()).resize((64, 64), Image.Resampling.BICUBIC).save(sink, "PNG")
                file.write_bytes(sink.getvalue())
    return to


def _classes(cifar: Path, fashion: Path, cache: Path) -> Iterator[tuple[str, np.ndarray]]:
    sources = {"cifar": Cifar(cifar, classes=10), "fashion": Idx(fashion, classes=FASHION_MNIST), "digit": Digits()}
    for kind, source in sources.items():
        pool = source.open(cache)
        assert isinstance(pool.images, ArrayImages) and pool.targets is not None
        for c, name in enumerate(pool.classes):
            pixels = pool.images.pixels[np.flatnonzero(pool.targets == c)[:LARGEST]]
            yield f"{kind}_{name.lower().replace('/', '-').replace(' ', '_')}", pixels
