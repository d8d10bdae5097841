"""People as the oracle of a run: it is asked by questions in the ledger, and answered when they are closed."""

from collections.abc import Iterable, Mapping

from mcdal.campaign.definition import Campaign
from mcdal.campaign.ledger import Arm, Ledger, Question
from mcdal.oracles.base import Oracle
from mcdal.pool.base import Pool
from mcdal.selection import uniform
from mcdal.store import Store
from mcdal.values import Ids, Label

WHY = {"cannot_tell": "people could not tell, or did not agree", "withdrawn": "the image has gone"}


class People(Oracle):
    """Of one campaign. Round 0 asks about the audit images as well, in an order that does not tell which is which."""

    def __init__(self, campaign: Campaign, ledger: Ledger, store: Store, run_id: str, pool: Pool):
        self._campaign, self._ledger, self._store, self._run_id = campaign, ledger, store, run_id
        self._audit, self._there = pool.test.images.ids, frozenset(pool.images.ids)

    def ask(self, ids: Ids) -> None:
        self._ledger.withdraw([id for id in ids if id not in self._there])
        round = self._store.rounds(self._run_id)[-1].round
        drawn = self._store.control(self._run_id)
        arms: dict[str, Arm] = {id: "start" if round == 0 else "control" if id in drawn else "strategy" for id in ids}
        new_audit = [id for id in self._audit if self._ledger.question(id) is None]
        arms |= dict.fromkeys(new_audit, "audit")
        order = list(arms) if round and not new_audit else sorted(arms, key=self._place)
        self._ledger.ask([Question(id, round, rank, arms[id], self._wanted(id)) for rank, id in enumerate(order)])

    def answers(self) -> Iterable[Label]:
        closed = self._ledger.outcomes(["start", "strategy", "control"])
        return [
            Label(o.sample_id, o.value, " and ".join(o.by), o.at)
            for o in closed
            if o.verdict == "label" and o.value is not None
        ]

    def given_up(self) -> Mapping[str, str]:
        closed = self._ledger.outcomes(["start", "strategy", "control"])
        return {o.sample_id: WHY[o.verdict] for o in closed if o.verdict != "label"}

    def _place(self, id: str) -> float:
        return uniform(self._campaign.seed, f"order/{id}")

    def _wanted(self, id: str) -> int:
        """Two answers of a share of the images: how well people agree is then known."""
        return 2 if uniform(self._campaign.seed, f"double/{id}") < self._campaign.double else 1
