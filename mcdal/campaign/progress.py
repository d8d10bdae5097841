"""How a campaign stands, from the store alone: cheap enough to be asked every second."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from scipy import stats
from sqlalchemy import func, select

from mcdal import schema
from mcdal.campaign.definition import Opened
from mcdal.campaign.ledger import Arm
from mcdal.locks import is_locked

State = Literal["asks", "full", "finished"]
PICKED: tuple[Arm, ...] = ("start", "strategy", "control", "easy", "rare")
"""What counts against the budget."""


@dataclass(frozen=True)
class Accuracy:
    """On `labels` audit images, never trained on nor picked. low, high: Wilson's 95 % interval. round: the model's.

    labels: as many as there were when the model was tested, whatever has come since.
    """

    value: float
    low: float
    high: float
    labels: int
    round: int


def state(campaign: Opened) -> State:
    """asks: people are asked. full: what was asked is answered, or nothing was asked yet, and the trainer has to go on."""
    if campaign.ledger.waits():
        return "asks"
    finished, begun = _rounds(campaign)
    if begun > finished:
        return "full"
    return "finished" if finished >= campaign.campaign.rounds or _is_done(campaign) else "full"


def is_training(campaign: Opened) -> bool:
    """Whether a trainer is at work, on this machine or, of servers that share a database, on another."""
    lock = campaign.folder / "runs" / campaign.run_id / "lock"
    return is_locked(lock) or campaign.database.is_held(campaign.run_id)


def _is_done(campaign: Opened) -> bool:
    """Whether the run came to its end: with fewer rounds than planned where there are not as many images.

    Not where the budget was changed since.
    """
    s = schema.sessions.c
    query = select(s.outcome, s.ended_at).where(s.run_id == campaign.run_id).order_by(s.session_id.desc()).limit(1)
    with campaign.database.read() as connection:
        last = connection.execute(query).one_or_none()
    if last is None or last.outcome != "done":
        return False
    changed = campaign.campaign.changed_at
    return changed is None or last.ended_at.replace(tzinfo=UTC) > datetime.fromisoformat(changed)


def finished_rounds(campaign: Opened) -> int:
    return _rounds(campaign)[0]


def _rounds(campaign: Opened) -> tuple[int, int]:
    """How many are finished, and how many are begun."""
    r = schema.rounds.c
    query = select(func.count(r.finished_at), func.count()).where(r.run_id == campaign.run_id)
    with campaign.database.read() as connection:
        finished, begun = connection.execute(query).one()
    return finished, begun


def accuracy(campaign: Opened) -> Accuracy | None:
    """Of the newest model; None before the first."""
    m, r = schema.metrics.c, schema.rounds.c
    query = (
        select(m.round, m.value)
        .join(schema.rounds, (r.run_id == m.run_id) & (r.round == m.round))
        .where(m.run_id == campaign.run_id, m.name == "test/accuracy", r.finished_at.is_not(None))
        .order_by(m.round.desc())
        .limit(1)
    )
    with campaign.database.read() as connection:
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        tested = select(m.value).where(m.run_id == campaign.run_id, m.round == row.round, m.name == "test/images")
        labels = round(connection.execute(tested).scalar_one())
    low, high = interval(row.value, labels)
    return Accuracy(row.value, low, high, labels, row.round)


def interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n."""
    found = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
