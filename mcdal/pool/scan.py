"""Looks at every image once: decodes it, sets the bad ones aside, and writes the pixels where later runs find them."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mcdal.errors import PoolError
from mcdal.events import Listener
from mcdal.pool.decode import Bad, BadImages, Decoded
from mcdal.pool.loading import with_channels

HEADER = 128
NAMED = 10
"""Bad images that an error names; the rest is counted."""


class PixelFile:
    """An .npy file (n, h, w, c) that grows image by image, grey until the first colour image comes.

    Written, not memory-mapped: a full disk is then an error and not a dead process.
    """

    def __init__(self, path: Path):
        self._file = path.open("w+b", buffering=1 << 20)
        self._file.write(bytes(HEADER))
        self._count = 0
        self._side: tuple[int, int] = (0, 0)
        self._channels = 1

    def append(self, pixels: UInt8[np.ndarray, "h w c"]) -> None:
        self._side = (pixels.shape[0], pixels.shape[1])
        if pixels.shape[2] > self._channels:
            self._to_colour()
        self._file.write(with_channels(pixels, self._channels).tobytes())
        self._count += 1

    def _to_colour(self) -> None:
        """What is written so far, grey, once more in colour; from the end, so that nothing is overwritten unread."""
        length = self._side[0] * self._side[1]
        for i in reversed(range(self._count)):
            self._file.seek(HEADER + i * length)
            grey = np.frombuffer(self._file.read(length), dtype=np.uint8)
            self._file.seek(HEADER + i * length * 3)
            self._file.write(np.repeat(grey, 3).tobytes())
        self._channels = 3
        self._file.seek(HEADER + self._count * length * 3)

    def _finish(self) -> None:
        """The header comes last: only now the number of images is known."""
        header = io.BytesIO()
        shape = (self._count, *self._side, self._channels)
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        assert header.tell() == HEADER
        self._file.seek(0)
        self._file.write(header.getvalue())

    def __enter__(self) -> "PixelFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()


def first(lines: Sequence[str]) -> list[str]:
    """The first of the lines of an error, indented, and how many more there are."""
    more = [f"... and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
    return [f"  {line}" for line in (*lines[:NAMED], *more)]


@dataclass
class Findings:
    """What a look at every image found. bad: why, by id. kinds: images by their number of channels."""

    bad: dict[str, Bad] = field(default_factory=dict)
    conversions: Counter[str] = field(default_factory=Counter)
    kinds: Counter[int] = field(default_factory=Counter)
    shape: tuple[int, int] | None = None
    shape_of: str = ""

    def note(self, id: str, decoded: Decoded | Bad) -> None:
        """PoolError for a second shape: images of many shapes need `size`."""
        if isinstance(decoded, Bad):
            self.bad[id] = decoded
            return
        height, width, channels = decoded.pixels.shape
        if self.shape is None:
            self.shape, self.shape_of = (height, width), id
        elif self.shape != (height, width):
            raise PoolError(
                f"images must have one shape: {self.shape_of} is {self.shape[1]}x{self.shape[0]}, "
                f"{id} is {width}x{height}. Add --set source.size=64 (or another size) to scale and crop them"
            )
        self.kinds[channels] += 1
        if decoded.conversion:
            self.conversions[decoded.conversion] += 1

    def refuse(self, name: str) -> None:
        """PoolError that names the bad images."""
        lines = [f"{id}: {bad.reason}" for id, bad in sorted(self.bad.items(), key=itemgetter(0))]
        convertible = sum(bad.convertible for bad in self.bad.values())
        advice = "mend or remove them, or set them aside with --set source.bad_images=quarantine"
        if convertible:
            advice += f", or convert those with a known conversion ({convertible}) with --set source.bad_images=convert"
        raise PoolError("\n".join([f"{name}: {len(self.bad)} bad images", *first(lines), advice]))

    def notes(self) -> list[str]:
        """What was done to images, for the person who reads the report."""
        said = [f"{count} images converted: {what}" for what, count in sorted(self.conversions.items())]
        if len(self.kinds) > 1:
            said.append(f"{self.kinds[1]} grey images among {self.kinds[3]} in colour were read as colour")
        return said

    def as_index(self) -> dict[str, Any]:
        assert self.shape is not None
        return {
            "shape": [*self.shape, max(self.kinds)],
            "bad": {id: bad.reason for id, bad in self.bad.items()},
            "notes": self.notes(),
        }


def scan(
    name: str,
    ids: Iterator[str],
    total: int,
    decoded: Iterator[Decoded | Bad],
    bad_images: BadImages,
    keep: PixelFile | None,
    listen: Listener,
) -> Findings:
    """Goes through all images and appends good ones to `keep`. PoolError if bad ones are refused or none is good."""
    findings = Findings()
    for done, (id, result) in enumerate(zip(ids, decoded, strict=True)):
        if done % 500 == 0:
            listen("prepare", done=done, total=total, what=f"decoding {name}")
        findings.note(id, result)
        if keep is not None and isinstance(result, Decoded):
            keep.append(result.pixels)
    listen("prepare", done=total, total=total, what=f"decoding {name}")
    if (findings.bad and bad_images == "refuse") or findings.shape is None:
        findings.refuse(name)
    return findings
