"""A 64-bit number for each id: the same on every machine, so that a draw by it stays when shards come or go."""

import hashlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt64


def hashed(ids: Iterable[str]) -> UInt64[np.ndarray, " n"]:
    """The first eight bytes of each id's BLAKE2b. Two ids may share a number: whoever needs to know compares them."""
    blake = hashlib.blake2b
    joined = b"".join([blake(id.encode(), digest_size=8).digest() for id in ids])
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def mixed(hashes: UInt64[np.ndarray, " n"], seed: int) -> UInt64[np.ndarray, " n"]:
    """Other numbers for another purpose: the finalizer of splitmix64 (Steele, Lea and Flood 2014)."""
    z = hashes + np.uint64((seed * 0x9E3779B97F4A7C15) & (2**64 - 1))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
