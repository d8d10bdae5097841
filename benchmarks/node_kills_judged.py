"""Passes that were killed beside one that was not: the rows of their files, their picks, and what the kills cost."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.side_by_side import Check

KINDS = ("node", "worker", "driver")


def content(folder: Path) -> tuple[list[str], np.ndarray]:
    """Ids and scores of all files of shards, as they lie there."""
    files = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    table = pa.concat_tables([file.replace_schema_metadata(None) for file in files])
    return table["sample_id"].to_pylist(), table["score"].to_numpy()


def compared(folder: Path, plain: Path) -> dict[str, Any]:
    """Rows and files of a pass beside those of the plain one."""
    (ids, scores), (expected, right) = content(folder), content(plain)
    place = dict(zip(expected, right.tolist(), strict=True))
    differences = [abs(score - place[id]) for id, score in zip(ids, scores.tolist(), strict=True) if id in place]
    there = {path.name for path in folder.iterdir()} - {"lock"}
    wanted = {path.name for path in plain.iterdir()} - {"lock"}
    return {
        "rows_expected": len(expected),
        "rows_written": len(ids),
        "rows_missing": len(set(expected) - set(ids)),
        "rows_doubled": len(ids) - len(set(ids)),
        "rows_of_nobody": len(set(ids) - set(expected)),
        "score_difference": max(differences) / float(np.abs(right).max()),
        "files_missing": len(wanted - there),
        "files_left_over": len(there - wanted),
        "files_that_differ": sum((folder / n).read_bytes() != (plain / n).read_bytes() for n in there & wanted),
    }


def checks_of(passes: Sequence[Mapping[str, Any]], asked: Mapping[str, int]) -> list[Check]:
    """Over all passes, whatever was killed; what it costs by what was."""
    kills = [kill for each in passes for kill in each["kills"]]
    rows = sum(each["rows_expected"] for each in passes)
    detail = f"of {rows:,} in {len(passes)} passes with {len(kills)} kills"
    found = [
        Check(f"rows {what}", sum(each[f"rows_{key}"] for each in passes), 0, "at most", unit="rows", detail=detail)
        for what, key in (("missing", "missing"), ("doubled", "doubled"), ("that nobody asked for", "of_nobody"))
    ]
    for name in passes[0]["picks_equal"]:
        other = sum(not each["picks_equal"][name] for each in passes)
        found.append(
            Check(f"passes with other picks: {name}", other, 0, "at most", unit="passes", detail=f"of {len(passes)}")
        )
    worst = max(each["score_difference"] for each in passes)
    found.append(
        Check("largest difference of a score", worst, 1e-5, "at most", unit="of the largest score", detail=detail)
    )
    for what, key, bound in (
        ("missing", "missing", 0),
        ("left over", "left_over", 0),
        ("that differ by a byte", "that_differ", None),
    ):
        files = sum(each[f"files_{key}"] for each in passes)
        found.append(Check(f"files {what}", files, bound, "at most", unit="files", detail=f"of {len(passes)} passes"))
    for kind in KINDS:
        of = [kill for kill in kills if kill["kind"] == kind]
        hand = f"{sum(kill['in_hand'] for kill in of)} shards in hand"
        found.append(
            Check(f"kills of a {kind} before the end", len(of), asked[kind], "at least", unit="kills", detail=hand)
        )
    return found + costs_of(passes)


def costs_of(passes: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Shards measured, and wall time, over those of a pass that nobody disturbs."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for each in passes:
        groups.setdefault(group_of(each["kills"]), []).append(each)
    whole = statistics.median(each["wall_s"] for each in groups["nobody killed"])
    found = []
    for name in sorted(groups, key=lambda name: (" and " in name, name)):
        of = groups[name]
        detail = f"{len(of)} passes of {of[0]['shards']} shards"
        joined = sum(each["by_nodes_that_joined"] for each in of)
        openings = sum(each["openings"] for each in of) / sum(each["shards"] for each in of)
        seconds = statistics.median(each["wall_s"] for each in of)
        told = f"{seconds:.0f} s, {whole:.0f} s"
        found.append(Check(f"{name}: shards measured", openings, None, "at most", detail=detail))
        found.append(Check(f"{name}: wall time over undisturbed", seconds / whole, None, "at most", detail=told))
        if "joins" in name:
            found.append(
                Check(f"{name}: measured by the fresh one", joined, None, "at least", unit="shards", detail=detail)
            )
    return found


def group_of(kills: Sequence[Mapping[str, Any]]) -> str:
    """What was killed in a pass, in words."""
    kinds = " and ".join(sorted(f"a {kill['kind']}" for kill in kills)) + " killed" if kills else "nobody killed"
    return f"{kinds}, a fresh node joins" if any(kill["joins"] is not None for kill in kills) else kinds
