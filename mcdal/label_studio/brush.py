"""Label Studio's run lengths of what a brush drew: a bit stream over the RGBA bytes of the image, row by row.

A head of 32 bits for the number of values, 5 for their width less one, 4 x 4 for those of the four kinds of lengths less one.
Then blocks: 1 bit (1: one value repeated, 0: as many values as follow), 2 bits for the kind of length, the length less one, the
value or values. It is the format of thi.ng/rle-pack, which Label Studio's page uses.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from mcdal.errors import CampaignError

WORD = 8
WIDTHS = (3, 4, 8, 16)
LONGEST = 1 << WIDTHS[-1]
HALF = 128
"""Of the opacity: a brush's edge is soft."""


def encode(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """The bytes for a mask; drawn pixels are white and opaque."""
    values = np.repeat(np.where(mask.ravel(), 255, 0).astype(np.uint8), 4)
    head = f"{len(values):032b}{WORD - 1:05b}" + "".join(f"{width - 1:04b}" for width in WIDTHS)
    bits = head + "".join(_block(value, length) for value, length in _runs(values))
    packed = np.packbits(np.frombuffer(bits.encode(), dtype=np.uint8) - ord("0"))
    return [int(byte) for byte in packed]


def decode(rle: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The mask of an image of this height and width. CampaignError where the bytes are none, or of another size."""
    try:
        data = np.array(rle, dtype=np.uint8)
    except (ValueError, TypeError, OverflowError) as error:
        raise CampaignError(f"run lengths are bytes, 0 to 255: {error}") from error
    if data.ndim != 1:
        raise CampaignError("run lengths are a list of bytes")
    drawn: Bool[np.ndarray, "h w"] = (_opacity(np.unpackbits(data), size[0] * size[1]) >= HALF).reshape(size)
    return drawn


def _opacity(bits: UInt8[np.ndarray, " n"], pixels: int) -> UInt8[np.ndarray, " m"]:
    """The last of the four bytes of each pixel; the others are passed over, which is a quarter of the memory."""
    text = (bits + ord("0")).tobytes()
    at = 0

    def read(width: int) -> int:
        nonlocal at
        at += width
        if at > len(text):
            raise CampaignError("the run lengths end too early: the annotation was cut off")
        return int(text[at - width : at], 2)

    count, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    if count != 4 * pixels or word != WORD:
        raise CampaignError(
            f"run lengths of {count} values of {word} bits, where the image has {pixels} pixels with four bytes each"
        )
    out = np.zeros(pixels, dtype=np.uint8)
    i = 0
    while i < count:
        repeated, kind = read(1), read(2)
        j = i + 1 + read(widths[kind])
        if j > count:
            raise CampaignError("the run lengths reach beyond the image: the annotation is damaged")
        if repeated:
            out[i // 4 : j // 4] = read(WORD)
        else:
            length = (j - i) * WORD
            if at + length > len(bits):
                raise CampaignError("the run lengths end too early: the annotation was cut off")
            out[i // 4 : j // 4] = np.packbits(bits[at : at + length])[3 - i % 4 :: 4]
            at += length
        i = j
    return out


def _runs(values: UInt8[np.ndarray, " n"]) -> Iterator[tuple[int, int]]:
    """(value, length), none longer than a block can say."""
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]) + 1, len(values))
    begin = 0
    for end in ends.tolist():
        while begin < end:
            length = min(end - begin, LONGEST)
            yield int(values[begin]), length
            begin += length


def _block(value: int, length: int) -> str:
    kind = next(i for i, width in enumerate(WIDTHS) if length <= 1 << width)
    return f"1{kind:02b}{length - 1:0{WIDTHS[kind]}b}{value:0{WORD}b}"
