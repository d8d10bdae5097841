"""How a run stands: finished, at work, waiting for labels, stopped, killed or broken."""

from dataclasses import dataclass
from typing import Literal

from mcdal.report.queries import Run
from mcdal.report.words import count, one_line, plural

Kind = Literal["finished", "running", "waiting", "stopped", "killed", "broken", "not started"]


@dataclass(frozen=True)
class Status:
    """A word for a badge, and a sentence for whoever has to do something about it (empty when all is well)."""

    kind: Kind
    sentence: str


def status_of(run: Run) -> Status:
    """What the last session tells, with what is still missing in the round under way."""
    if run.held:
        return Status("running", f"A process is working on it now{_under_way(run)}.")
    if not run.sessions:
        return Status("not started", "No process has worked on it yet.")
    outcome = run.sessions[-1].outcome
    if outcome is None:
        return Status(
            "killed", f"Its last process ended without a word, as after a kill or a power cut{_under_way(run)}. {AGAIN}"
        )
    if outcome == "done":
        return Status("finished", "")
    if outcome == "waiting":
        return Status("waiting", f"It waits for labels{_under_way(run)}.")
    if outcome == "stopped":
        return Status("stopped", f"It was stopped{_under_way(run)}. {AGAIN}")
    return Status("broken", f"Its last process ended with an error{_under_way(run)}: {one_line(outcome)}")


AGAIN = "The same command continues it; nothing recorded is lost."


def _under_way(run: Run) -> str:
    """`, in round 3, with 12 of 100 labels still to come`."""
    open_rounds = [r for r in run.rounds if r.finished_at is None]
    if not open_rounds:
        return "" if run.finished else ", before its first round"
    last = open_rounds[-1]
    missing = run.unanswered(last)
    labels = f", with {count(missing)} of {plural(len(last.picks), 'label')} still to come" if missing else ""
    return f", in round {last.number}{labels}"


def history(run: Run) -> str:
    """`3 sessions: continued twice, killed once.`"""
    killed = sum(s.outcome is None for s in run.sessions) - (run.held and run.sessions[-1].outcome is None)
    times = {0: "never", 1: "once", 2: "twice"}
    told = [
        f"{word} {times.get(n, f'{n} times')}"
        for word, n in (("continued", len(run.sessions) - 1), ("killed", killed))
        if n > 0
    ]
    return f"{plural(len(run.sessions), 'session')}{': ' + ', '.join(told) if told else ', in one go'}."
