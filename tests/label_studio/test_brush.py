"""Label Studio's run lengths: as its own library writes and reads them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mcdal.errors import CampaignError
from mcdal.label_studio.brush import decode, encode

# label_studio_sdk 2.1.2: brush.encode_rle and brush.mask2rle, run on these masks.
THEIRS = [
    (
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        [0, 0, 0, 64, 57, 27, 252, 127, 247, 192, 35, 255, 190, 1, 31, 253, 240, 8, 255, 192],
    ),
    (
        [
            [1, 0, 0, 0, 1, 1, 1],
            [1, 1, 1, 1, 0, 1, 0],
            [1, 0, 1, 1, 0, 0, 0],
            [0, 1, 1, 1, 0, 1, 1],
            [1, 1, 1, 0, 0, 1, 1],
            [0, 0, 1, 1, 0, 1, 0],
        ],
        [
            0,
            0,
            0,
            168,
            57,
            27,
            252,
            127,
            246,
            192,
            48,
            223,
            252,
            96,
            17,
            255,
            198,
            1,
            31,
            252,
            96,
            19,
            255,
            223,
            0,
            183,
            255,
            24,
            6,
            19,
            255,
            156,
            2,
            127,
            249,
            192,
            39,
            255,
            140,
            2,
            63,
            248,
            192,
            0,
        ],
    ),
    ([[1]], [0, 0, 0, 4, 57, 27, 252, 127, 224]),
    ([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], [0, 0, 0, 60, 57, 27, 254, 59, 0, 0]),
]


@pytest.mark.parametrize(("mask", "rle"), THEIRS)
def test_what_label_studio_wrote_is_read(mask, rle):
    mask = np.array(mask, dtype=bool)
    assert (decode(rle, mask.shape) == mask).all()


@pytest.mark.parametrize(("mask", "rle"), THEIRS)
def test_what_is_written_is_what_label_studio_writes(mask, rle):
    """But for a whole byte of zeros that it appends where the bits are full already."""
    ours = encode(np.array(mask, dtype=bool))
    assert rle[: len(ours)] == ours and rle[len(ours) :] in ([], [0])


@settings(deadline=None, max_examples=50)
@given(arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_round_trip(mask):
    assert (decode(encode(mask), mask.shape) == mask).all()


def test_a_photo_that_is_one_colour_takes_a_few_bytes():
    mask = np.zeros((1000, 1500), dtype=bool)
    mask[100:900] = True
    rle = encode(mask)
    assert len(rle) < 400 and (decode(rle, mask.shape) == mask).all()


def test_literal_blocks_and_soft_edges_are_read():
    """The page writes blocks of different values, and a brush's edge is half seen through: rle-pack's 0 blocks."""
    opacity = [0, 100, 127, 128, 200, 255]
    values = [byte for a in opacity for byte in (9, 8, 7, a)]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{w - 1:04b}" for w in (3, 4, 8, 16))
    bits += "0" + "10" + f"{len(values) - 1:08b}" + "".join(f"{v:08b}" for v in values)
    rle = [int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)]
    assert decode(rle, (2, 3)).tolist() == [[False, False, False], [True, True, True]]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 13)), min_size=1, max_size=30), st.randoms(use_true_random=False)
)
def test_blocks_begin_and_end_anywhere_in_a_pixel(blocks, draw):
    values, bits = [], ""
    for repeated, length in [*blocks, (False, -sum(n for _, n in blocks) % 4 or 4)]:
        said = [draw.randrange(256)] if repeated else [draw.randrange(256) for _ in range(length)]
        values += said * length if repeated else said
        bits += f"{repeated:d}01{length - 1:04b}" + "".join(f"{v:08b}" for v in said)
    head = f"{len(values):032b}{7:05b}" + "".join(f"{w - 1:04b}" for w in (3, 4, 8, 16))
    rle = [int((head + bits)[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(head + bits), 8)]
    assert decode(rle, (1, len(values) // 4)).tolist() == [[value >= 128 for value in values[3::4]]]


def test_no_more_memory_is_taken_than_for_the_mask():
    mask = np.zeros((3000, 4000), dtype=bool)
    rle = encode(mask)
    tracemalloc.start()
    decode(rle, mask.shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * mask.size


GOOD = encode(np.eye(4, dtype=bool))


@pytest.mark.parametrize(
    ("rle", "size", "words"),
    [
        ([], (4, 4), "end too early"),
        (GOOD[:-3], (4, 4), "end too early"),
        (GOOD, (4, 5), "where the image has 20 pixels"),
        ([255] * 40, (4, 4), "where the image has 16 pixels"),
        ([*GOOD[:4], 0xF8, *GOOD[5:]], (4, 4), "64 values of 32 bits"),
        ([*GOOD[:7], 0b11111111, 255, 255, 255, 255], (4, 4), "beyond the image"),
        ([-1, 300], (4, 4), "bytes, 0 to 255"),
        (["a"], (4, 4), "bytes, 0 to 255"),
    ],
)
def test_damaged_run_lengths_are_refused(rle, size, words):
    with pytest.raises(CampaignError, match=words):
        decode(rle, size)
