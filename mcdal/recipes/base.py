"""The paper's protocol, and the size dial for people without a GPU."""

from dataclasses import replace
from typing import Literal, TypeAlias

from mcdal.config import Config, Protocol
from mcdal.errors import ConfigError
from mcdal.models.resnet import ResNet
from mcdal.pool.base import Source
from mcdal.strategies.base import Strategy
from mcdal.training import Training

Scale: TypeAlias = Literal["full", "small"]

SMALL_MODEL = ResNet(depth=10, width=8)
SMALL_EPOCHS, SMALL_STEPS = 10, 100


def paper(source: Source, strategy: Strategy) -> Config:
    """ResNet-18, SGD .1/.9/5e-4 for 100 epochs of 390 steps, x0.2 at 30, 60 and 80 %, 10 % by 5 % to 40 %: the defaults."""
    return Config(source, ResNet(depth=18), strategy, Training(), Protocol())


def small(full: Config) -> Config:
    """The same protocol for two CPU cores: a narrow ResNet-10 and fewer steps, everything else equal."""
    was, epochs, steps = full.training, SMALL_EPOCHS, SMALL_STEPS
    if not isinstance(full.model, ResNet):
        raise ConfigError(f"no small member of the family of {type(full.model).__name__}")
    note = (
        f"small scale: ResNet-{SMALL_MODEL.depth} of width {SMALL_MODEL.width} in place of ResNet-{full.model.depth} of width "
        f"{full.model.width}, {epochs} x {steps} = {epochs * steps:,} steps a round in place of {was.epochs} x "
        f"{was.steps_per_epoch} = {was.steps:,}; everything else as in the full recipe. "
        "Accuracies are not comparable with the paper's"
    )
    training = replace(was, epochs=epochs, steps_per_epoch=steps)
    return replace(full, model=SMALL_MODEL, training=training, notes=(*full.notes, note))
