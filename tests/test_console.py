"""What is told while a run plays: how long it takes, and how it looks in a terminal, a pipe and for a program."""

import io
import json
import os
import select
import sys

import pytest

from mcdal import console
from mcdal.console import Lines, Outlook, duration


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (5400, "1.5 h"),
        (90_000, "25.0 h"),
        (300_000, "3.5 days"),
    ],
)
def test_durations_are_in_one_unit(seconds, words):
    assert duration(float(seconds)) == words


def played(clock, outlook, rounds, seconds_measuring, seconds_training):
    """Tells of rounds that take so long, after each event; yields (round, kind, done)."""
    for round in range(rounds):
        outlook.hear("round", {"round": round, "rounds": rounds})
        yield round, "round", 0
        if round:
            clock.now += seconds_measuring
            outlook.hear("measure", {"done": 50, "total": 50})
            yield round, "measure", 50
        for done in range(0, 101, 10):
            outlook.hear("train", {"done": done, "total": 100})
            yield round, "train", done
            clock.now += seconds_training / 10
        outlook.hear("test", {"done": 10, "total": 10})
        yield round, "test", 10


def test_the_time_left_is_right_when_rounds_are_equal():
    clock = Clock()
    outlook = Outlook(clock)
    for round, kind, done in played(clock, outlook, 4, 0.0, 100.0):
        if kind == "train" and done:
            assert outlook.phase_left == pytest.approx(100 - done)
            behind = 10 if round else 0  # the rounds so far took 110: the clock went on after the last step
            assert outlook.run_left == pytest.approx(100 - done + (3 - round) * (100 + behind))
            assert outlook.share == done / 100
    assert outlook.round == 3 and outlook.run_left == 0


def test_measuring_is_learned_from_the_first_round_that_measures():
    clock = Clock()
    outlook = Outlook(clock)
    for round, kind, done in played(clock, outlook, 5, 50.0, 100.0):
        if round == 3 and kind == "train" and done == 50:
            assert outlook.run_left == pytest.approx(50 + 160)


def test_a_continued_training_is_not_taken_for_a_fast_one():
    clock = Clock()
    outlook = Outlook(clock)
    outlook.hear("round", {"round": 2, "rounds": 4})
    outlook.hear("train", {"done": 80, "total": 100})
    assert outlook.phase_left is None and outlook.run_left is None, "nothing is known yet"
    clock.now += 10
    outlook.hear("train", {"done": 90, "total": 100})
    assert outlook.phase_left == pytest.approx(10) and outlook.run_left == pytest.approx(10 + 100)


def test_lines_tell_of_progress_once_a_minute(capsys):
    clock = Clock()
    lines = Lines(quiet=False, now=clock)
    lines.tell("prepare", done=0, total=100, what="decoding pets")
    lines.tell("prepare", done=50, total=100, what="decoding pets")
    lines.tell("run", run_id="pets-mcdal-s0", rounds=2)
    lines.tell("round", round=0, rounds=2)
    for done in range(10, 100, 10):
        clock.now += 25
        lines.tell("train", done=done, total=100, **{"train/loss": 1.5, "train/accuracy": 0.5})
    lines.tell("result", round=0, labels=1200, **{"test/accuracy": 0.912345})
    lines.tell("result", round=1, labels=1300)
    lines.tell("notice", text="[b c h w]")
    lines.tell("hint", text="mcdal report")
    assert capsys.readouterr().out.splitlines() == [
        "decoding pets",
        "run pets-mcdal-s0: 2 rounds",
        "round 0: training 30/100, loss 1.500, accuracy 50.0 %, 3 min left, the run 7 min",
        "round 0: training 60/100, loss 1.500, accuracy 50.0 %, 2 min left, the run 6 min",
        "round 0: training 90/100, loss 1.500, accuracy 50.0 %, 25 s left, the run 5 min",
        "round 0: 1,200 labels, 91.23 % test accuracy",
        "round 1: 1,300 labels",
        "note: [b c h w]",
        "next: mcdal report",
    ]


def test_quiet_tells_results_and_problems(capsys):
    clock = Clock()
    lines = Lines(quiet=True, now=clock)
    lines.tell("run", run_id="a", rounds=2)
    lines.tell("prepare", done=0, total=100, what="decoding pets")
    clock.now += 1000
    lines.tell("round", round=0, rounds=1)
    lines.tell("train", done=1, total=2)
    lines.tell("notice", text="no label yet")
    lines.tell("result", round=0, labels=3, **{"test/accuracy": 0.5})
    lines.tell("hint", text="mcdal report")
    assert capsys.readouterr().out.splitlines() == ["note: no label yet", "round 0: 3 labels, 50.00 % test accuracy"]


def test_json_is_json_even_for_what_is_not_a_number(capsys):
    with console.listener(quiet=False, as_json=True) as listen:
        listen("result", round=0, loss=float("nan"), gain=float("inf"))
    assert json.loads(capsys.readouterr().out) == {"event": "result", "round": 0, "loss": None, "gain": None}


def everything(leader):
    """What was sent to a terminal, which gives it in pieces."""
    pieces = []
    while select.select([leader], [], [], 0.5)[0]:
        pieces.append(os.read(leader, 65536))
    return b"".join(pieces).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_results_go_to_a_file_while_the_terminal_shows_bars(monkeypatch):
    leader, follower = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with console.listener(quiet=False, as_json=False) as listen:
            listen("run", run_id="pets-mcdal-s0", rounds=2)
            listen("prepare", done=1, total=2, what="decoding [pets]")
            listen("round", round=0, rounds=2)
            listen("train", done=1, total=10, **{"train/loss": 1.5, "train/accuracy": 0.5})
            listen("result", round=0, labels=3, **{"test/accuracy": 0.5})
        sent = everything(leader)
    os.close(leader)
    assert sys.stdout.getvalue() == "run pets-mcdal-s0: 2 rounds\nround 0: 3 labels, 50.00 % test accuracy\n"
    assert sent.rindex("round 0") < sent.rindex("training"), "the phase stands below the rounds"
    assert "3 labels" not in sent and "0/2" in sent and "loss 1.500, accuracy 50.0 %" in sent
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l"), "the cursor is given back"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    with console.listener(quiet=False, as_json=False) as listen:
        listen("run", run_id="a", rounds=2)
    assert capsys.readouterr().out == "run a: 2 rounds\n"
