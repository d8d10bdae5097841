"""What the page says, in the order in which it says it; `page.html` only arranges it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mcdal.report import latex, words
from mcdal.report.balance import balance_figure
from mcdal.report.class_iou import class_figure, comparison_figure
from mcdal.report.curves import Look, Looks, difference_curve, learning_curve, looks, summary_table
from mcdal.report.experiments import Experiment, curve, experiments
from mcdal.report.gallery import Strip, pictures_per_round, read_gallery
from mcdal.report.ink import VARIABLES, Drawing, Table
from mcdal.report.kinds import MASKS
from mcdal.report.outcomes import Outcome, caution, left_out, outcomes, remarks
from mcdal.report.published import published
from mcdal.report.queries import Run
from mcdal.report.ranking import Ranking, rankings
from mcdal.report.scenes import Scenes, read_scenes, scenes_per_run
from mcdal.report.scores import read_scores, score_figure
from mcdal.report.section import Section
from mcdal.report.settings import Setting, common_sections, config_sections, environment
from mcdal.report.standings import penalty_figure, rank_figure
from mcdal.report.status import Status, history, status_of
from mcdal.report.tables import RoundTable, metric_table, round_table
from mcdal.report.timing import cost_figure, time_figure
from mcdal.report.verdicts import verdict_table, verdicts

NAMED = 6
"""Strategies that the first sentence can name."""
WHOLE = 24
"""Runs that have their pictures and settings in the page; of more there are tables alone, so that it opens in a moment."""


@dataclass(frozen=True)
class Chapter:
    """One experiment: its outcomes, as paragraphs of a few strategies or a table of many, and its curves.

    latex: a table for a paper, in a file of this name; or empty. tables: numbers beside the figures, by the name of the file and
    what they are called. left_out: what no comparison counts. published: the paper's
    numbers beside these. common: settings that all runs share, told here where the runs do not tell theirs.
    """

    experiment: Experiment
    outcomes: Sequence[Outcome]
    rankings: Sequence[Ranking]
    left_out: Sequence[str]
    published: Sequence[str]
    common: Mapping[str, Sequence[Setting]]
    drawings: Sequence[Drawing]
    latex: str
    latex_name: str
    tables: Sequence[tuple[str, str, Table]]


@dataclass(frozen=True)
class RunChapter:
    """Everything about one run."""

    run: Run
    anchor: str
    title: str
    look: Look
    status: Status
    reached: str
    rounds: RoundTable
    metrics: RoundTable | None
    drawings: Sequence[Drawing]
    scenes: Scenes | None
    strips: Sequence[Strip]
    unreadable: Sequence[str]
    no_scores: bool
    dense: bool
    config: Mapping[str, Sequence[Setting]]
    environment: Sequence[Setting]
    history: str


@dataclass(frozen=True)
class Page:
    """The whole report. excluded: what was wanted and is not in it, a sentence each."""

    chapters: Sequence[Chapter]
    runs: Sequence[RunChapter]
    sections: Sequence[Section] = ()
    excluded: Sequence[str] = ()

    @cached_property
    def drawings(self) -> list[Drawing]:
        parts: list[Section | Chapter | RunChapter] = [*self.sections, *self.chapters, *self.runs]
        return [drawing for part in parts for drawing in part.drawings]

    @property
    def title(self) -> str:
        return ", ".join(c.experiment.title for c in self.chapters) or "no runs"

    @property
    def lead(self) -> str:
        """What was run, in a sentence."""
        if not self.runs:
            return "The store holds no run yet."
        records = [chapter.run.record for chapter in self.runs]
        names = list(dict.fromkeys(words.strategy_name(r.strategy) for r in records))
        strategies = words.listed(names) if len(names) <= NAMED else f"{len(names)} strategies"
        seeds = len({r.seed for r in records})
        pools = dict.fromkeys((words.count(r.pool_size), len(r.classes)) for r in records)
        of = "; ".join(f"{size} images in {classes} classes" for size, classes in pools)
        return f"{words.plural(len(records), 'run')} of {strategies} with {words.plural(seeds, 'seed')}. Pool: {of}."

    @property
    def as_of(self) -> str:
        """The last event in the record. Not today's date: the same record gives the same page."""
        times = [t for c in self.runs for s in c.run.sessions for t in (s.started_at, s.ended_at) if t]
        times += [t for c in self.runs for r in c.run.rounds for t in (r.started_at, r.finished_at) if t]
        return words.moment(max(times)) if times else ""

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Each remark of a run once, with whose it is where not all runs share it."""
        whose: dict[str, list[str]] = {}
        for chapter in self.runs:
            for note in [*chapter.run.record.notes, *_searched(chapter.run)]:
                whose.setdefault(note, []).append(chapter.run.record.run_id)
        return [(note, "" if len(ids) == len(self.runs) else ", ".join(ids)) for note, ids in whose.items()]

    @property
    def warnings(self) -> list[str]:
        return [*self.excluded, *(r for c in self.chapters for r in remarks(c.experiment))]

    @property
    def caution(self) -> str:
        return caution([c.experiment for c in self.chapters])

    @property
    def brief(self) -> bool:
        """Whether there are too many runs to tell everything of each."""
        return len(self.runs) > WHOLE

    @property
    def unfinished(self) -> list[RunChapter]:
        return [c for c in self.runs if c.status.kind != "finished"]


def _searched(run: Run) -> list[str]:
    """How batches were searched for, where it was not among all samples at once; numbers that change with each round left out."""
    found: dict[str, list[str]] = {}
    for round in run.rounds:
        if round.searched.get("how") == "partition":
            found.setdefault(f"in {words.count(int(round.searched['parts']))} random parts", []).append(
                str(round.number)
            )
        elif round.searched.get("how") == "candidates":
            count = words.count(int(round.searched["candidates"]))
            found.setdefault(f"among the {count} samples that score the most", []).append(str(round.number))
    return [
        f"The batch of round {words.listed(numbers)} was chosen {text}, not among all at once (search.how)."
        for text, numbers in found.items()
    ]


def build_page(runs: Sequence[Run], sections: Sequence[Section] = (), excluded: Sequence[str] = ()) -> Page:
    """Draws everything. The runs appear by experiment and group, in the order of their figures; sections before them.

    excluded: what was wanted and is not among the runs, a sentence each.
    """
    found = experiments(runs)
    seen = looks(found)
    pictures, scenes = pictures_per_round(sum(len(run.rounds) for run in runs)), scenes_per_run(len(runs))
    ordered = [(run, seen[g.strategy, g.title]) for e in found for g in e.groups for run in g.runs]
    names = unique([words.slug(run.record.run_id) for run, _ in ordered])
    folders = unique([words.slug(f"{e.recipe}-{e.scale}") for e in found])
    brief = len(ordered) > WHOLE
    return Page(
        [_chapter(e, folder, seen, brief) for e, folder in zip(found, folders, strict=True)],
        [
            _brief_chapter(run, name, look) if brief else _run_chapter(run, name, look, pictures, scenes)
            for (run, look), name in zip(ordered, names, strict=True)
        ],
        sections,
        excluded,
    )


def unique(names: Sequence[str]) -> list[str]:
    """The same names, with a number where one would repeat (in any letter case), so that no file overwrites another."""
    taken: dict[str, str] = {}
    for name in names:
        candidates = (name if i == 1 else f"{name}_{i}" for i in range(1, len(names) + 1))
        free = next(c for c in candidates if c.lower() not in taken)
        taken[free.lower()] = free
    return list(taken.values())


def _chapter(experiment: Experiment, folder: str, looks: Looks, brief: bool) -> Chapter:
    drawings: list[Drawing] = []
    kind, found = experiment.kind, verdicts(experiment)
    if experiment.has(kind.headline):
        name = f"curves/{folder}_{kind.task.headline}"
        title = f"{words.titled(kind.headline_name)}, %"
        drawings.append(learning_curve(experiment, kind.headline, title, name, looks))
    if difference := difference_curve(experiment, f"curves/{folder}_minus_random", looks):
        drawings.append(difference)
    if experiment.beside_differs:
        name = f"curves/{folder}_{kind.beside.removeprefix('test/')}"
        title = f"{words.titled(kind.beside_name)}, %"
        drawings.append(learning_curve(experiment, kind.beside, title, name, looks))
    if compared := comparison_figure(experiment, f"curves/{folder}_class_iou"):
        drawings.append(compared)
    for i, family in enumerate(experiment.families):
        number = f"_{i + 1}" if len(experiment.families) > 1 else ""
        for figure, ending in ((penalty_figure, "penalties"), (rank_figure, "ranks")):
            if standing := figure(family, experiment.title, f"curves/{folder}_{ending}{number}"):
                drawings.append(standing)
    if costs := cost_figure(experiment, f"curves/{folder}_seconds"):
        drawings.append(costs)
    tables = {
        "summary": ("by labels", summary_table(experiment)),
        "verdicts": ("against Random", verdict_table(found)),
    }
    return Chapter(
        experiment=experiment,
        outcomes=outcomes(experiment, looks, found),
        rankings=rankings(experiment, looks, found),
        left_out=left_out(experiment),
        published=published(experiment),
        common=common_sections(experiment.runs) if brief else {},
        drawings=drawings,
        latex=latex.table(experiment),
        latex_name=f"curves/{folder}_table.tex",
        tables=[
            (f"curves/{folder}_{end}.csv", said, table) for end, (said, table) in tables.items() if table is not None
        ],
    )


def _brief_chapter(run: Run, name: str, look: Look) -> RunChapter:
    """What a run reached, and how it stands."""
    return RunChapter(
        **_head(run, name, look), metrics=None, drawings=(), scenes=None, strips=(), unreadable=_told(run.faults),
        no_scores=False, config={}, environment=(),
    )  # fmt: skip


def _head(run: Run, name: str, look: Look) -> dict[str, Any]:
    """The fields that every chapter of a run has."""
    points = list(curve(run, run.kind.headline).items())
    changed = words.overrides_text(run.record.overrides)
    return {
        "run": run,
        "anchor": f"run-{name}",
        "title": words.strategy_name(run.record.strategy) + (f" ({changed})" if changed else ""),
        "look": look,
        "status": status_of(run),
        "reached": f"{words.percent(points[-1][1])} with {words.plural(points[-1][0], 'label')}" if points else "",
        "rounds": round_table(run),
        "dense": run.kind is MASKS,
        "history": history(run),
    }


def _run_chapter(run: Run, name: str, look: Look, pictures: int, most_scenes: int) -> RunChapter:
    scores = read_scores(run)
    scored = {m.round for m in scores.rounds}
    strips, broken = read_gallery(run, pictures, scored)
    scenes, colours, lost = read_scenes(run, most_scenes)
    figures = (
        class_figure(run, colours, f"runs/{name}_class_iou"),
        score_figure(run, scores, f"runs/{name}_scores"),
        time_figure(run, f"runs/{name}_seconds"),
        balance_figure(run, f"runs/{name}_classes"),
    )
    return RunChapter(
        **_head(run, name, look),
        metrics=metric_table(run),
        drawings=[f for f in figures if f is not None],
        scenes=scenes,
        strips=strips,
        unreadable=[*scores.unreadable, *broken, *lost, *_told(run.faults)],
        no_scores=len(run.rounds) > 1 and not scored and not scores.unreadable,
        config=config_sections(run),
        environment=environment(run),
    )


def _told(faults: Sequence[str]) -> list[str]:
    """What is wrong with masks: the first few, and how many more."""
    more = [f"And {words.plural(len(faults) - 3, 'mask')} more that cannot be read."] if len(faults) > 3 else []
    return [f"{fault}." for fault in faults[:3]] + more


def render(page: Page) -> str:
    """The page as HTML; whatever came from outside is escaped."""
    templates = Environment(
        loader=PackageLoader("mcdal.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        moment=words.moment,
        count=words.count,
        duration=words.duration,
        variable=lambda color: f"var({VARIABLES[color]})",
        plain=asdict,
    )
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    return templates.get_template("page.html").render(page=page, script=Markup(script))
