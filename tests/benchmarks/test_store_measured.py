"""The measurement of the store runs on a small one."""

from benchmarks import store


def test_a_small_store():
    found, seconds = store.measured(store.Size(pool=300, rounds=3, budget=20, sessions=2))
    assert {check.name for check in found} >= {"opening the store to write", "a round's fixed overhead"}
    assert set(seconds) == {"openings_s", "round_s"}
    assert store.total(seconds["round_s"]) > 0
