"""What models say of the audit images, against what people say of them: accuracy by round, drawn again for intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sqlalchemy import select

from mcdal.campaign.definition import Opened
from mcdal.campaign.wanted_trials import Arm
from mcdal.campaign_tables import questions, trials
from mcdal.statistics.paired import LEVEL, Interval

DRAWS = 1_000


@dataclass(frozen=True)
class Trial:
    """One model: how many labels it learned from, and what it says of the audit images."""

    round: int
    arm: Arm
    labels: int
    predicted: Mapping[str, int]


@dataclass(frozen=True)
class Curve:
    """Accuracy by labels on the same audit images. draws: the same curve where other images had been drawn for the audit.

    Row 0 of `accuracy` is the estimate, the others the bootstrap's: over images, and over trainings where there are several.
    """

    rounds: tuple[int, ...]
    labels: Float[np.ndarray, " points"]
    accuracy: Float[np.ndarray, "draws points"]


def curves(campaign: Opened, draws: int = DRAWS, seed: int = 0) -> tuple[Curve, Curve, int]:
    """Of the campaign's labels and of the random ones, each from round 0, and the number of audit images that they are judged on.

    These are the images that have a label now and that every model was shown. Curves are empty before the first round is trained.
    """
    truth = _truth(campaign)
    # A model that was shown less than half of them, as the rest was away, must not leave the others without these.
    said = [trial for trial in _trials(campaign) if 2 * len(truth.keys() & trial.predicted.keys()) >= len(truth)]
    judged = sorted(set(truth).intersection(*(trial.predicted for trial in said))) if said else []
    if not judged:
        return _curve({}), _curve({}), 0
    random, n = np.random.default_rng(seed), len(judged)
    weights = np.concatenate([np.full((1, n), 1 / n), random.multinomial(n, np.full(n, 1 / n), draws) / n])
    right: dict[tuple[Arm, int], list[tuple[int, Float[np.ndarray, " draws"]]]] = {}
    for trial in said:
        correct = np.array([trial.predicted[id] == truth[id] for id in judged], dtype=np.float64)
        right.setdefault((trial.arm, trial.round), []).append((trial.labels, weights @ correct))
    points = {key: (found[0][0], _mixed([a for _, a in found], random)) for key, found in sorted(right.items())}
    picked = {round: point for (arm, round), point in points.items() if arm == "picked"}
    drawn = {round: point for (arm, round), point in points.items() if arm == "random"}
    if drawn and 0 in picked and campaign.campaign.starts_at_random and picked[0][0] == _start(campaign):
        drawn = {0: picked[0], **drawn}
    return _curve(picked), _curve(drawn), n


def interval(draws: Float[np.ndarray, " draws"]) -> Interval:
    """Row 0 with the percentile interval of the others; infinite ones may be among them."""
    low, high = np.quantile(draws[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")
    return Interval(float(draws[0]), float(low), float(high))


def _mixed(repeats: Sequence[Float[np.ndarray, " draws"]], random: np.random.Generator) -> Float[np.ndarray, " draws"]:
    """The mean over trainings; in all rows but the first, over trainings that were drawn with replacement."""
    values, n = np.stack(repeats, axis=1), len(repeats)
    weights = random.multinomial(n, [1 / n] * n, len(values)) / n
    weights[0] = 1 / n
    mixed: Float[np.ndarray, " draws"] = (values * weights).sum(1)
    return mixed


def _curve(points: Mapping[int, tuple[int, Float[np.ndarray, " draws"]]]) -> Curve:
    labels = np.array([labels for labels, _ in points.values()], dtype=np.float64)
    accuracy = np.stack([a for _, a in points.values()], axis=1) if points else np.empty((1, 0))
    return Curve(tuple(points), labels, accuracy)


def _truth(campaign: Opened) -> dict[str, int]:
    q = questions.c
    query = select(q.sample_id, q.value).where(q.campaign_id == campaign.name, q.arm == "audit", q.value.is_not(None))
    with campaign.database.read() as connection:
        return {row.sample_id: row.value for row in connection.execute(query)}


def _start(campaign: Opened) -> int:
    """Labels of the start set."""
    return campaign.ledger.progress(arms=("start",)).labels


def _trials(campaign: Opened) -> list[Trial]:
    """Without those that could not be."""
    t = trials.c
    query = select(t.round, t.arm, t.labels, t.predicted).where(t.campaign_id == campaign.name)
    with campaign.database.read() as connection:
        rows = connection.execute(query.order_by(t.arm, t.round, t.repeat)).all()
    return [Trial(round, arm, labels, predicted) for round, arm, labels, predicted in rows if predicted]
