"""What the answers of people have cost so far, and what a further label costs."""

from dataclasses import dataclass

from sqlalchemy import func, select

from mcdal.campaign.definition import Campaign, Opened
from mcdal.campaign_tables import answers, standing
from mcdal.errors import CampaignError

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Cost:
    """answers: that count, skips among them, as somebody looked at the image. hours: of looking, where the page did not say the
    mean of the others. money: price of the answers and wage of the hours; None where the campaign has neither. a_label: of each,
    for a label of an image that is not of the audit, with its share of second opinions."""

    answers: int
    hours: float | None
    money: float | None
    seconds_a_label: float | None
    money_a_label: float | None


def cost(campaign: Opened, labels: int) -> Cost:
    """labels: all that there are, those of the audit among them."""
    definition = campaign.campaign
    a, s = answers.c, standing.c
    looked = select(func.count(), func.count(a.seconds), func.sum(a.seconds)).where(
        a.campaign_id == definition.name, a.verdict != "undo"
    )
    stands = select(func.count()).where(s.campaign_id == definition.name, s.verdict != "skip")
    with campaign.database.read() as connection:
        given, timed, seconds = connection.execute(looked).one()
        paid = int(connection.execute(stands).scalar_one())
    pace = seconds / timed if timed else definition.seconds_per_label
    spent = None if pace is None else pace * given
    money = _money(definition, paid, spent)
    return Cost(
        paid,
        None if spent is None else spent / SECONDS_AN_HOUR,
        money,
        None if spent is None or not labels else spent / labels,
        None if money is None or not labels else money / labels,
    )


def _money(campaign: Campaign, paid: int, seconds: float | None) -> float | None:
    if campaign.price is None and campaign.wage is None:
        return None
    if campaign.wage is not None and seconds is None:
        return None
    hours = (seconds or 0.0) / SECONDS_AN_HOUR
    return (campaign.price or 0.0) * paid + (campaign.wage or 0.0) * hours


def affordable(
    cost: float, seconds_per_label: float | None, wage: float | None, price: float | None, audit: int, double: float
) -> int:
    """How many labels this much money buys beside the audit's answers, a share of them given twice. CampaignError for none."""
    if price is None and wage is None:
        raise CampaignError(f"--cost {cost:g}: give --price (of an answer) or --wage (of an hour) beside it")
    if wage is not None and seconds_per_label is None:
        raise CampaignError(f"--wage {wage:g}: give --seconds-per-label as well, how long a person looks at an image")
    each = (price or 0.0) + (wage or 0.0) * (seconds_per_label or 0.0) / SECONDS_AN_HOUR
    if not each > 0:
        raise CampaignError("--price and --wage are 0: give --budget instead of --cost")
    answers = cost / each + 1e-9
    labels = int((answers - audit) / (1 + double))
    if labels < 1:
        raise CampaignError(
            f"--cost {cost:g} buys {int(answers)} answers, and the audit alone takes {audit}: raise it, or lower --audit"
        )
    return labels
