"""People as the oracle of a run: it is asked by questions in the ledger, and answered when they are closed."""

from collections.abc import Iterable, Mapping

from mcdal.campaign.definition import Campaign
from mcdal.campaign.draws import is_double, place
from mcdal.campaign.ledger import Arm, Ledger, Question
from mcdal.oracles.base import Oracle
from mcdal.pool.base import Pool
from mcdal.store import Store
from mcdal.values import Ids, Label

LEARNED: tuple[Arm, ...] = ("start", "strategy", "control", "given")
WHY = {
    "cannot_tell": "people could not tell, or did not agree",
    "withdrawn": "the image has gone",
    "ended": "the campaign ended",
}


class People(Oracle):
    """Of one campaign. Audit images that nobody was asked about yet are asked with the next round, in one order with it that
    does not tell which is which."""

    def __init__(self, campaign: Campaign, ledger: Ledger, store: Store, run_id: str, pool: Pool):
        self._campaign, self._ledger, self._store, self._run_id = campaign, ledger, store, run_id
        self._audit = pool.test.images.ids

    def ask(self, ids: Ids) -> None:
        known = self._ledger.known(ids)
        new = [id for id in ids if id not in known]
        if not new:  # a process that was killed, or that waits, asks again
            return
        round = self._store.rounds(self._run_id)[-1].round
        drawn = self._store.control(self._run_id)
        arms: dict[str, Arm] = {id: "start" if round == 0 else "control" if id in drawn else "strategy" for id in ids}
        asked = self._ledger.known(self._audit)
        arms |= dict.fromkeys([id for id in self._audit if id not in asked], "audit")
        order = sorted(arms, key=self._place)
        self._ledger.ask([Question(id, round, rank, arms[id], self._wanted(id)) for rank, id in enumerate(order)])

    def answers(self) -> Iterable[Label]:
        closed = self._ledger.outcomes(LEARNED)
        return [
            Label(o.sample_id, o.value, " and ".join(o.by), o.at)
            for o in closed
            if o.verdict == "label" and o.value is not None
        ]

    def given_up(self) -> Mapping[str, str]:
        closed = self._ledger.outcomes(LEARNED)
        return {o.sample_id: WHY[o.verdict] for o in closed if o.verdict != "label"}

    def _place(self, id: str) -> float:
        return place(self._campaign.seed, id)

    def _wanted(self, id: str) -> int:
        """Two answers of a share of the images: how well people agree is then known."""
        return 2 if is_double(self._campaign.seed, id, self._campaign.double) else 1
