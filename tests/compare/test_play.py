"""Which cell is next and what becomes of those that fail or are lost, with players that do nothing."""

import pytest

from mcdal.command import Command
from mcdal.compare.asked import commands, entries
from mcdal.compare.cell import Cell
from mcdal.compare.play import TRIES, play
from mcdal.compare.players import Players, Word

ROUND, RESULT = {"event": "round", "round": 1, "rounds": 4}, {"event": "result", "round": 0, "labels": 12}


class Scripted(Players):
    """Tells of each cell what its script says, one turn after the other, and then that it ended. `begun` is who came when."""

    def __init__(self, scripts=None, room=99):
        self.scripts = {run_id: list(turns) for run_id, turns in (scripts or {}).items()}
        self.room, self.running, self.begun, self.most, self.stopped = room, [], [], 0, False

    @property
    def at_once(self):
        return self.room

    def have_room(self):
        return len(self.running) < self.room

    def begin(self, cell):
        self.running.append(cell)
        self.begun.append(cell.plan.run_id)
        self.most = max(self.most, len(self.running))

    def listen(self):
        for cell in list(self.running):
            run_id = cell.plan.run_id
            yield Word("begin", run_id)
            turns = self.scripts.get(run_id, [])
            turn = turns.pop(0) if turns else ("end", "")
            if isinstance(turn, dict):
                yield Word("event", run_id, said=turn)
            elif turn is KeyboardInterrupt:
                raise turn
            else:
                self.running.remove(cell)
                yield Word(turn[0], run_id, turn[1])

    def stop(self):
        self.stopped = True


def grid(strategies, seeds):
    made = commands(Command("digits"), entries(strategies), seeds)
    return {f"{plan.strategy_name} {plan.seed}": Cell(command, plan) for command, plan in made}


def played(cells, scripts=None, lending=True, **more):
    ids = {name: cell.plan.run_id for name, cell in cells.items()}
    players = Scripted({ids[name]: turns for name, turns in (scripts or {}).items()}, **more)
    told = []

    def tell(kind, cell, said):
        told.append((kind, cell, dict(said)))

    try:
        play(list(cells.values()), players, tell, lending)
    finally:
        assert players.stopped
    names = {run_id: name for name, run_id in ids.items()}
    return [names[run_id] for run_id in players.begun], told, players


def test_those_that_would_train_the_same_first_round_wait_for_it():
    cells = grid("random,margin,vaal", [0, 1])
    begun, _, players = played(cells, {"random 0": [{**ROUND, "round": 0}, ROUND, ROUND], "random 1": [RESULT]})
    # VAAL trains a network of its own, which takes nothing over.
    assert begun == ["random 0", "vaal 0", "random 1", "vaal 1", "margin 1", "margin 0"]
    assert players.most <= 5 and all(cell.state == "done" for cell in cells.values())


def test_nobody_waits_for_what_cannot_be_taken_over():
    cells = grid("random,margin", [0])
    begun, _, players = played(cells, {"random 0": [{**ROUND, "round": 0}, ROUND]}, lending=False)
    assert begun == ["random 0", "margin 0"] and players.most == 2


def test_no_more_at_once_than_there_is_room_for():
    cells = grid("random,margin", [0, 1, 2])
    assert played(cells, room=2)[2].most == 2


def test_what_is_done_is_not_played():
    cells = grid("random,margin", [0])
    cells["random 0"].state = "done"
    assert played(cells)[0] == ["margin 0"]


def test_a_failure_stays_alone_and_says_why():
    cells = grid("random,margin", [0])
    _, told, _ = played(cells, {"random 0": [("end", "it broke")]})
    assert [cell.state for cell in cells.values()] == ["failed", "done"]
    assert cells["random 0"].why == "it broke"
    assert [cell.title for kind, cell, _ in told if kind == "end"] == ["random", "margin"]


def test_what_is_lost_is_played_again_before_others_which_wait_for_its_first_round():
    cells = grid("random,margin", [0])
    begun, told, _ = played(cells, {"random 0": [("lost", "a node went")]}, room=1)
    assert begun == ["random 0", "random 0", "margin 0"]
    assert [said["text"] for kind, _, said in told if kind == "note"] == ["it is played again: a node went"]
    assert all(cell.state == "done" for cell in cells.values())


def test_one_that_does_not_get_on_is_not_tried_for_ever():
    cells = grid("random,margin", [0])
    begun, _, _ = played(cells, {"random 0": [("lost", "out of memory")] * 9})
    assert begun.count("random 0") == TRIES
    assert cells["random 0"].state == "failed" and "out of memory" in cells["random 0"].why
    assert cells["margin 0"].state == "done"


def test_one_that_gets_on_is():
    cells = grid("random", [0])
    turns = [
        turn
        for n in range(1, 4)
        for turn in ({**ROUND, "round": n}, ("lost", "a spot machine went"), ("lost", "another"))
    ]
    assert len(played(cells, {"random 0": turns})[0]) == 7
    assert cells["random 0"].state == "done"


def test_a_stop_leaves_what_was_under_way_to_be_played_again():
    cells = grid("random,margin", [0])
    with pytest.raises(KeyboardInterrupt):
        played(cells, {"random 0": [RESULT, KeyboardInterrupt]})
    assert {cell.state for cell in cells.values()} == {"waiting"}
