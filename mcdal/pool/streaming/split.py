"""Which samples of a pool in shards test a model."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt64

from mcdal.hashes import mixed

TEST = re.compile(r"(?<![a-z])test(s|ing)?(?![a-z])", re.IGNORECASE)
HELD_OUT = 0x7E57


@dataclass(frozen=True)
class Split:
    """Which samples test a model: those of test shards, or, where there are none, a share that each id draws for itself."""

    share: float
    seed: int
    by_shard: bool

    def test(self, shard: str, hashes: UInt64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        if self.by_shard or not self.share:
            return np.full(len(hashes), self.by_shard and is_test(shard))
        held_out: Bool[np.ndarray, " n"] = drawn(hashes, self.seed) < np.uint64(int(self.share * 2.0**64))
        return held_out


def drawn(hashes: UInt64[np.ndarray, " n"], seed: int) -> UInt64[np.ndarray, " n"]:
    """A number for each image; those with small ones are held out."""
    return mixed(hashes, HELD_OUT + seed)


def is_test(shard: str) -> bool:
    """Whether the word stands in its path: `test/cat-0.tar`, `test-00000.parquet`, but not `latest.tar`."""
    return TEST.search(shard) is not None
