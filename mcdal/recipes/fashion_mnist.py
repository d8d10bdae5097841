"""Fashion-MNIST, 28x28 grey: from 500 labels by 500 to 5,000 with a ResNet-18 of half the width."""

from pathlib import Path

from mcdal.augment import Augment
from mcdal.config import Config, Protocol, choose_scale
from mcdal.models.resnet import ResNet
from mcdal.pool.idx import FASHION_MNIST, Idx
from mcdal.recipes.base import Scale, small
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training


def fashion_mnist(data: Path, scale: Scale = "full") -> Config:
    """The folder with the four IDX files (train-images-idx3-ubyte and so on), each gzipped or not."""
    full = Config(
        source=Idx(data, classes=FASHION_MNIST, name="fashion_mnist"),
        model=ResNet(depth=18, width=32),
        strategy=MCDAL(),
        training=Training(epochs=40, steps_per_epoch=200, augment=Augment(crop_padding=2, flip=True, rotation=0.0)),
        protocol=Protocol(start=500, budget=500, rounds=10),
    )
    return choose_scale(scale, full=lambda: full, small=lambda: small(full))
