"""One run's configuration: a dataclass of dataclasses. A recipe is a function that returns one."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from mcdal.device import Numerics
from mcdal.encoders.base import Encoder
from mcdal.errors import ConfigError
from mcdal.events import Listener, nobody
from mcdal.models.base import Architecture
from mcdal.pool.base import Pool, Source
from mcdal.pool.conditions import Conditions
from mcdal.pool.frozen import expect_frozen, open_frozen
from mcdal.selection.search import Search
from mcdal.strategies.base import Beside, Strategy, refuse_task
from mcdal.training import Training


@dataclass(frozen=True)
class Protocol:
    """How many samples are labeled when. Round 0 is the start set; each later round adds a batch that the strategy picks."""

    start: int | float = 0.1
    """Labels of round 0: a number of samples, or a share of the pool (a fraction below 1)."""
    budget: int | float = 0.05
    """Labels that each later round adds: a number of samples, or a share of the pool."""
    rounds: int = 7
    """Number of rounds, the start included: 7 leads from 10 % by 5 % to 40 %."""
    total: int | None = None
    """Labels in all: the round that would exceed them is cut, and none follows it; null: what the rounds add up to."""
    control: float = 0.0
    """Share of each later batch that is drawn at random in place of the strategy's last picks: what random labeling would have
    given can then be estimated from a campaign that has no other arm."""
    per_group: int | None = None
    """Most samples of one group (a sequence, a camera) in a batch that a strategy picks; null: any number."""
    near: float | None = None
    """Likeness (cosine of small pictures) from which two images are near-duplicates, of which a batch holds one; null: any."""
    easy: float = 0.0
    """Share of each later batch that `easy` picks, if there is one."""
    rare: float = 0.0
    """Share of each later batch that `rare` picks at most, if there is one."""
    start_seed: int | None = None
    """Draws the start set in place of the run's seed, so that start sets and initial weights can be varied apart."""

    def __post_init__(self) -> None:
        for name in ("start", "budget"):
            value = getattr(self, name)
            unclear = isinstance(value, float) and value == 1  # one sample, or all of them?
            if not 0 < value < math.inf or (value >= 1 and value != int(value)) or unclear:
                raise ConfigError(f"protocol.{name} = {value}: give a whole number of samples, or a share below 1")
        if self.per_group is not None and self.per_group < 1:
            raise ConfigError(f"protocol.per_group = {self.per_group}: give at least 1, or null for no limit")
        if self.rounds < 1:
            raise ConfigError(f"protocol.rounds = {self.rounds}: give at least 1")
        if self.total is not None and self.total < 1:
            raise ConfigError(f"protocol.total = {self.total}: give at least 1, or null for no limit")
        if self.total is not None and not (self.start >= 1 and self.budget >= 1):
            raise ConfigError("protocol.total: give protocol.start and protocol.budget as numbers of samples beside it")
        if self.near is not None and not 0 < self.near <= 1:
            raise ConfigError(f"protocol.near = {self.near}: give a cosine above 0 and up to 1, such as 0.97")
        if self.start_seed is not None and self.start_seed < 0:
            raise ConfigError(f"protocol.start_seed = {self.start_seed}: give 0 or more, or null for the run's seed")
        for name in ("control", "easy", "rare"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"protocol.{name} = {getattr(self, name)}: give a share of at least 0 and below 1")
        if self.control + self.easy + self.rare >= 1:
            raise ConfigError("protocol.control, easy and rare: together they leave nothing for the strategy")

    @property
    def planned(self) -> int:
        """How many rounds there will be."""
        return self.rounds if self.total is None else len(self._cut(self._wanted(1)))

    def _wanted(self, pool_size: int) -> list[int]:
        start, budget = (max(1, round(x * pool_size)) if x < 1 else int(x) for x in (self.start, self.budget))
        return [start] + [budget] * (self.rounds - 1)

    def sizes(self, pool_size: int) -> list[int]:
        """How many samples each round asks for. Raises ConfigError where the pool is too small for it."""
        wanted = self._wanted(pool_size)
        sizes = self._cut(wanted)
        total = sum(sizes)
        if total > pool_size:
            raise ConfigError(
                f"the protocol asks for {wanted[0]} + {len(sizes) - 1} x {wanted[-1]} = {total} labels, but the pool has "
                f"{pool_size} samples: lower protocol.start, protocol.budget or protocol.rounds"
            )
        return sizes

    def _cut(self, sizes: list[int]) -> list[int]:
        """Until the total is reached."""
        if self.total is None:
            return sizes
        left, kept = self.total, []
        for size in sizes:
            if left > 0:
                kept.append(min(size, left))
            left -= size
        return kept


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result, but for its seed."""

    source: Source
    """Where the images come from."""
    model: Architecture
    """The network, built afresh each round."""
    strategy: Strategy
    """What decides which samples to label."""
    training: Training = field(default_factory=Training)
    """How the network is trained, the same for every strategy."""
    protocol: Protocol = field(default_factory=Protocol)
    """How many samples are labeled when."""
    encoder: Encoder | None = None
    """A frozen network that turns every image into features once; `model` is then a head on them. null: none."""
    features: Path | None = None
    """File of features by sample id, .npz or .parquet, that do not come from the model; `mcdal embed` makes one."""
    weights: Path | None = None
    """File of weights, .safetensors or torch's own with tensors alone, that the model starts from in every round; a head of other
    classes starts fresh. null: random ones."""
    cold_start: Strategy | None = None
    """The strategy that picks round 0 from `features`, when there is no label yet; null: at random."""
    groups: Path | None = None
    """File of groups by sample id, .csv or .parquet with the columns sample_id and group; null: those of the source, if any."""
    easy: Beside | None = None
    """What mixes easy samples into a batch (`protocol.easy`), as people label better with some of them; null: nothing."""
    rare: Beside | None = None
    """What mixes samples of classes that have hardly a label into a batch (`protocol.rare`); null: nothing."""
    costs: Path | None = None
    """File of what a label costs by sample id, .csv or .parquet with the columns sample_id and cost, in any unit: a batch then
    costs no more than as many samples of the pool's mean cost; null: all the same."""
    conditions: Conditions = field(default_factory=Conditions)
    """What makes a replayed data set harder: a long tail, copies, wrong answers."""
    search: Search = field(default_factory=Search)
    """How a batch is searched for in a pool that is too large for an exact choice."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know; shown in the report."""
    checkpoint_seconds: float = 60.0
    """How often the state of a training is kept. Has no effect on results."""
    gallery: int = 24
    """How many of each round's picks are kept as pictures for the report. Has no effect on results."""
    scenes: int = 3
    """Of masks: how many test images are kept with what each round predicts of them, for the report. Has no effect on results."""

    def __post_init__(self) -> None:
        for name in ("checkpoint_seconds", "gallery", "scenes"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} = {getattr(self, name)}: give 0 or more")
        self._check_task()
        self._check_encoder()
        self._check_weights()
        self._check_cold_start()

    def open(self, cache: Path, numerics: Numerics, listen: Listener = nobody) -> Pool:
        """What is trained on: the images of the source, or their features. cache: a folder for what is prepared once."""
        if self.encoder is None:
            return self.conditions.applied(self.source.open(cache, listen))
        return self.conditions.applied(open_frozen(self.source, self.encoder, cache, numerics, listen))

    def expect(self, cache: Path, numerics: Numerics, listen: Listener = nobody) -> tuple[Pool, float]:
        """A pool to try a few steps on, and how many seconds `open` needs beyond reading the images."""
        if self.encoder is None:
            return self.conditions.applied(self.source.open(cache, listen)), 0.0
        pool, seconds = expect_frozen(self.source, self.encoder, cache, numerics, listen)
        return self.conditions.applied(pool), seconds

    def _check_task(self) -> None:
        task, model = self.source.task, type(self.model).__name__
        if self.model.dense != (task == "segmentation"):
            says = "a class for every pixel" if self.model.dense else "one class an image"
            raise ConfigError(f"model = {model}: it says {says}, and {type(self.source).__name__} is for {task}")
        for strategy in (self.strategy, self.cold_start, self.easy, self.rare):
            if strategy is not None:
                refuse_task(strategy, task)

    def _check_encoder(self) -> None:
        model, strategy = type(self.model).__name__, type(self.strategy).__name__
        if self.encoder is None:
            if self.model.on_features:
                raise ConfigError(f"model = {model}: it works on features, so it needs an encoder (--encoder NAME)")
            return
        if not self.model.on_features:
            raise ConfigError(f"model = {model}: it works on images, and an encoder gives features: take a Probe")
        if missing := [text for need, text in OF_IMAGES.items() if need in self.strategy.needs]:
            raise ConfigError(
                f"strategy = {strategy}: it needs {' and '.join(missing)} (its `needs` say so), and with an encoder there are "
                "features alone: take another strategy, or leave --encoder out"
            )
        if self.training.augment.changes or self.training.published_sampling:
            raise ConfigError(
                "training.augment: images are not augmented where an encoder has turned them into features once: set "
                "crop_padding and rotation to 0, flip and training.published_sampling to false"
            )

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if self.encoder is not None:
            raise ConfigError(
                f"weights = {self.weights}: with an encoder a head alone is trained, and it starts at random; the encoder's own "
                "are encoder.weights, or leave --encoder out"
            )
        if getattr(self.model, "weights", None) is not None:
            raise ConfigError(f"weights = {self.weights}: model.weights gives others: give one of them")

    def _check_cold_start(self) -> None:
        if self.cold_start is None:
            return
        name = type(self.cold_start).__name__
        missing = [need for need in self.cold_start.needs if need != "features"]
        if missing:
            raise ConfigError(
                f"cold_start = {name}: it needs {', '.join(missing)} (its `needs` say so), and before the first label there "
                "is no model: take one that needs features alone, such as typiclust or core_set"
            )
        if self.features is None:
            raise ConfigError(
                f"cold_start = {name}: it picks from features, and there are none: make them with `mcdal embed RECIPE --out "
                "features.npz`, or take your own, and give features = FILE (--set features=features.npz)"
            )


