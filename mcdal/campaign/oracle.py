"""People as the oracle of a run: it is asked by questions in the ledger, and answered when they are closed."""

from collections.abc import Iterable, Mapping

from mcdal.campaign.copies import copied, keep
from mcdal.campaign.definition import Opened
from mcdal.campaign.draws import is_double, place
from mcdal.campaign.fan_out import near_duplicates
from mcdal.campaign.ledger import Arm, Question
from mcdal.campaign.noting import note_shards
from mcdal.campaign.progress import PICKED
from mcdal.oracles.base import Oracle
from mcdal.pool.base import Pool
from mcdal.store import Store
from mcdal.values import Ids, Label

LEARNED: tuple[Arm, ...] = (*PICKED, "given")
ARMS: dict[str | None, Arm] = {None: "strategy", "control": "control", "easy": "easy", "rare": "rare"}
WHY = {
    "cannot_tell": "people could not tell, or did not agree",
    "withdrawn": "the image has gone",
    "ended": "the campaign ended",
}


class People(Oracle):
    """Of one campaign. Audit images that nobody was asked about yet are asked with the next round, in one order with it that
    does not tell which is which."""

    def __init__(self, campaign: Opened, store: Store, pool: Pool):
        self._opened, self._campaign, self._ledger = campaign, campaign.campaign, campaign.ledger
        self._store, self._run_id = store, campaign.run_id
        self._pool, self._audit = pool, pool.test.images.ids

    def ask(self, ids: Ids) -> None:
        known = self._ledger.known(ids)
        new = [id for id in ids if id not in known]
        if not new:  # a process that was killed, or that waits, asks again
            return
        round = self._store.rounds(self._run_id)[-1].round
        beside = self._store.arms(self._run_id)
        arms: dict[str, Arm] = {id: "start" if round == 0 else ARMS[beside.get(id)] for id in ids}
        asked = self._ledger.known(self._audit)
        arms |= dict.fromkeys([id for id in self._audit if id not in asked], "audit")
        # Those of a class that was added come first: it has waited, and each of them makes the next ones likelier.
        self._fan_out(ids)
        order = sorted(arms, key=lambda id: (arms[id] != "rare", self._place(id)))
        note_shards(self._opened, order)
        self._ledger.ask(
            [Question(id, round, rank, arms[id], self._wanted(id, arms[id])) for rank, id in enumerate(order)]
        )
        self._end_beyond_budget(ids)

    def answers(self) -> Iterable[Label]:
        closed = self._ledger.outcomes(LEARNED)
        given = {
            o.sample_id: Label(o.sample_id, o.value, " and ".join(o.by), o.at)
            for o in closed
            if o.verdict == "label" and o.value is not None
        }
        taken_over = [
            Label(copy.sample_id, given[copy.of].value, f"{given[copy.of].by}, of {copy.of}", given[copy.of].at)
            for copy in copied(self._ledger)
            if copy.of in given
        ]
        return [*given.values(), *taken_over]

    def given_up(self) -> Mapping[str, str]:
        closed = self._ledger.outcomes(LEARNED)
        return {o.sample_id: WHY[o.verdict] for o in closed if o.verdict != "label"}

    def is_over(self) -> bool:
        return self._ledger.wanted(PICKED) >= self._opened.campaign.budget

    def _end_beyond_budget(self, ids: Ids) -> None:
        """Somebody may have finished the campaign, or lowered its budget, while this round was picked."""
        beyond = self._ledger.wanted(PICKED) - self._opened.campaign.budget
        if beyond >= len(ids):
            self._ledger.withdraw(self._ledger.open(), "ended")
        elif beyond > 0:
            self._ledger.withdraw(ids[-beyond:], "ended")

    def _fan_out(self, ids: Ids) -> None:
        """Before they are asked about: a process that is killed in between looks again."""
        definition = self._campaign
        if definition.fan_out and definition.near is not None:
            done = {*self._store.labels(self._run_id), *self._store.set_aside_ids(self._run_id)}
            keep(self._ledger, near_duplicates(self._pool, ids, definition.near, done, self._pool.test.images))

    def _place(self, id: str) -> float:
        return place(self._campaign.seed, id)

    def _wanted(self, id: str, arm: Arm) -> int:
        """Two answers of a share of the images: how well people agree is then known.

        Of audit images as many as are wanted: a wrong label there is taken for an error of the model.
        """
        wanted = 2 if is_double(self._campaign.seed, id, self._campaign.double) else 1
        return max(wanted, self._campaign.audit_answers) if arm == "audit" else wanted
