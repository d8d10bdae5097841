"""The outcome of each group in words: what was reached, with how many labels, over which seeds, and what that shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from mcdal.report.curves import Look, Looks
from mcdal.report.experiments import Experiment, Group, summarize
from mcdal.report.standings import unranked
from mcdal.report.status import status_of
from mcdal.report.verdicts import Verdict, sentences
from mcdal.report.words import NARROW, count, listed, percent, plural, points


@dataclass(frozen=True)
class Outcome:
    """One strategy's line at the head of the page. value: its accuracy or mean IoU, or empty before the first finished round.

    shown: what its seeds show against Random, and what they do not.
    """

    title: str
    look: Look
    value: str
    sentence: str
    versus: str
    shown: str


def outcomes(experiment: Experiment, looks: Looks, verdicts: Sequence[Verdict]) -> list[Outcome]:
    """In the order of the figure's groups."""
    name = experiment.kind.headline_name
    shown = {id(v.group): " ".join(sentences(v, name)) for v in verdicts if v.seeds > 1}
    return [
        Outcome(
            group.title,
            looks[group.strategy, group.title],
            *_reached(group, name),
            _versus(experiment, group),
            shown.get(id(group), ""),
        )
        for group in experiment.groups
    ]


def _reached(group: Group, name: str) -> tuple[str, str]:
    """The value and its sentence, at the largest number of labels that all begun runs of the group have reached."""
    begun = len(group.curves())
    if not begun:
        return "", f"no finished round yet ({plural(len(group.runs), 'run')})."
    summaries = group.summaries()
    if not summaries:
        return "", f"its {begun} runs have no number of labels in common: see their tables."
    last = summaries[-1]
    running = any(status_of(run).kind != "finished" for run in group.runs)
    spread = f"standard deviation {100 * last.deviation:.1f} points"
    seeds = f"mean of {plural(last.seeds, 'seed')}, from {percent(last.low)} to {percent(last.high)} ({spread})"
    text = f"{name} with {plural(last.labels, 'label')}: {seeds if last.seeds > 1 else 'one seed'}"
    more = len(group.runs) - begun
    if running:
        text += (
            "; so far, not all of its runs are finished" if len(group.runs) > 1 else "; so far, the run is not finished"
        )
    if more:
        text += f" ({plural(more, 'run')} without a finished round)"
    return percent(last.mean), text + "."


def _versus(experiment: Experiment, group: Group) -> str:
    """`1.3 points above Random with 400 labels (seed 0: +1.1, seed 1: +1.5).`"""
    pairs = experiment.differences(group)
    summaries = summarize([c for *_, c in pairs])
    if not summaries:
        return ""
    last = summaries[-1]
    each = ", ".join(f"seed{NARROW}{run.record.seed}: {points(c[last.labels])}" for run, _, c in pairs)
    said = points(last.mean)
    side = "Level with" if said == "0.0" else f"{said[1:]} points {'above' if said[0] == '+' else 'below'}"
    few = f" ({each})" if 1 < len(pairs) <= 6 else f", mean of {plural(len(pairs), 'seed')}" if len(pairs) > 1 else ""
    return (
        f"{side} Random with {plural(last.labels, 'label')} and the same {'seed' if len(pairs) == 1 else 'seeds'}{few}."
    )


def caution(experiments: Sequence[Experiment]) -> str:
    """What a reader must keep in mind; empty where there is nothing to compare."""
    groups = [g for e in experiments for g in e.groups if g.curves()]
    fewest = min((len(g.curves()) for g in groups), default=0)
    if len(groups) < 2 or fewest >= 5:
        return ""
    return (
        f"Some lines rest on {'a single seed' if fewest == 1 else f'{fewest} seeds'}. "
        "Differences may be chance; the page says of each whether its seeds show one."
    )


def remarks(experiment: Experiment) -> list[str]:
    """What keeps runs that may be compared from being compared as they stand."""
    found = []
    for family in experiment.families:
        runs = [run for group in family.groups for run in group.runs]
        title = f"{experiment.title} · {family.title}" if family.title else experiment.title
        if len({run.record.data_fingerprint for run in runs}) > 1:
            found.append(f"{title}: the runs did not all read the same data (their fingerprints differ).")
        starts = {(run.record.seed, run.rounds[0].picks) for run in runs if run.rounds}
        if len(starts) > len({seed for seed, _ in starts}):
            found.append(f"{title}: runs of the same seed began from different start sets.")
        sizes = sorted({run.record.pool_size for run in runs})
        if len(sizes) > 1:
            found.append(f"{title}: pools of different size ({', '.join(map(count, sizes))} images).")
    return found


def left_out(experiment: Experiment) -> list[str]:
    """Runs, seeds and numbers of labels that no comparison of this experiment counts, and why."""
    found = [f"{run.record.run_id}: no round is finished yet." for run in experiment.runs if not run.finished]
    anywhere = any(family.random for family in experiment.families)
    if not anywhere and sum(bool(group.curves()) for group in experiment.groups) > 1:
        found.append("Random is not among the strategies: no difference to it, and no labels saved, can be told.")
    for family in experiment.families:
        for group in family.groups:
            if not group.is_random and group.curves():
                found += _unpaired(group, family.random, anywhere)
        found += [
            f"{name}: it has no mean rank, since it lacks seeds that the others have." for name in unranked(family)
        ]
    return found + [told for group in experiment.groups for told in _shorter(group)]


def _unpaired(group: Group, random: Group | None, anywhere: bool) -> list[str]:
    """anywhere: whether there is a Random with other settings."""
    if random is None:
        missing = f"{group.title}: there is no run of Random with the same settings to compare it with."
        return [missing] if anywhere else []
    theirs = {run.record.seed for run, _ in random.curves()}
    alone = sorted({run.record.seed for run, _ in group.curves()} - theirs)
    return [f"{group.title}: {_seeds(alone)} not compared with Random, which has no such run."] if alone else []


def _seeds(numbers: Sequence[int]) -> str:
    return f"seed {numbers[0]} is" if len(numbers) == 1 else f"seeds {listed([str(n) for n in numbers])} are"


def _shorter(group: Group) -> list[str]:
    """Where one run has come less far than another, their comparison ends there."""
    reached = {run.record.run_id: max(curve) for run, curve in group.curves()}
    if len(set(reached.values())) < 2:
        return []
    least = min(reached.values())
    behind = [run_id for run_id, labels in reached.items() if labels == least]
    who = behind[0] if len(behind) == 1 else f"{plural(len(behind), 'run')} of it"
    return [f"{group.title}: everything beyond {plural(least, 'label')}, since {who} has come no further."]
