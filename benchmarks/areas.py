"""Every strategy on small pools: the area under its learning curve against Random's, paired by seed.

All strategies of a seed share the start set, the initial weights and the number of steps (benchmarks/recipes.py). The area is
that of the test accuracy over the number of labels, divided by the range of labels: the mean accuracy of a campaign. The interval
is Student's t over the paired differences of the seeds; no correction for the number of strategies is made here.
Runs are kept in --work and continued from there: adding seeds or strategies plays only what is missing.

    OMP_NUM_THREADS=1 PYTHONPATH=.:benchmarks python benchmarks/areas.py digits --seeds 0-9 --work FOLDER
    OMP_NUM_THREADS=1 PYTHONPATH=.:benchmarks python benchmarks/areas.py fashion --data IDX_FOLDER --seeds 0-9 --work FOLDER

`--add` keeps the rows of an earlier result: what is played now must agree with it where both have a seed, so that seeds and
strategies can be added without the runs of before.

`--ablations` adds settings of MCDAL: the paper's, and those that say why it falls short of Margin.

Three of the pools are seen through a frozen encoder, so that twenty seeds take minutes; there the strategies take part that need
neither pixels nor stages of a network. `_tenth` is the paper's protocol, from 10 % by 5 %. `folders` makes its images of
CIFAR-10, Fashion-MNIST and the digits in --work.

    ... areas.py cifar10_frozen --data CIFAR_FOLDER --seeds 0-19 --work FOLDER
    ... areas.py fashion_frozen_tenth --data IDX_FOLDER --seeds 0-19 --work FOLDER
    ... areas.py folders_frozen --data CIFAR_FOLDER --fashion IDX_FOLDER --seeds 0-19 --work FOLDER

CIFAR-10 from scratch takes some four minutes a run, with the strategies that are named:

    ... areas.py cifar10_scratch --data CIFAR_FOLDER --seeds 0-2 \\
        --strategies random margin entropy badge core_set mcdal mcdal_posthoc

The same with a larger network that learns all labels, on a GPU, where several runs share it best by CUDA's multi-process service:

    ... areas.py cifar10_gpu --device cuda --workers 8 --data CIFAR_FOLDER --seeds 0-2 \\
        --strategies random margin entropy badge core_set mcdal mcdal_posthoc

CamVid at its small scale is judged by mean IoU, with the strategies that are named; `--all` adds Random's value with all labels.

    ... areas.py camvid --data CAMVID --seeds 0-2 --strategies random entropy mcdal "mcdal: compared by pixel" --all --work FOLDER
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import recipes
import torch
from area_tables import added, result

from mcdal.compare.asked import seeds
from mcdal.config import Config
from mcdal.errors import ConfigError, McdalError
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.pool.camvid import COUNTS
from mcdal.recipes.camvid import camvid
from mcdal.registry import listed, load
from mcdal.settings import override
from mcdal.store import Store

# The published sizes of these networks are for a GPU and images of 32x32; their narrow ones take part here.
NARROW: Mapping[str, Mapping[str, str]] = {
    "vaal": {"strategy.width": "8", "strategy.size": "16"},
    "sraal": {"strategy.width": "8", "strategy.size": "16"},
}
# Why a method that loses loses: the same score drawn by lot shows what the likeness of a batch costs, and weights of 0 (Random's
# picks) what a changed training costs.
BY_LOT = {"strategy.sampling": "power"}
CONTROLS: dict[str, tuple[str, Mapping[str, str]]] = {
    "mcdal: by lot": ("mcdal", BY_LOT),
    "entropy: by lot": ("entropy", BY_LOT),
    "mc_dropout: by lot": ("mc_dropout", BY_LOT),
    "ensemble: by lot": ("ensemble", BY_LOT),
    "ll: by lot": ("ll", {"strategy.sampling": "softrank"}),
    "mc_dropout: at random": ("mc_dropout", BY_LOT | {"strategy.beta": "0.0"}),
    "ll: at random": ("ll", {"strategy.sampling": "softrank", "strategy.beta": "0.0"}),
    "mcdal_posthoc: one pair": ("mcdal_posthoc", {"strategy.pairs": "1"}),
    "mcdal: compared by pixel": ("mcdal", {"strategy.compared": "pixel"}),
    "random: 6 a drive": ("random", {"protocol.per_group": "6"}),
    "entropy: 6 a drive": ("entropy", {"protocol.per_group": "6"}),
    "mcdal: 6 a drive": ("mcdal", {"protocol.per_group": "6"}),
}


ABLATIONS: dict[str, tuple[str, Mapping[str, str]]] = {
    # the paper's Fig. 8 to 10
    "mcdal: l2": ("mcdal", {"strategy.distance": "l2"}),
    "mcdal: kl": ("mcdal", {"strategy.distance": "kl"}),
    "mcdal: 4 heads": ("mcdal", {"strategy.heads": "4"}),
    "mcdal: 6 heads": ("mcdal", {"strategy.heads": "6"}),
    "mcdal: 8 heads": ("mcdal", {"strategy.heads": "8"}),
    "mcdal: no discrepancy loss": ("mcdal", {"strategy.discrepancy_loss": "false"}),
    # why it falls short of Margin
    "mcdal: weight .3": ("mcdal", {"strategy.weight": "0.3"}),
    "mcdal: weight 3": ("mcdal", {"strategy.weight": "3.0"}),
    "mcdal: weight 10": ("mcdal", {"strategy.weight": "10.0"}),
    "mcdal: 5 head steps": ("mcdal", {"strategy.head_steps": "5"}),
    "mcdal: 20 head steps": ("mcdal", {"strategy.head_steps": "20"}),
    "mcdal: 4 pairs": ("mcdal", {"strategy.pairs": "4"}),
    "mcdal: gain .2": ("mcdal", {"strategy.init_gain": "0.2"}),
    "mcdal: gain 5": ("mcdal", {"strategy.init_gain": "5.0"}),
    "mcdal: balanced": ("mcdal", {"strategy.sampling": "balanced"}),
    "mcdal: balanced, gain 5": ("mcdal", {"strategy.sampling": "balanced", "strategy.init_gain": "5.0"}),
    "mcdal: by lot": ("mcdal", BY_LOT),
    "mcdal_posthoc: balanced": ("mcdal_posthoc", {"strategy.sampling": "balanced"}),
    "mcdal_posthoc: by lot": ("mcdal_posthoc", BY_LOT),
    "mcdal_posthoc: weight .3": ("mcdal_posthoc", {"strategy.weight": "0.3"}),
    "entropy: balanced": ("entropy", {"strategy.sampling": "balanced"}),
    "margin: balanced": ("margin", {"strategy.sampling": "balanced"}),
}
"""Played with --ablations."""
OF_ONE_FOLDER: Mapping[str, Callable[[Path], Config]] = {
    "fashion": recipes.fashion,
    "cifar10_scratch": recipes.cifar10_scratch,
    "cifar10_gpu": recipes.cifar10_gpu,
    "cifar10_frozen": recipes.cifar10_frozen,
    "cifar10_frozen_tenth": recipes.cifar10_frozen_tenth,
    "fashion_frozen": recipes.fashion_frozen,
    "fashion_frozen_tenth": recipes.fashion_frozen_tenth,
}
METRIC = {"camvid": "test/mean_iou"}
"""Of recipes that are not judged by accuracy."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=["digits", "folders_frozen", "camvid", *OF_ONE_FOLDER])
    parser.add_argument("--data", type=Path, help="folder with the IDX files, for fashion, or with CIFAR-10")
    parser.add_argument("--fashion", type=Path, help="folder with the IDX files, for folders_frozen")
    parser.add_argument("--seeds", type=seeds, default="0-4", help="0-4, or 0,2,5")
    parser.add_argument("--strategies", nargs="*", help="all of them by default, and the controls")
    parser.add_argument("--ablations", action="store_true", help="MCDAL's settings as well")
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--all", action="store_true", help="Random with all labels as well, in one round")
    parser.add_argument("--report", action="store_true", help="play nothing: the table of the runs that are finished")
    parser.add_argument("--add", action="store_true", help="to the rows that the result has, instead of in their place")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    config = configured(given)
    if config.encoder is not None and not given.report:  # once, before two processes want them
        config.open(given.work / "cache", config.training.numerics("cpu"))
    if given.recipe == "camvid":  # before several processes want it
        config.open(given.work / "cache", config.training.numerics(given.device))
    names = [*(given.strategies or every(config)), *(ABLATIONS if given.ablations else ())]
    plans = {(name, seed): plan(config, given.recipe, name, seed) for seed in given.seeds for name in names}
    whole = [everything(config, seed) for seed in given.seeds] if given.all else []
    failed = {} if given.report else play([*plans.values(), *whole], given.work, given.workers, given.device)
    out = given.out or Path(__file__).parent / "results" / f"areas_{given.recipe}.json"
    command = f"benchmarks/areas.py {given.recipe} --seeds {given.seeds[0]}-{given.seeds[-1]}"
    found = result(command, config, given.work, plans, failed, METRIC.get(given.recipe, "test/accuracy"), given.device)
    if whole:
        found["all labels"] = [last(given.work, each, METRIC.get(given.recipe, "test/accuracy")) for each in whole]
    if given.add and out.exists():
        found = added(json.loads(out.read_text()), found)
    out.write_text(json.dumps(found, indent=1) + "\n")


