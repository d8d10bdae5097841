"""Plays the cells of a comparison: which one is next, and what becomes of each. What one does does not touch the others."""

from collections.abc import Callable, Sequence
from typing import Any

from mcdal.compare.cell import Cell
from mcdal.compare.players import Players, Word
from mcdal.twins import lends, may_take_over

Tell = Callable[[str, Cell, dict[str, Any]], None]
"""Is told what happened, to which cell, and what was said: begin, event, note, end, look (time has passed)."""

TRIES = 3
"""Times that a cell may be lost without having finished a further round."""


def play(cells: Sequence[Cell], players: Players, tell: Tell, lending: bool = True) -> None:
    """Has those played that are not done, as many at once as `players` have room for. One that fails says why; the others go on.

    lending: whether one may take over another's first round, and so waits for it. Ctrl-C stops all of them; every one continues
    when it is played again.
    """
    _Play(cells, players, tell, lending).play()


class _Play:
    def __init__(self, cells: Sequence[Cell], players: Players, tell: Tell, lending: bool):
        self._waiting = [cell for cell in cells if cell.state == "waiting"]
        self._given: dict[str, Cell] = {}
        self._players, self._tell, self._lending = players, tell, lending
        self._lost: dict[str, tuple[int, int]] = {}  # of each run how often, and with how many rounds

    def play(self) -> None:
        try:
            while self._waiting or self._given:
                while self._players.have_room() and (cell := self._next()) is not None:
                    self._given[cell.plan.run_id] = cell
                    self._players.begin(cell)
                for word in self._players.listen():
                    self._hear(word)
                for cell in list(self._given.values()):
                    self._tell("look", cell, {})
        finally:
            self._players.stop()
            for cell in self._given.values():
                cell.state = "waiting"

    def _next(self) -> Cell | None:
        """The next cell that may begin; none while it would compute what another is about to lend."""
        first = {cell.plan.seed for cell in self._given.values() if lends(cell.strategy) and cell.rounds_done == 0}
        for cell in self._waiting:
            if not (self._lending and cell.plan.seed in first and may_take_over(cell.strategy)):
                self._waiting.remove(cell)
                return cell
        return None

    def _hear(self, word: Word) -> None:
        cell = self._given.get(word.run_id)
        if cell is None:  # the last words of one that was lost
            return
        if word.kind == "begin":
            cell.begin()
            self._tell("begin", cell, {})
        elif word.kind == "event":
            said = dict(word.said)
            if cell.hear(said.pop("event"), said):
                self._tell("event", cell, said)
        elif word.kind == "note":
            self._tell("note", cell, {"text": word.why})
        elif word.kind == "end" or self._was_lost_too_often(cell):
            self._end(cell, word.why)
        else:
            self._again(cell, word.why)

    def _end(self, cell: Cell, why: str) -> None:
        del self._given[cell.plan.run_id]
        cell.end(why)
        self._tell("end", cell, {})

    def _was_lost_too_often(self, cell: Cell) -> bool:
        """Counts it. One that gets on may be lost as often as it pleases: it costs no more than is left of it."""
        times, rounds = self._lost.get(cell.plan.run_id, (0, cell.rounds_done))
        times = times + 1 if rounds == cell.rounds_done else 1
        self._lost[cell.plan.run_id] = times, cell.rounds_done
        return times >= TRIES

    def _again(self, cell: Cell, why: str) -> None:
        """Before all others: where it lends its first round, they wait for it."""
        del self._given[cell.plan.run_id]
        cell.state = "waiting"
        self._waiting.insert(0, cell)
        self._tell("note", cell, {"text": f"it is played again: {why}"})
