"""The driver's side of one training: its ranks, what they say, and what becomes of them."""

import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mcdal.errors import ConfigError, McdalError, TrainingError
from mcdal.events import Listener
from mcdal.process_group import lost
from mcdal.ray_cluster import first_line, room
from mcdal.ray_training.parcel import Parcel
from mcdal.ray_training.rank import News, Outcome, Rank, Sight
from mcdal.version import __version__

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_TO_SPEAK = 5.0
"""So long the reason of a failure is waited for, where a rank only says that it has lost another."""
SECONDS_BEFORE_A_WORD = 5.0
"""Of waiting for room, after which it is said."""

ADVICE = "; have the same versions of Python, torch, ray and mcdal on all nodes, or give them a runtime_env"


class LostRanksError(Exception):
    """The ranks are no longer together, by no fault of the training. gone: whether what was sent must be sent again."""

    def __init__(self, why: str, gone: bool = False):
        super().__init__(why)
        self.gone = gone


@dataclass(frozen=True)
class Asked:
    """Of the cluster: ranks, what each takes of its node, the kind of device, and how long to wait for room."""

    count: int
    cpus: float
    gpus: float
    kind: str
    patience: float

    @property
    def bundle(self) -> dict[str, float]:
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def threads(self) -> int:
        """Of a rank's torch."""
        return max(1, int(self.cpus))


