"""The result of areas.py: for each strategy its curve and area by seed, and the paired difference to Random's."""

import datetime
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mcdal.config import Config
from mcdal.environment import environment
from mcdal.plan import Plan
from mcdal.store import Store

ROUNDING = 1e-4
"""Of the accuracies in a curve."""


def result(
    command: str,
    config: Config,
    work: Path,
    plans: Mapping[tuple[str, int], Plan],
    failed: Mapping[str, str],
    metric: str,
    device: str = "cpu",
) -> dict[str, Any]:
    store = Store(work, create=False)
    curves: dict[str, dict[str, list[float]]] = {}
    seconds: dict[str, list[float]] = {}
    classes: dict[str, list[float]] = {}
    sizes: list[int] = []
    for (name, seed), each in plans.items():
        rounds = store.rounds(each.run_id)
        if each.run_id in failed or sum(r.finished_at is not None for r in rounds) < config.protocol.rounds:
            continue
        by_round = {m.round: m.value for m in store.metrics(each.run_id) if m.name == metric}
        curves.setdefault(name, {})[str(seed)] = [round(by_round[r], 4) for r in sorted(by_round)]
        seconds.setdefault(name, []).extend(sum(r.seconds.values()) for r in rounds)
        sizes = [len(store.asked(each.run_id, r.round)) for r in rounds]
        labels = store.labels(each.run_id)
        batches = [store.asked(each.run_id, r.round) for r in rounds if r.round]
        if metric == "test/accuracy":  # a scene shows all classes
            classes.setdefault(name, []).extend(variety([labels[id] for id in ids]) for ids in batches)
    store.close()
    rows: dict[str, dict[str, float]] = {name: {} for name in curves}
    for name in rows:
        if name in classes:
            rows[name]["classes_a_batch"] = round(float(np.mean(classes[name])), 2)
        rows[name]["seconds_a_round"] = round(float(np.median(seconds[name])), 2)
    return table(
        {
            "command": command,
            "date": datetime.date.today().isoformat(),
            "machine": platform.processor() or platform.machine(),
            "environment": {k: v for k, v in environment(config.training.numerics(device)).items() if k != "host"},
            "metric": metric,
            "unit": "area: mean of the metric over the range of labels, 0 to 1; difference: to Random, paired by seed, 95 % "
            "t-interval; classes_a_batch: exp of the entropy of the classes of a picked batch, mean of the batches",
            "labels": np.cumsum(sizes).tolist(),
            "settings": {
                name: each.overrides for (name, _), each in plans.items() if each.overrides and name in curves
            },
            "failed": dict(failed),
        },
        rows,
        curves,
    )


def table(
    head: Mapping[str, Any], rows: Mapping[str, dict[str, float]], curves: Mapping[str, Mapping[str, list[float]]]
) -> dict[str, Any]:
    """With areas and differences, the best strategy first."""
    area = {name: {seed: mean_height(curve) for seed, curve in seeds.items()} for name, seeds in curves.items()}
    whole = {
        name: against(area[name], area["random"])
        | {"final": float(np.mean([curve[-1] for curve in curves[name].values()]))}
        | rows[name]
        for name in curves
    }
    order = sorted(whole, key=lambda name: -whole[name]["difference"])
    return {
        **head,
        "strategies": {name: whole[name] for name in order},
        "curves": {name: dict(sorted(curves[name].items(), key=lambda at: int(at[0]))) for name in order},
    }


def added(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Both, by strategy and seed. SystemExit where they do not agree on a curve, or no run of Random tells whether they do.

    Of strategies that are in both the mean classes a batch is that of all seeds, and the time that of the new ones.
    """
    if old["labels"] != new["labels"]:
        raise SystemExit(f"the result has {old['labels']} labels, and these runs {new['labels']}")
    if not set(old["curves"]["random"]) & set(new["curves"]["random"]):
        raise SystemExit("play a seed of Random that the result has as well: it shows whether the two are of one kind")
    curves = {name: dict(seeds) for name, seeds in old["curves"].items()}
    rows = {name: _measured(row) for name, row in old["strategies"].items()}
    for name, seeds in new["curves"].items():
        kept = curves.setdefault(name, {})
        for seed, curve in seeds.items():
            if np.abs(np.subtract(kept.get(seed, curve), curve)).max() > ROUNDING * 1.01:
                raise SystemExit(f"{name}, seed {seed}: {curve} now, and {kept[seed]} in the result")
        fresh = len(set(seeds) - set(kept))
        rows[name] = _mean(rows.get(name, {}), len(kept), _measured(new["strategies"][name]), fresh or len(seeds))
        kept |= seeds
    parts = [*old.get("parts", [_part(old)]), _part(new)]
    head = {key: new[key] for key in new if key not in ("strategies", "curves", "settings", "failed")}
    settings = {**old.get("settings", {}), **new["settings"]}
    kept_head = {
        key: old[key]
        for key in old
        if key not in (*head, "strategies", "curves", "settings", "failed", "note", "parts")
    }
    failed = {**old.get("failed", {}), **new["failed"]}
    return table({**head, **kept_head, "parts": parts, "settings": settings, "failed": failed}, rows, curves)


def _part(of: Mapping[str, Any]) -> dict[str, Any]:
    """Where some of the rows come from."""
    seeds = {seed for curves in of["curves"].values() for seed in curves}
    part = {"command": of["command"], "date": of["date"], "commit": of["environment"]["commit"], "seeds": len(seeds)}
    return part | {"strategies": list(of["curves"])} | ({"note": of["note"]} if "note" in of else {})


def _measured(row: Mapping[str, float]) -> dict[str, float]:
    return {key: row[key] for key in ("classes_a_batch", "seconds_a_round") if key in row}


def _mean(old: Mapping[str, float], seeds: int, new: dict[str, float], more: int) -> dict[str, float]:
    if "classes_a_batch" in old and "classes_a_batch" in new:
        mean = (old["classes_a_batch"] * seeds + new["classes_a_batch"] * more) / (seeds + more)
        return new | {"classes_a_batch": round(mean, 2)}
    return new


def variety(y: list[int]) -> float:
    """Effective number of classes: exp of the entropy (nats) of their shares."""
    share = np.bincount(y) / len(y)
    return float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))


def mean_height(curve: list[float]) -> float:
    """Area under the curve by trapezes over its width; the rounds are equally far apart."""
    return float(np.trapezoid(curve) / (len(curve) - 1))


def against(mine: Mapping[str, float], random: Mapping[str, float]) -> dict[str, float]:
    seeds = sorted(set(mine) & set(random))
    difference = np.array([mine[s] - random[s] for s in seeds])
    row = {
        "area": float(np.mean([mine[s] for s in seeds])),
        "difference": float(difference.mean()),
        "seeds": len(seeds),
    }
    if len(seeds) > 1 and difference.any():
        half = stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(difference)
        row |= {"low": float(difference.mean() - half), "high": float(difference.mean() + half)}
        row |= {"wins": int((difference > 0).sum())}
    return row
