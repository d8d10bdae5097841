"""The measurement of what choosing costs runs, and its numbers are of one piece."""

import json
import sys

import pytest

from benchmarks import sampling_time
from mcdal.models.resnet import ResNet


@pytest.fixture
def measured(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling_time, "ResNet", lambda: ResNet(10, 1))
    words = "--pool 40 --labeled 20 --budget 4 --repetitions 1 --large 200 40 20 --strategies margin mcdal batch_bald"
    monkeypatch.setattr(sys, "argv", ["sampling_time.py", *words.split(), "--out", str(tmp_path / "found.json")])
    sampling_time.main()
    return json.loads((tmp_path / "found.json").read_text())


def test_what_is_told_of_each_method(measured):
    rows = measured["strategies"]
    assert set(rows) == {"margin", "mcdal", "batch_bald"}
    shares = [row["sampling_over_forward"] for row in rows.values()]
    assert shares == sorted(shares) and min(shares) > 0.5  # the least first; a pass is in all of them
    for name, row in rows.items():
        assert row["step_over_random"] > 0 and row["budget"] == 4
        assert ("choose_large_s" in row) == (name != "batch_bald")  # which refuses such a batch
    heads = rows["mcdal"]["parameters"] - rows["margin"]["parameters"]
    assert heads == 2 * 10 * (8 + 1)  # two heads on 8 features
    assert rows["mcdal"]["paper_seconds"] == 7.25 and "paper_seconds" not in rows["margin"]
