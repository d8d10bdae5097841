"""Runs that train the same model: strategies of a seed share their first round, which need not be computed twice.

The task model under any strategy that leaves it alone is bit for bit the one under Random. So where another run of the store has
learned in the same round, from the same labels, with the same data, settings and arithmetic, its weights are the ones that
training would end with.
"""

from collections.abc import Mapping

from mcdal.config import Config
from mcdal.environment import differences
from mcdal.plan import decisive
from mcdal.settings import filled
from mcdal.store import RunRecord, Store
from mcdal.strategies.base import Strategy, overrides

LENDS = "lends_model"
"""In a run's recorded config: whether its task model is Random's."""

OF_CHOOSING = ("strategy", "protocol", "cold_start", "features_sha256", "groups_sha256", LENDS)
"""Parts of a config that decide which labels there are, not what is learned from them."""

LIBRARIES = ("numpy", "torchvision", "timm")


def may_take_over(strategy: Strategy) -> bool:
    """Whether a training has nothing to do for the strategy, which changes no task model and trains none beside it."""
    return not (overrides(strategy, "step") or strategy.changes_task_model)


def lends(strategy: Strategy) -> bool:
    """Whether the task model under it is Random's for sure: none of its code runs in training, or that code is tested here."""
    return may_take_over(strategy) or (
        not strategy.changes_task_model and type(strategy).__module__.startswith("mcdal.")
    )


def twin(
    store: Store, run: RunRecord, config: Config, round: int, labels: Mapping[str, int], environment: Mapping[str, str]
) -> str | None:
    """The id of a run whose finished round `round` has the model that `run`, of this config, would train; None without one.

    labels: what `run` would learn from. environment: what it would be computed with. A run with a corrected label lends nothing,
    since its early rounds learned from what was corrected; nor is anything taken where nobody knows with what code (a checkout
    whose files differ from its commit).
    """
    if environment.get("commit", "").endswith("+"):
        return None
    mine = _learning(run.config)
    for other in store.runs():
        if (
            other.run_id != run.run_id
            and other.seed == run.seed
            and other.data_fingerprint == run.data_fingerprint
            and other.config.get(LENDS) is True
            and _learning(filled(other.config, config)) == mine
            and any(r.round == round and r.finished_at is not None for r in store.rounds(other.run_id))
            and all(_computes_alike(before, environment) for before in store.environments(other.run_id))
            and store.labels(other.run_id, through=round) == labels
            and not store.corrected(other.run_id)
        ):
            return other.run_id
    return None


def _computes_alike(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    return not differences(before, now) and all(before.get(name) == now.get(name) for name in LIBRARIES)


def _learning(config: Mapping[str, object]) -> dict[str, object]:
    """Of a recorded config, flat, what decides the weights that a training ends with."""
    return {path: value for path, value in decisive(config).items() if path.partition(".")[0] not in OF_CHOOSING}