def configured(given: argparse.Namespace) -> Config:
    if given.recipe == "digits":
        return recipes.digits()
    if given.recipe == "folders_frozen":
        return recipes.folders_frozen(recipes.make_folders(given.data, given.fashion, given.work / "folders"))
    if given.recipe == "camvid":
        config = camvid(given.data, "small")
        # On a GPU several of these small networks train at once; compiling each would take longer than its training.
        return replace(config, training=replace(config.training, compile=False))
    return OF_ONE_FOLDER[given.recipe](given.data)


def everything(config: Config, seed: int) -> Plan:
    """Random with the whole pool labeled in its first round."""
    protocol = replace(config.protocol, start=COUNTS["train"], budget=1, rounds=1)
    random = replace(config, strategy=load("strategies", "random")(), protocol=protocol)
    return Plan(random, seed, "camvid_all", overrides={"protocol.start": str(COUNTS["train"])}, strategy="random")


def last(work: Path, plan: Plan, metric: str) -> float | None:
    store = Store(work, create=False)
    values = [m.value for m in store.metrics(plan.run_id) if m.name == metric]
    store.close()
    return values[-1] if values else None


def every(config: Config) -> list[str]:
    """All strategies that can take part, and the controls."""
    return [name for name in [*sorted(listed("strategies")), *CONTROLS] if can(config, name)]


