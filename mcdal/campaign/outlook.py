"""Does it pay, and is it time to stop? Gain, forecast, cost and suggestions, told together."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import select

from mcdal import schema
from mcdal.campaign.cost import Cost, cost
from mcdal.campaign.definition import Opened
from mcdal.campaign.forecast import Forecast, forecast
from mcdal.campaign.gain import Gain, gain
from mcdal.campaign.judged import Curve, curves, interval
from mcdal.campaign.progress import PICKED, Accuracy, accuracy
from mcdal.statistics.paired import Interval

FURTHER = 100
"""Labels by which a forecast is told."""
FLAT = 0.005
"""Of accuracy: who gains less than this by FURTHER labels may stop."""

Rule = Literal["budget", "cost", "target", "flat", "discrepancy"]


@dataclass(frozen=True)
class Suggestion:
    """A reason to stop, in words. A person decides."""

    rule: Rule
    text: str


@dataclass(frozen=True)
class Ahead:
    """What is to be expected. more: accuracy by FURTHER labels. at_budget: accuracy then. needed: labels for the target."""

    more: Interval
    at_budget: Interval
    needed: Interval | None


@dataclass(frozen=True)
class Outlook:
    """labels: of the budget, so far. judged_on: audit images by which gain and forecast are told. rounds: labels of each trained
    round with its accuracy on them; random: the same of the models that learned from random labels alone."""

    labels: int
    judged_on: int
    rounds: tuple[tuple[int, float], ...]
    random: tuple[tuple[int, float], ...]
    gain: Gain | None
    ahead: Ahead | None
    cost: Cost
    suggestions: tuple[Suggestion, ...]


def outlook(campaign: Opened) -> Outlook:
    """Of now, from the store alone. It takes a tenth of a second: not for every request."""
    definition, ledger = campaign.campaign, campaign.ledger
    picked, random, judged = curves(campaign)
    labels = ledger.progress(arms=PICKED).labels
    spent = cost(campaign, ledger.progress().labels)
    going = forecast(picked)
    ahead = None
    if going is not None:
        ahead = Ahead(
            interval(going.more(FURTHER)),
            interval(going.at(max(float(definition.budget), going.labels))),
            None if definition.target is None else interval(going.needed(definition.target)),
        )
    return Outlook(
        labels, judged, _points(picked), _points(random), gain(picked, random), ahead, spent,
        tuple(_suggestions(campaign, labels, spent, going, accuracy(campaign))),
    )  # fmt: skip


def as_json(found: Outlook) -> dict[str, Any]:
    """Plain values; what is infinite or not known is None."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    told: dict[str, Any] = plain(asdict(found))
    return told


def _points(curve: Curve) -> tuple[tuple[int, float], ...]:
    return tuple((round(n), float(a)) for n, a in zip(curve.labels, curve.accuracy[0], strict=True))


def _suggestions(
    campaign: Opened, labels: int, spent: Cost, going: Forecast | None, reached: Accuracy | None
) -> Iterator[Suggestion]:
    definition = campaign.campaign
    if labels >= definition.budget:
        yield Suggestion("budget", f"The budget of {definition.budget:,} labels is used up.")
    if definition.cost is not None and spent.money is not None and spent.money >= definition.cost:
        yield Suggestion("cost", f"{spent.money:,.2f} of the {definition.cost:,.2f} that it may cost are spent.")
    if definition.target is not None and reached is not None and reached.low >= definition.target:
        yield Suggestion(
            "target",
            f"The target is reached: accuracy is {_percent(reached.low)} at least (95 %), and {_percent(definition.target)} were "
            "wanted.",
        )
    if going is not None and (more := interval(going.more(FURTHER))).high < FLAT:
        yield Suggestion(
            "flat",
            f"The curve is flat: {FURTHER} further labels are expected to bring {100 * more.value:.1f} points, "
            f"{100 * max(more.high, 0):.1f} at most (95 %).",
        )
    if (means := _discrepancies(campaign)) is not None and means[0] <= means[1]:
        yield Suggestion(
            "discrepancy",
            f"The heads disagree no more on unlabeled images ({means[0]:.3g}) than on labeled ones ({means[1]:.3g}).",
        )


def _discrepancies(campaign: Opened) -> tuple[float, float] | None:
    """Mean discrepancy of unlabeled and of labeled images in the last round that was picked by it; None by other scores."""
    if campaign.campaign.strategy not in ("mcdal", "mcdal_posthoc"):
        return None
    m = schema.metrics.c
    names = "score/unlabeled_mean", "score/labeled_mean"
    query = (
        select(m.round, m.name, m.value)
        .where(m.run_id == campaign.run_id, m.name.in_(names))
        .order_by(m.round.desc())
        .limit(2)
    )
    with campaign.database.read() as connection:
        found = {name: value for _, name, value in connection.execute(query)}
    return (found[names[0]], found[names[1]]) if len(found) == 2 else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