OF_IMAGES = {"images": "the pixels of the images", "stages": "inner stages of the model"}
"""What a strategy may need and features of a frozen encoder do not have."""


def build(recipe: Callable[..., Config], data: Path | str | None, scale: str | None) -> Config:
    """Calls a recipe with what it takes: `data` (a folder, or a URL for recipes that read those) and `scale`, both optional."""
    if data is not None and "://" not in str(data):
        data = Path(data).expanduser()
        if not data.exists():
            raise ConfigError(f"--data {data} does not exist")
    elif data is not None and not takes_urls(recipe):
        name = getattr(recipe, "__name__", str(recipe))
        raise ConfigError(f"--data {data}: the recipe {name} reads a folder of this machine; `shards` reads URLs")
    return call(recipe, data, scale)


def takes_urls(recipe: Callable[..., Config]) -> bool:
    """Whether a recipe says that its `data` may be text."""
    parameter = inspect.signature(recipe, eval_str=True).parameters.get("data")
    return parameter is not None and str in (parameter.annotation, *get_args(parameter.annotation))


def call(recipe: Callable[..., Config], data: Path | str | None, scale: str | None) -> Config:
    """As `build`, but `data` need not exist."""
    name = getattr(recipe, "__name__", str(recipe))
    if isinstance(recipe, type):
        raise ConfigError(f"{name} is a class, not a function that returns a mcdal.Config")
    parameters = inspect.signature(recipe).parameters
    given = {key: value for key, value in (("data", data), ("scale", scale)) if value is not None}
    for key in given:
        if key not in parameters:
            raise ConfigError(f"the recipe {name} takes no --{key}")
    known = scales(recipe)
    if known and scale is not None and scale not in known:
        raise ConfigError(f"--scale {scale}: the recipe {name} has {', '.join(known)}")
    missing = [p.name for p in parameters.values() if _is_required(p) and p.name not in given]
    if "data" in missing:
        raise ConfigError(f"the recipe {name} needs --data DIR: {inspect.getdoc(recipe) or 'where its images lie'}")
    if missing:
        raise ConfigError(f"the recipe {name} needs a value for {', '.join(missing)}: only data and scale can be given")
    made = recipe(**given)
    if not isinstance(made, Config):
        raise ConfigError(f"the recipe {name} returned {type(made).__name__}, not a mcdal.Config")
    return made


def _is_required(parameter: inspect.Parameter) -> bool:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in optional


def scales(recipe: Callable[..., Config]) -> tuple[str, ...]:
    """The scales that a recipe declares, as `scale: Literal["full", "small"] = "full"`."""
    hint = get_type_hints(recipe).get("scale")
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()


def default_scale(recipe: Callable[..., Config]) -> str:
    """The scale that a recipe takes when none is given; "full" for a recipe without scales."""
    parameter = inspect.signature(recipe).parameters.get("scale")
    return "full" if parameter is None else str(parameter.default)


def choose_scale(scale: str, **choices: Callable[[], Config]) -> Config:
    """For recipes: the configuration of this scale, or an error that names the scales there are."""
    if scale not in choices:
        raise ConfigError(f"no scale {scale!r}: this recipe has {', '.join(choices)}")
    return choices[scale]()
