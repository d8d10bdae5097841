"""What is told of passes that were killed is what their files hold."""

import random

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.node_kills import LAST, plans
from benchmarks.node_kills_judged import KINDS, checks_of, compared


def wrote(folder, *shards):
    folder.mkdir()
    for number, (ids, scores) in enumerate(shards):
        pq.write_table(pa.table({"sample_id": ids, "score": scores}), folder / f"{number}.parquet")
    return folder


def judged(folder, plain, kills=()):
    measured = {
        "kills": kills, "wall_s": 1.0, "openings": 2, "shards": 2, "by_nodes_that_joined": 0, "picks_equal": {"largest": True}
    }  # fmt: skip
    return measured | compared(folder, plain)


def test_each_fault_of_the_files_is_counted(tmp_path):
    plain = wrote(tmp_path / "plain", (["a", "b"], [0.5, 2.0]), (["c"], [1.0]))
    same = judged(wrote(tmp_path / "same", (["a", "b"], [0.5, 2.0]), (["c"], [1.0])), plain)
    assert all(check.holds for check in checks_of([same], dict.fromkeys(KINDS, 0)))
    bad = wrote(tmp_path / "bad", (["a", "a"], [0.5, 0.5]), (["c"], [1.5]), (["d"], [0.0]))
    found = judged(bad, plain)
    rows = {name: found[f"rows_{name}"] for name in ("expected", "written", "missing", "doubled", "of_nobody")}
    assert rows == {"expected": 3, "written": 4, "missing": 1, "doubled": 1, "of_nobody": 1}
    assert (found["files_missing"], found["files_left_over"], found["files_that_differ"]) == (0, 1, 2)
    assert found["score_difference"] == 0.25
    missed = [check.name for check in checks_of([same, found], dict.fromkeys(KINDS, 1)) if not check.holds]
    assert missed == [
        "rows missing", "rows doubled", "rows that nobody asked for", "largest difference of a score", "files left over",
        *(f"kills of a {kind} before the end" for kind in KINDS),
    ]  # fmt: skip


def test_moments_are_drawn_before_the_end():
    found = plans({"node": 4, "worker": 2, "driver": 1}, mixed=2, undisturbed=3, shards=30, draw=random.Random(0))
    assert len(found) == 12 and found[0] == found[-1] == [] and found.count([]) == 3
    kills = [kill for plan in found for kill in plan]
    assert [sum(kill.kind == kind for kill in kills) for kind in KINDS] == [6, 4, 3]
    assert all(0 <= kill.after < 30 - LAST for kill in kills)
    assert sum(kill.joins is not None for kill in kills) == 3
