"""The paper's protocol, and the size dial for people without a GPU."""

from dataclasses import replace
from typing import Literal, TypeAlias

from mcdal.augment import Augment
from mcdal.config import Config, Protocol
from mcdal.encoders.base import Encoder
from mcdal.errors import ConfigError
from mcdal.models.drn import DRN
from mcdal.models.probe import Probe
from mcdal.models.resnet import ResNet
from mcdal.models.small_segmentation import SmallSegmentation
from mcdal.pool.base import Source
from mcdal.scenes import SceneAugment
from mcdal.schedule import Optimization
from mcdal.strategies.base import Strategy
from mcdal.training import Training

Scale: TypeAlias = Literal["full", "small"]

MEASURED_AT_ONCE = 1_024
SMALL_MODEL = ResNet(depth=10, width=8)
SMALL_EPOCHS, SMALL_STEPS = 10, 100

# Tried on CamVid, judged on its val drive: in 1,200 steps all 367 scenes give a mean IoU of 48, 145 of them 48 and 37 of them 39.
# Without weights pole, sign, pedestrian and bicyclist stay at 0 (42 with all); batches of 8 are as good and cost twice as much;
# scaling the scenes at random costs 4 points in so few steps.
SCENE_EPOCHS, SCENE_STEPS, SCENE_BATCH = 10, 120, 4
SCENE_OPTIMIZATION = Optimization(lr=0.1, milestones=(0.6, 0.85))

# Tried on CIFAR-10 through EfficientNet-Lite0 at 100, 1,000 and 10,000 labels: a third or three times the rate, a twentieth or
# five times the decay change the accuracy by less than a point, but for the lower rate at 10,000 (-3 points).
HEAD_EPOCHS, HEAD_STEPS, HEAD_BATCH, HEAD_RATE, HEAD_DECAY = 10, 20, 256, 0.01, 0.01


def paper(source: Source, strategy: Strategy) -> Config:
    """ResNet-18, SGD .1/.9/5e-4 for 100 epochs of 390 steps, x0.2 at 30, 60 and 80 %, 10 % by 5 % to 40 %: the defaults.

    But for the images of a forward pass: on a GPU, 512 of 32x32 are done before the next ones are launched.
    """
    return Config(source, ResNet(depth=18), strategy, Training(measure_batch_size=MEASURED_AT_ONCE), Protocol())


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
    training = replace(was, epochs=epochs, steps_per_epoch=steps, measure_batch_size=Training.measure_batch_size)
    return replace(full, model=SMALL_MODEL, training=training, notes=(*full.notes, note))


def scenes(
    source: Source, strategy: Strategy, protocol: Protocol, crop: tuple[int, int], steps_per_epoch: int
) -> Config:
    """The paper's segmentation: DRN-D-22 from scratch, SGD at 1e-3 for 150 epochs in batches of 8, x0.1 after 100 of them.

    Momentum and weight decay are those that DRN's authors pair with this rate; the paper does not give them.

    Mirrored and cropped, as DRN's authors do, but not scaled: what lies outside of a scaled image has no label, but counts in
    what MCDAL's heads say of an unlabeled one.
    """
    optimization = Optimization(
        lr=1e-3, momentum=0.99, weight_decay=1e-4, milestones=(2 / 3,), gamma=0.1, warmup_epochs=0.0
    )  # fmt: skip
    training = Training(
        epochs=150, steps_per_epoch=steps_per_epoch, batch_size=8, unlabeled_batch_size=8,
        optimization=optimization, augment=SceneAugment(scale=(1.0, 1.0), crop=crop), measure_batch_size=4,
    )  # fmt: skip
    return Config(source, DRN(), strategy, training, protocol)


def small_scenes(full: Config, source: Source) -> Config:
    """The same protocol for two CPU cores: smaller images, a small network, fewer steps, rare classes weighted."""
    was = full.training
    training = replace(
        was, epochs=SCENE_EPOCHS, steps_per_epoch=SCENE_STEPS, batch_size=SCENE_BATCH, unlabeled_batch_size=SCENE_BATCH,
        optimization=SCENE_OPTIMIZATION, augment=SceneAugment(scale=(1.0, 1.0)), class_weights="median_frequency",
        measure_batch_size=16,
    )  # fmt: skip
    note = (
        f"small scale: a small network in place of DRN-D-22, on smaller images that are mirrored but not cropped, "
        f"{training.steps:,} steps of {SCENE_BATCH} images a round in place of {was.steps:,} of {was.batch_size} at a rate of "
        f"{SCENE_OPTIMIZATION.lr:g}, rare classes weighted in the loss; everything else as in the full recipe. Results are not "
        "comparable with the paper's"
    )
    return replace(full, source=source, model=SmallSegmentation(), training=training, notes=(*full.notes, note))


def frozen(full: Config, encoder: Encoder) -> Config:
    """The same data, strategy and protocol with a linear head on a frozen encoder: rounds in seconds without a GPU."""
    optimization = Optimization(lr=HEAD_RATE, weight_decay=HEAD_DECAY, warmup_epochs=0.0)
    training = replace(
        full.training, epochs=HEAD_EPOCHS, steps_per_epoch=HEAD_STEPS, batch_size=HEAD_BATCH, unlabeled_batch_size=HEAD_BATCH,
        optimization=optimization, augment=Augment(crop_padding=0, flip=False, rotation=0.0), compile=False,
        measure_batch_size=4096, published_sampling=False,
    )  # fmt: skip
    note = (
        f"a linear head on the features of a frozen {type(encoder).__name__}, {training.steps} steps a round, no augmentation: "
        "what the recipe or its notes say of a network and its training does not hold. Accuracies are not comparable with "
        "those of networks that are trained"
    )
    return replace(full, encoder=encoder, model=Probe(), training=training, notes=(*full.notes, note))