def can(config: Config, name: str) -> bool:
    """Whether the strategy can take part: on a frozen encoder not all can."""
    try:
        plan(config, "", name, 0)
    except ConfigError:
        return False
    return True


def plan(config: Config, recipe: str, name: str, seed: int) -> Plan:
    kind, settings = (CONTROLS | ABLATIONS).get(name, (name, NARROW.get(name, {})))
    chosen = override(replace(config, strategy=load("strategies", kind)()), settings)
    return Plan(chosen, seed, recipe, overrides=settings, strategy=kind)


def play(plans: list[Plan], work: Path, workers: int, device: str = "cpu") -> dict[str, str]:
    """Plays all of them, in `workers` processes; gives what went wrong by run."""
    failed: dict[str, str] = {}
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, maxtasksperchild=40) as pool:
        jobs = [(each, work, device) for each in plans]
        for done, (run_id, problem) in enumerate(pool.imap_unordered(_play, jobs), 1):
            if problem:
                failed[run_id] = problem
            print(f"{done}/{len(plans)} {run_id} {problem}", flush=True)
    return failed


def _play(job: tuple[Plan, Path, str]) -> tuple[str, str]:
    torch.set_num_threads(1)
    each, work, device = job
    try:
        return run(each, work, device=device), ""
    except McdalError as error:
        return each.run_id, str(error)


if __name__ == "__main__":
    sys.exit(main())
