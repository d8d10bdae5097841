"""CIFAR-10 as the published code runs it, flaws included: to measure what they do, not to use."""

from dataclasses import replace
from pathlib import Path

from mcdal.config import Config, choose_scale
from mcdal.pool.cifar import Cifar
from mcdal.recipes.base import Scale, paper, small
from mcdal.schedule import Optimization
from mcdal.strategies.mcdal import MCDAL
from mcdal.training import Training

NOTE = (
    "published settings: 99 epochs, a warm-up that overshoots, CIFAR-100's mean and deviation, augmented pool images when "
    "measuring and no last partial batch, and (with MCDAL) BatchNorm statistics moved by unlabeled images"
)


def cifar10_published(data: Path, scale: Scale = "full") -> Config:
    """The folder with CIFAR-10: its python or binary batches, or Parquet as Hugging Face writes it."""
    source = Cifar(data, classes=10, statistics="cifar100")
    # The published milestones are epochs 30, 60 and 80, counted from 1; with 99 epochs that is 29, 59 and 79 of them.
    optimization = Optimization(milestones=(29 / 99, 59 / 99, 79 / 99), published_warmup=True)
    training = Training(
        epochs=99, optimization=optimization, published_sampling=True, precision="float32", compile=False
    )
    full = replace(paper(source, MCDAL(published=True)), training=training, notes=(NOTE,))
    return choose_scale(scale, full=lambda: full, small=lambda: small(full))
