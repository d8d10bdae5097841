"""Scikit-learn's digits, 8x8, embedded: a run takes seconds on any computer."""

from mcdal.augment import Augment
from mcdal.config import Config, Protocol
from mcdal.models.small import SmallConv
from mcdal.pool.digits import Digits
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training


def digits() -> Config:
    """From 40 labels by 20 to 160, so early that the choice of images still matters."""
    return Config(
        source=Digits(),
        model=SmallConv(width=16),
        strategy=MCDAL(),
        training=Training(
            epochs=10,
            steps_per_epoch=30,
            batch_size=64,
            unlabeled_batch_size=64,
            augment=Augment(crop_padding=1, flip=False, rotation=10.0),
        ),
        protocol=Protocol(start=40, budget=20, rounds=7),
    )
