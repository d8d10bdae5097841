"""`mcdal compare`: plays what is missing of a grid of runs, and tells what they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mcdal.address import is_store
from mcdal.command import Command
from mcdal.compare.asked import Entry, commands
from mcdal.compare.board import board
from mcdal.compare.cell import Cell
from mcdal.compare.on_ray import Cluster, RayTasks
from mcdal.compare.play import play
from mcdal.compare.players import Players
from mcdal.compare.processes import Processes, default_workers
from mcdal.database import Database
from mcdal.environment import commit
from mcdal.plan import same_recipe
from mcdal.report.experiments import experiments
from mcdal.report.queries import read_runs
from mcdal.report.verdicts import sentences, verdicts
from mcdal.report.words import MINUS, NARROW
from mcdal.store import Store
from mcdal.training import Training


@dataclass(frozen=True)
class Compared:
    """All cells, and what they show of each strategy, in words."""

    cells: Sequence[Cell]
    shown: Sequence[tuple[str, str]]

    @property
    def done(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.state == "done"]

    @property
    def failed(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.state == "failed"]

    @property
    def excluded(self) -> list[str]:
        """What the comparison lacks, a sentence a cell."""
        return [f"{cell.title}, seed {cell.plan.seed}, is not here: it failed ({cell.why})." for cell in self.failed]


def compare(
    of: Command, sides: Sequence[Entry], seeds: Sequence[int], out: Path, *, varied: Sequence[tuple[str, ...]] = ((),),
    device: str = "auto", workers: int | None = None, on: Cluster | None = None, database: str | None = None,
    quiet: bool = False, as_json: bool = False,
) -> Compared:  # fmt: skip
    """Plays every strategy of `sides` with every seed, but for what is done, in the store of `out`.

    varied: settings of all runs, each combination of which is played. workers: processes at once; by default one a processor,
    or one on an accelerator. on: plays them as tasks of a Ray cluster instead. database: URL of the one that keeps the rows of
    `out` from now on. ConfigError before anything runs where a cell cannot be. A run that fails does not stop the others.
    """
    cells = _cells(of, sides, seeds, varied)
    if database is not None:
        Database(out, url=database).close()
    _note_done(cells, out)
    training = cells[0].plan.config.training
    if all(cell.state == "done" for cell in cells):
        with board(cells, 1, quiet, as_json):
            pass
    else:
        players = _here(training, out, device, workers) if on is None else RayTasks(on, out, device, training)
        with players, board(cells, players.at_once, quiet, as_json) as tell:
            play(cells, players, tell, lending=not commit().endswith("+"))
    return Compared(cells, shown(out, [cell.plan.run_id for cell in cells if cell.state == "done"]))


def _here(training: Training, out: Path, device: str, workers: int | None) -> Players:
    on = training.numerics(device).device
    processes = training.processes_on(on)
    return Processes(out, device, workers or max(1, default_workers(on.type) // processes))


def _cells(of: Command, sides: Sequence[Entry], seeds: Sequence[int], varied: Sequence[tuple[str, ...]]) -> list[Cell]:
    fields = {setting.partition("=")[0] for settings in varied for setting in settings}
    return [Cell(command, plan, fields) for command, plan in commands(of, sides, seeds, varied)]


def missing(
    of: Command, sides: Sequence[Entry], seeds: Sequence[int], out: Path, varied: Sequence[tuple[str, ...]] = ((),)
) -> list[tuple[str, dict[str, object]]]:
    """Of each strategy which of its seeds are done and which are not, in a line and as plain values. Nothing is run."""
    cells = _cells(of, sides, seeds, varied)
    _note_done(cells, out)
    lines: list[tuple[str, dict[str, object]]] = []
    for title in dict.fromkeys(cell.title for cell in cells):
        seeds_of = {cell.plan.seed: cell.state == "done" for cell in cells if cell.title == title}
        left = [seed for seed, done in seeds_of.items() if not done]
        more = f", missing {', '.join(map(str, left))}" if left else ""
        text = f"{title}: {len(seeds_of) - len(left)} of {len(seeds_of)} seeds done{more}"
        done = [seed for seed in seeds_of if seed not in left]
        lines.append((text, {"event": "cells", "strategy": title, "done": done, "missing": left}))
    return lines


def _note_done(cells: Sequence[Cell], out: Path) -> None:
    """Marks the cells that the store holds whole. One that was begun with another recipe is played, to say so."""
    if not is_store(out):
        return
    store = Store(out, create=False)
    try:
        for cell in cells:
            record = store.run(cell.plan.run_id)
            if record is None or not same_recipe(record.config, cell.plan.config):
                continue
            finished = [r for r in store.rounds(record.run_id) if r.finished_at is not None]
            if len(finished) < cell.rounds:
                continue
            name = "test/mean_iou" if record.config.get("task") == "segmentation" else "test/accuracy"
            values = {m.round: m.value for m in store.metrics(record.run_id) if m.name == name}
            cell.state, cell.rounds_done, cell.labels = "done", len(finished), finished[-1].labeled
            cell.value = values.get(finished[-1].round)
    finally:
        store.close()


def shown(out: Path, run_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Strategies, and what these runs show of each against Random, in signs that every terminal has."""
    if not run_ids:
        return []
    lines = []
    for experiment in experiments(read_runs(out, run_ids)):
        for verdict in verdicts(experiment):
            words = " ".join(sentences(verdict, experiment.kind.headline_name))
            lines.append((verdict.group.title, words.replace(NARROW, " ").replace(MINUS, "-")))
    return lines
