"""Tiny fakes, and the contract that every strategy keeps: for our tests, and for the tests of your own strategies.

from mcdal.testing import check_strategy
def test_mine(): check_strategy(MyStrategy)
"""

import copy
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mcdal.augment import Augment
from mcdal.checkpoint import packed
from mcdal.config import Config, Protocol
from mcdal.device import Numerics
from mcdal.errors import SelectionError
from mcdal.events import Listener, nobody
from mcdal.measuring import measure, select
from mcdal.models.base import Architecture, Model, apply_head
from mcdal.oracles.base import Oracle
from mcdal.oracles.simulated import Simulated
from mcdal.pool.base import ArrayImages, LabeledView, Pool, Source
from mcdal.pool.masks import ArrayMasks, Masks
from mcdal.pool.sharded import Shard, Sharded
from mcdal.schedule import Optimization
from mcdal.strategies.base import Setting, Strategy, picks_the_largest
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.tasks.segmentation import Segmentation
from mcdal.training import Training, train
from mcdal.values import VOID, Batch, Ids, Label, Output, Rows

NUMERICS = Numerics(torch.device("cpu"), "float64", channels_last=False, compile=False)


def fake_pool(n: int = 60, classes: int = 3, seed: int = 0) -> Pool:
    """`n` colour images of 6x6 for the pool, half as many for the test: noise, and a brightness that depends on the class."""
    random = np.random.default_rng(seed)
    total = n + n // 2
    y = np.arange(total) % classes
    pixels = random.integers(0, 120, (total, 6, 6, 3)) + (y * 120 // classes)[:, None, None, None]
    pixels = pixels.astype(np.uint8)
    ids = tuple(f"fake/{i:03d}" for i in random.permutation(n).tolist())
    test_ids = tuple(f"test/{i:03d}" for i in range(total - n))
    test = LabeledView(ArrayImages(test_ids, pixels[n:]), np.arange(total - n), y[n:])
    names = tuple(f"class {c}" for c in range(classes))
    channel = (0.4,) * 3, (0.2,) * 3
    return Pool(
        "fake", names, ArrayImages(ids, pixels[:n]), y[:n], test, *channel, fingerprint=f"fake-{n}-{classes}-{seed}"
    )


def fake_scenes(n: int = 60, classes: int = 3, seed: int = 0) -> Pool:
    """`n` scenes of 8x8 for the pool, half as many for the test: blocks of 4x4 whose brightness depends on their class.

    Some pixels of each mask are void. Groups are sequences of five.
    """
    random = np.random.default_rng(seed)
    total = n + n // 2
    masks = random.integers(0, classes, (total, 2, 2)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    pixels = random.integers(0, 120, (total, 8, 8, 3)) + (masks.astype(int) * 120 // classes)[..., None]
    pixels = pixels.astype(np.uint8)
    masks[:, 0, :3] = VOID
    ids = tuple(f"scene/{i:03d}" for i in random.permutation(n).tolist())
    test_ids = tuple(f"test/{i:03d}" for i in range(total - n))
    test = LabeledView(
        ArrayImages(test_ids, pixels[n:]), np.arange(total - n), np.arange(total - n), ArrayMasks(masks[n:])
    )
    names = tuple(f"class {c}" for c in range(classes))
    channel = (0.4,) * 3, (0.2,) * 3
    return Pool(
        "fake scenes", names, ArrayImages(ids, pixels[:n]), np.arange(n), test, *channel, f"scenes-{n}-{classes}-{seed}",
        kind=Segmentation(names), masks=ArrayMasks(masks[:n]), groups=tuple(f"sequence {i // 5}" for i in range(n)),
    )  # fmt: skip


@dataclass(frozen=True)
class FakeSource(Source):
    """Opens a fake pool."""

    n: int = 60
    classes: int = 3
    seed: int = 0

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        return fake_pool(self.n, self.classes, self.seed)


class FakeModel(Model):
    """One convolution with BatchNorm, average pooling, a linear head: small, but with everything that can go wrong."""

    def __init__(self, classes: int, channels: int = 3, width: int = 5):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        maps = self.encoder(x)
        features = maps.mean((2, 3))
        return Output(apply_head(self.head, features), features, (maps,))


class FakeSegmenter(Model):
    """A strided convolution with BatchNorm; the head is a 1x1 convolution that repeats its pixels to the image's size."""

    def __init__(self, classes: int, channels: int = 3, width: int = 5, dropout: float = 0.1):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Sequential(nn.Conv2d(width, classes, 1), nn.Upsample(scale_factor=2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Output:
        features = self.encoder(x)
        return Output(apply_head(self.head, features), features, (features,))


@dataclass(frozen=True)
class FakeSceneSource(Source):
    """Opens fake scenes."""

    n: int = 60
    classes: int = 3
    seed: int = 0

    task = "segmentation"

    def open(self, cache: Path, listen: Listener = nobody) -> Pool:
        return fake_scenes(self.n, self.classes, self.seed)


@dataclass(frozen=True)
class FakeDense(Architecture):
    """Builds a FakeSegmenter."""

    width: int = 5
    dropout: float = 0.1

    dense = True

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> FakeSegmenter:
        return FakeSegmenter(classes, channels, self.width, self.dropout)


@dataclass(frozen=True)
class Fake(Architecture):
    """Builds a FakeModel."""

    width: int = 5

    def build(self, classes: int, channels: int, size: tuple[int, int]) -> FakeModel:
        return FakeModel(classes, channels, self.width)


class ScriptedOracle(Oracle):
    """Answers what `truth` says, but only `patience[i]` of the samples at the i-th asking: for late and partial answers."""

    def __init__(self, truth: Mapping[str, int], patience: Iterable[int], masks: Masks | None = None):
        self._truth, self._masks = truth, masks
        self._patience = iter(patience)
        self._asked: Ids = ()

    def ask(self, ids: Ids) -> None:
        self._asked = ids

    def answers(self) -> Iterable[Label]:
        return Simulated(self._truth, "script", self._masks).said(self._asked[: next(self._patience)])


def fake_setting(model: Model, training: Training | None = None) -> Setting:
    """What `attach` is given, for a test that calls the hooks itself: no batches beyond those it passes."""
    training = training or fake_training()

    def place(module: nn.Module) -> nn.Module:
        weight = next(model.parameters())
        return module.to(weight.device, weight.dtype)

    def batches(labeled: bool, purpose: str, first: int, whole: bool) -> Iterator[Batch]:
        raise AssertionError("this strategy asks for batches of its own: test it with fake_trained")

    return Setting(training.optimization, 3, (6, 6), training.steps, place, batches)


def fake_training(**changes: object) -> Training:
    """A few steps, with every kind of augmentation."""
    base = Training(
        epochs=2, steps_per_epoch=4, batch_size=8, unlabeled_batch_size=8, optimization=Optimization(lr=0.05),
        augment=Augment(crop_padding=1, rotation=5.0), measure_batch_size=16,
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def fake_config(strategy: Strategy | None = None, **changes: object) -> Config:
    """A run of 4 rounds, from 12 labels by 6, that takes a second."""
    protocol = Protocol(start=12, budget=6, rounds=4)
    base = Config(FakeSource(), Fake(), strategy or MCDAL(), fake_training(precision="float64"), protocol, gallery=3)
    return replace(base, **changes)  # type: ignore[arg-type]


def fake_scene_config(strategy: Strategy | None = None, **changes: object) -> Config:
    """The same of scenes."""
    return fake_config(strategy, **{"source": FakeSceneSource(), "model": FakeDense(), **changes})


class KeepOne:
    """A keeper in memory that keeps the state after `after` saves and forgets the rest, as a kill would."""

    def __init__(self, after: int):
        self._left = after
        self._content = b""
        self.state: dict[str, object] | None = None

    def due(self) -> bool:
        return self._left > 0

    def save(self, state: dict[str, object]) -> None:
        if self._left > 0:
            self._left -= 1
            self._content = packed(state)  # through bytes, as a file would
            self.state = self.load()

    def load(self) -> dict[str, object] | None:
        loaded: dict[str, object] | None = None
        if self._content:
            loaded = torch.load(io.BytesIO(self._content), weights_only=True)
        return loaded


@dataclass
class Trained:
    """A fake model trained under a strategy, with what belongs to it."""

    model: Model
    strategy: Strategy
    pool: Pool
    labels: dict[str, int]

    def rows(self, batch_size: int = 16) -> Rows:
        return measure(self.model, self.pool, self.labels, self.strategy, numerics=NUMERICS, batch_size=batch_size)


def fake_trained(
    strategy: Strategy, keeper: KeepOne | None = None, listen: Listener = nobody, pool: Pool | None = None
) -> Trained:
    """Trains a fake model on 20 labels with the seed 0."""
    pool = pool or fake_pool()
    truth = pool.truth()
    labels = {id: truth[id] for id in sorted(pool.images.ids)[:20]}
    torch.manual_seed(0)
    model = FakeModel(len(pool.classes)) if pool.masks is None else FakeSegmenter(len(pool.classes))
    train(model, pool, labels, strategy, fake_training(), numerics=NUMERICS, seed=0, keeper=keeper, listen=listen)
    return Trained(model, strategy, pool, labels)


def check_strategy(make: Callable[[], Strategy], pool: Pool | None = None) -> None:
    """Raises AssertionError where the strategy breaks the rules that make a comparison fair.

    pool: `fake_scenes()` for segmentation; images of one class by default.
    """
    check_leaves_task_model_alone(make, pool)
    check_rows(make, pool)
    check_picks_are_valid(make, pool)
    check_continues(make, pool)


def check_leaves_task_model_alone(make: Callable[[], Strategy], pool: Pool | None = None) -> None:
    """Bit-identical to the model trained under Random, unless the strategy declares that it changes it."""
    mine, random = fake_trained(make(), pool=pool), fake_trained(Random(), pool=pool)
    if not mine.strategy.changes_task_model:
        assert_same(mine.model.state_dict(), random.model.state_dict(), "the task model differs from Random's")


def check_rows(make: Callable[[], Strategy], pool: Pool | None = None) -> None:
    """Every sample has its row, the same whatever the batch size and the shard, and measuring twice changes nothing."""
    trained = fake_trained(make(), pool=pool)
    before = copy.deepcopy(trained.model.state_dict())
    rows, again = trained.rows(batch_size=16), trained.rows(batch_size=7)
    assert rows.ids == trained.pool.images.ids, "rows are not the pool's"
    assert {id for id, labeled in zip(rows.ids, rows.labeled, strict=True) if labeled} == set(trained.labels)
    _assert_equal_rows(rows, again, "the batch size")
    shard = np.arange(1, len(rows.ids), 3)
    part = replace(trained, pool=_shard(trained.pool, shard)).rows()
    _assert_equal_rows(rows.take(shard), part, "what else is in the shard")
    assert_same(trained.model.state_dict(), before, "measuring left a trace in the model")


def _assert_equal_rows(rows: Rows, again: Rows, what: str) -> None:
    for name in ("score", "vector", "probabilities"):
        one, two = getattr(rows, name), getattr(again, name)
        assert (one is None) == (two is None)
        if one is not None:
            tolerance = 1e-9 if one.dtype == np.float64 else 1e-6  # the columns are kept in float32
            np.testing.assert_allclose(
                one, two, rtol=tolerance, atol=1e-3 * tolerance, err_msg=f"{name} depends on {what}"
            )


def _shard(pool: Pool, positions: np.ndarray) -> Pool:
    """Some of a fake pool's samples, as one of several processes would measure them."""
    assert isinstance(pool.images, ArrayImages) and pool.targets is not None
    images = ArrayImages(tuple(pool.images.ids[i] for i in positions), pool.images.pixels[positions])
    groups = None if pool.groups is None else tuple(pool.groups[i] for i in positions)
    return replace(pool, images=images, targets=pool.targets[positions], groups=groups, sharded=None)


def check_picks_are_valid(make: Callable[[], Strategy], pool: Pool | None = None) -> None:
    """Exactly the budget, all that is left at the end, the same in any order of the rows, never NaN."""
    trained = fake_trained(make(), pool=pool)
    rows, strategy = trained.rows(), trained.strategy
    picks = select(strategy, rows, 7, seed=1)
    assert len(picks) == 7
    assert select(strategy, rows, 7, seed=1).ids == picks.ids, "the same seed picks otherwise"
    shuffled = rows.take(np.random.default_rng(0).permutation(len(rows.ids)))
    assert select(strategy, shuffled, 7, seed=1).ids == picks.ids, "picks depend on the order of the rows"
    left = int((~rows.labeled).sum())
    assert len(select(strategy, rows, left + 5, seed=1)) == left, "did not pick all that is left"
    if rows.score is not None and picks_the_largest(strategy):
        tied = replace(rows, score=np.zeros_like(rows.score))
        first = tuple(sorted(rows.unlabeled().ids)[:7])
        assert select(strategy, tied, 7).ids == first, "ties are not broken by id"
    _assert_refuses_nan(strategy, rows)


def check_continues(make: Callable[[], Strategy], pool: Pool | None = None) -> None:
    """Interrupted after some steps and continued, model, strategy and rows are what they would have been."""
    whole = fake_trained(make(), pool=pool)
    keeper = KeepOne(after=5)
    fake_trained(make(), keeper, pool=pool)
    continued = fake_trained(make(), keeper, pool=pool)
    assert keeper.state is not None and keeper.state["step"] == 5
    assert_same(continued.model.state_dict(), whole.model.state_dict(), "the continued model differs")
    for name, part in whole.strategy.state().items():
        assert_same(continued.strategy.state()[name].state_dict(), part.state_dict(), f"the continued {name} differ")
    assert continued.strategy.metrics() == whole.strategy.metrics(), "the continued metrics differ"
    one, two = whole.rows(), continued.rows()
    assert select(whole.strategy, one, 7, seed=1).ids == select(continued.strategy, two, 7, seed=1).ids


def assert_same(one: object, two: object, why: str) -> None:
    """Nested values that are equal to the last bit."""
    if isinstance(one, Tensor):
        assert isinstance(two, Tensor) and torch.equal(one, two), why
    elif isinstance(one, Mapping):
        assert isinstance(two, Mapping) and one.keys() == two.keys(), why
        for key in one:
            assert_same(one[key], two[key], f"{why} ({key})")
    elif isinstance(one, (list, tuple)):
        assert isinstance(two, (list, tuple)) and len(one) == len(two), why
        for a, b in zip(one, two, strict=True):
            assert_same(a, b, why)
    else:
        assert one == two, why


def _assert_refuses_nan(strategy: Strategy, rows: Rows) -> None:
    """In any column that it measured, of an unlabeled sample."""
    where = int(np.flatnonzero(~rows.labeled)[3])
    for name in ("score", "vector", "probabilities"):
        column = getattr(rows, name)
        if column is None:
            continue
        broken = column.copy()
        broken[where] = np.nan
        try:
            select(strategy, replace(rows, **{name: broken}), 7)
        except SelectionError as error:
            assert rows.ids[where] in str(error), f"the error on a NaN {name} does not name the sample"
        else:
            raise AssertionError(f"a NaN {name} was not refused")


@dataclass(frozen=True)
class FakeSharded(Sharded):
    """A fake pool in shards of these sizes, the last of which may be smaller."""

    make: Callable[[], Pool] = fake_pool
    size: int = 16

    @property
    def shards(self) -> tuple[Shard, ...]:  # type: ignore[override]
        n = len(self.make())
        return tuple(
            Shard(f"part-{i // self.size}", min(self.size, n - i), "as it was made") for i in range(0, n, self.size)
        )

    def pool(self, shard: Shard) -> Pool:
        whole, number = self.make(), int(shard.name.rpartition("-")[2])
        return _shard(whole, np.arange(number * self.size, number * self.size + shard.size))
