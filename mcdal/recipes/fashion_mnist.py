"""Fashion-MNIST, 28x28 grey: from 500 labels by 500 to 5,000 with a small ResNet."""

from pathlib import Path

from mcdal.augment import Augment
from mcdal.config import Config, Protocol, choose_scale
from mcdal.models.resnet import ResNet
from mcdal.models.small import SmallConv
from mcdal.pool.idx import FASHION_MNIST, Idx
from mcdal.recipes.base import Scale
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training


def fashion_mnist(data: Path, scale: Scale = "full") -> Config:
    """The folder with the four IDX files (train-images-idx3-ubyte and so on), each gzipped or not."""
    augment = Augment(crop_padding=2, flip=True, rotation=0.0)
    full = Config(
        source=Idx(data, classes=FASHION_MNIST, name="fashion_mnist"),
        model=ResNet(depth=18, width=32),
        strategy=MCDAL(),
        training=Training(epochs=40, steps_per_epoch=200, augment=augment),
        protocol=Protocol(start=500, budget=500, rounds=10),
    )
    note = "small scale: a small convolutional network and 10 x 50 = 500 steps a round in place of ResNet-18 and 8,000"
    small = Config(
        source=full.source,
        model=SmallConv(width=32),
        strategy=MCDAL(),
        training=Training(epochs=10, steps_per_epoch=50, augment=augment),
        protocol=full.protocol,
        notes=(note,),
    )
    return choose_scale(scale, full=lambda: full, small=lambda: small)
