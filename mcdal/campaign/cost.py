"""What the answers of people have cost so far, and what a further label costs."""

from dataclasses import dataclass

from sqlalchemy import func, select

from mcdal.campaign.definition import Campaign, Opened
from mcdal.campaign.progress import PICKED
from mcdal.campaign.questions import OF_FILES
from mcdal.campaign_tables import answers, questions, standing
from mcdal.errors import CampaignError

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Cost:
    """answers: that stand and are paid for, so without skips and labels from files. hours: that people looked at images, skipped
    ones too; where the page did not say, as long as at the others. money: price of the answers and wage of the hours; None where
    the campaign has neither. seconds_a_label, money_a_label: of an image that is picked, with its second opinions. whole: money
    when the budget is used up and the audit answered."""

    answers: int
    hours: float | None
    money: float | None
    seconds_a_label: float | None
    money_a_label: float | None
    whole: float | None


def cost(campaign: Opened) -> Cost:
    """So far, from what was answered."""
    definition = campaign.campaign
    pace, looks = _looked(campaign)
    by_arm = _paid(campaign)
    paid = sum(by_arm.values())
    seconds = None if pace is None else pace * looks
    money = _money(definition, paid, seconds)
    labels = campaign.ledger.progress(arms=PICKED).labels
    each = sum(n for arm, n in by_arm.items() if arm != "audit") / labels if labels else 1 + definition.double
    still = max(0, definition.budget - labels) * each
    still += max(0, definition.audit * definition.audit_answers - by_arm.get("audit", 0))
    per_answer = None if money is None or not paid else money / paid
    return Cost(
        paid,
        None if seconds is None else seconds / SECONDS_AN_HOUR,
        money,
        None if seconds is None or not paid or not labels else seconds / paid * each,
        None if per_answer is None or not labels else per_answer * each,
        None if money is None or per_answer is None else money + still * per_answer,
    )


def _looked(campaign: Opened) -> tuple[float | None, int]:
    """Mean seconds that somebody looked at an image, and how often somebody did."""
    a = answers.c
    query = select(func.count(), func.count(a.seconds), func.sum(a.seconds)).where(
        a.campaign_id == campaign.name, a.verdict != "undo", ~a.key.startswith(OF_FILES, autoescape=True)
    )
    with campaign.database.read() as connection:
        given, timed, seconds = connection.execute(query).one()
    return (seconds / timed if timed else campaign.campaign.seconds_per_label), int(given)


def _paid(campaign: Opened) -> dict[str, int]:
    """Standing answers that count, by the arm of their images."""
    s, q = standing.c, questions.c
    query = (
        select(q.arm, func.count().label("n"))
        .join(standing, (s.campaign_id == q.campaign_id) & (s.sample_id == q.sample_id))
        .where(q.campaign_id == campaign.name, s.verdict != "skip", ~s.key.startswith(OF_FILES, autoescape=True))
        .group_by(q.arm)
    )
    with campaign.database.read() as connection:
        return {row.arm: row.n for row in connection.execute(query)}


def _money(campaign: Campaign, paid: int, seconds: float | None) -> float | None:
    if campaign.price is None and campaign.wage is None:
        return None
    if campaign.wage is not None and seconds is None and paid:
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