@dataclass
class Crew:
    """The ranks of one training, in one placement group; used in a `with` block, after which nothing is left of them."""

    ray: Any
    asked: Asked
    listen: Listener
    _group: Any = None
    _actors: list[Any] = field(default_factory=list)
    _machines: list[str] = field(default_factory=list)

    def __enter__(self) -> "Crew":
        try:
            self._reserve()
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        for actor in self._actors:
            self.ray.kill(actor)
        if self._group is not None:
            self.ray.util.remove_placement_group(self._group)
        self._actors, self._group = [], None

    def _reserve(self) -> None:
        """Room for all of them, together on as few nodes as can be. TrainingError where there is none for too long."""
        asked = self.asked
        self._group = self.ray.util.placement_group([asked.bundle] * asked.count, strategy="PACK")
        begun, said = time.monotonic(), False
        while not self._group.wait(1):
            waited = time.monotonic() - begun
            if waited > asked.patience:
                raise TrainingError(
                    f"there was no room on the Ray cluster for {asked.patience:.0f} s: {self._wants()}; is it taken by others, "
                    "or are its nodes gone? What was trained is kept: the same command continues"
                )
            if waited > SECONDS_BEFORE_A_WORD and not said:
                self.listen("notice", text=f"waits for room on the Ray cluster: {self._wants()}")
                said = True

    def _wants(self) -> str:
        free = {name: n for name, n in self.ray.available_resources().items() if name in ("CPU", "GPU")}
        found = room(self.ray.nodes(), self.asked.cpus, self.asked.gpus)
        return f"{self.asked.count} processes that train ask for {found.asked} each, {found.nodes}, and free are {free}"

    def _start(self) -> None:
        kind, asked = self.ray.remote(Rank), self.asked
        place = self.ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        for rank in range(asked.count):
            # Two calls at once: one trains, the other tells. Nobody takes the place of who dies: the group is begun anew.
            options = kind.options(
                num_cpus=asked.cpus, num_gpus=asked.gpus, max_restarts=0, max_task_retries=0, max_concurrency=2,
                scheduling_strategy=place(self._group, placement_group_bundle_index=rank),
            )  # fmt: skip
            self._actors.append(options.remote(rank, asked.count, asked.threads, asked.kind, tuple(sys.path)))

    def hear(self, pool: Parcel, order: Parcel, state: bytes) -> list[Sight]:
        """Sends all that the training needs. ConfigError where ranks would compute in different ways."""
        states = [state, *[b""] * (self.asked.count - 1)]
        sights: list[Sight] = self._all(lambda rank: self._actors[rank].hear.remote(pool, order, states[rank]))
        self._machines = [sight.machine for sight in sights]
        _refuse_unlike(sights)
        return sights

    def train(self, due: Callable[[], bool], take: Callable[[bytes], object]) -> bytes:
        """The state at the end. due: asked now and then, whether a state is wanted; take: called with it."""
        meeting = None
        if self.asked.count > 1:
            meeting = self._answer(0, self._actors[0].open.remote())
        telling = _Telling(self.ray, self._actors[0], self.listen, due, take)
        last = self._all(lambda rank: self._actors[rank].train.remote(meeting), telling.look)[0]
        telling.finish()
        return telling.heard(last).state

    def _all(self, call: Callable[[int], Any], meanwhile: Callable[[], None] = lambda: None) -> list[Any]:
        """What all ranks answer. The error of one of them, or LostRanksError."""
        waiting = {call(rank): rank for rank in range(self.asked.count)}
        answers: dict[int, Any] = {}
        while waiting:
            done, _ = self.ray.wait(list(waiting), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
            for each in done:
                rank = waiting.pop(each)
                try:
                    answers[rank] = self._answer(rank, each)
                except Exception as error:
                    raise self._cause(error, waiting) from None
            meanwhile()
        return [answers[rank] for rank in range(self.asked.count)]

    def _answer(self, rank: int, call: Any) -> Any:
        errors = self.ray.exceptions
        try:
            outcome: Outcome = self.ray.get(call)
        except (errors.RayTaskError, errors.RuntimeEnvSetupError, errors.RayActorError) as error:
            # Not what the training does wrong: that is an Outcome.
            if not isinstance(error, errors.RayActorError) or error.actor_init_failed:
                raise ConfigError(
                    f"{self._name(rank)} cannot work on the cluster: {_last_line(error)}{ADVICE}"
                ) from error
            raise LostRanksError(f"{self._name(rank)} was lost ({first_line(error)})") from error
        except errors.RayError as error:  # what it answered, on the way
            raise LostRanksError(f"the answer of {self._name(rank)} was lost ({first_line(error)})") from error
        if outcome.gone:
            raise LostRanksError(f"what {self._name(rank)} was sent was lost ({outcome.gone})", gone=True)
        if outcome.failure:
            raise pickle.loads(outcome.failure)
        return outcome.value

    def _cause(self, error: Exception, waiting: dict[Any, int]) -> Exception:
        """Why the ranks came apart: that one lost another says less than what the other one says, or that it is dead."""
        failures, until = [error], time.monotonic() + SECONDS_TO_SPEAK
        while waiting and not any(_says_enough(failure) for failure in failures):
            done, _ = self.ray.wait(list(waiting), num_returns=1, timeout=max(0.0, until - time.monotonic()))
            if not done:
                break
            for each in done:
                rank = waiting.pop(each)
                try:
                    self._answer(rank, each)
                except Exception as other:
                    failures.append(other)
        enough = [failure for failure in failures if _says_enough(failure)]
        errors = [failure for failure in enough if not isinstance(failure, LostRanksError)]
        return next(iter([*errors, *enough]), LostRanksError(f"the processes lost each other ({first_line(error)})"))

    def _name(self, rank: int) -> str:
        return f"process {rank}" + (f" on {self._machines[rank]}" if self._machines else "")


@dataclass
class _Telling:
    """Asks rank 0 for its news while it trains."""

    ray: Any
    first: Any
    listen: Listener
    due: Callable[[], bool]
    take: Callable[[bytes], object]
    _call: Any = None
    _wanted: bool = False
    """Whether a state was asked for that has not come yet."""

    def look(self) -> None:
        if self._call is not None:
            done, _ = self.ray.wait([self._call], timeout=0)
            if not done:
                return
            if self._answer().state:
                self._wanted = False
        asks = not self._wanted and self.due()
        self._wanted = self._wanted or asks
        self._call = self.first.news.remote(asks)

    def finish(self) -> None:
        """Takes what was asked for before the training was over."""
        if self._call is not None:
            self._answer()

    def _answer(self) -> News:
        call, self._call = self._call, None
        try:
            news: News = self.ray.get(call)
        except self.ray.exceptions.RayError:
            return News((), b"")  # whoever waits for its training hears of it
        if self.heard(news).state:
            self.take(news.state)
        return news

    def heard(self, news: News) -> News:
        for kind, fields in news.events:
            self.listen(kind, **fields)
        return news


def _last_line(error: Exception) -> str:
    """What a traceback of Ray's comes to."""
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__


def _says_enough(error: Exception) -> bool:
    return isinstance(error, McdalError | LostRanksError) or not lost(error)


def _refuse_unlike(sights: Sequence[Sight]) -> None:
    first = sights[0]
    if first.mcdal != __version__:
        raise ConfigError(
            f"mcdal is {__version__} here and {first.mcdal} on {first.machine}: install the same everywhere"
        )
    for sight in sights[1:]:
        alike = replace(sight, machine=first.machine)
        if alike != first:
            fields = [name for name in vars(first) if getattr(alike, name) != getattr(first, name)]
            raise ConfigError(
                f"{sight.machine} and {first.machine} would not train alike: they differ in {', '.join(fields)} "
                f"({[str(getattr(s, fields[0])) for s in (sight, first)]}): take nodes of one kind, or set training.precision"
            )
