"""Looks at every image and its mask once: both decoded, compared and counted, and what is wrong named in one error."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Int, UInt8

from mcdal.errors import PoolError
from mcdal.pool.class_table import ClassTable, Value
from mcdal.pool.decode import Bad, Decoder
from mcdal.pool.scan import PixelFile, first
from mcdal.pool.scene_files import Scene, scaled
from mcdal.values import VOID

TOO_MANY = 1000
"""Values that are no class, after which nothing more is looked at: there may be millions."""


@dataclass(frozen=True)
class Seen:
    """A scene that could be read. unknown: pixels by the values that the class table lacks.

    levels: how often each channel has each value 0 to 255. shows: how many pixels of the whole mask have each class.
    """

    pixels: UInt8[np.ndarray, "h w c"]
    mask: UInt8[np.ndarray, "h w"]
    unknown: dict[Value, int]
    levels: Int[np.ndarray, "c 256"]
    shows: Int[np.ndarray, " 256"]


def look_at(scene: Scene, decoder: Decoder, table: ClassTable) -> Seen | str:
    """The scene, at the decoder's size, or why it cannot be used."""
    image = decoder.decode(scene.image)
    if isinstance(image, Bad):
        return f"{scene.image}: {image.reason}"
    assert image.full is not None and not isinstance(decoder.size, int)
    try:
        mask, unknown = table.read(scene.mask, image.full)
    except PoolError as error:
        return str(error)
    flat = image.pixels.reshape(-1, image.pixels.shape[2])
    levels = np.stack([np.bincount(channel, minlength=256) for channel in flat.T])
    shows = np.bincount(mask.ravel(), minlength=256)
    return Seen(image.pixels, scaled(mask, decoder.size), unknown, levels, shows)


@dataclass
class Unknown:
    """A value that no row of the class table has."""

    scene: Scene
    pixels: int = 0
    masks: int = 0


@dataclass
class SceneFindings:
    """What a look at every scene found."""

    name: str
    table: ClassTable
    faults: list[str] = field(default_factory=list)
    unknown: dict[Value, Unknown] = field(default_factory=dict)
    kinds: Counter[int] = field(default_factory=Counter)
    shape: tuple[int, int] | None = None
    shape_of: str = ""
    levels: Int[np.ndarray, "3 256"] = field(default_factory=lambda: np.zeros((3, 256), dtype=np.int64))
    shown: dict[str, Int[np.ndarray, " 256"]] = field(default_factory=dict)
    empty: int = 0

    def note(self, scene: Scene, seen: Seen | str, part: str) -> None:
        """part: "pool" or "test". PoolError for a second size."""
        if isinstance(seen, str):
            self.faults.append(seen)
            return
        for value, pixels in seen.unknown.items():
            entry = self.unknown.setdefault(value, Unknown(scene))
            entry.pixels += pixels
            entry.masks += 1
        if len(self.unknown) > TOO_MANY:  # colours, then
            self._refuse("these look like pictures, not masks: look at the first file")
        height, width, channels = seen.pixels.shape
        if self.shape is None:
            self.shape, self.shape_of = (height, width), scene.id
        elif self.shape != (height, width):
            raise PoolError(
                f"scenes must have one size: {self.shape_of} is {self.shape[1]}x{self.shape[0]}, {scene.id} is "
                f"{width}x{height}. Add --set source.size=[{min(height, self.shape[0])},{min(width, self.shape[1])}] "
                "(height, width) to scale images and masks"
            )
        self.kinds[channels] += 1
        self.shown[part] = self.shown.get(part, 0) + seen.shows
        if part == "pool":
            self.levels += seen.levels
            self.empty += bool(seen.shows[:VOID].sum() == 0)

    def check(self, advice: str) -> None:
        """PoolError that names what cannot be used, if anything. advice: what to do about values that are no class."""
        if self.faults or self.unknown or self.shape is None:
            self._refuse(advice)

    def _refuse(self, advice: str) -> NoReturn:
        lines = []
        if self.faults:
            said = f"{self.name}: {len(self.faults)} scenes cannot be used"
            lines += [said, *first(self.faults), "mend these files, or remove each together with its other half"]
        if self.unknown:
            most = sorted(self.unknown.items(), key=lambda item: -item[1].pixels)
            named = [
                f"{self.table.says(value)}: {u.pixels:,} pixels in {u.masks} masks, first in {u.scene.mask}"
                for value, u in most
            ]
            what = "colours" if self.table.by_colour else "ids"
            lines += [f"{self.name}: masks hold {len(named)} {what} that are no class", *first(named), advice]
        raise PoolError("\n".join(lines))

    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and deviation per channel of the pool's pixels, scaled to 0..1; exact, since every pixel was counted."""
        levels = self.levels[: max(self.kinds)].astype(np.float64)
        values = np.arange(256) / 255
        mean = (levels @ values) / levels.sum(1)
        square = (levels @ np.square(values)) / levels.sum(1)
        std = np.sqrt(np.clip(square - np.square(mean), 0, None))
        # A channel that never varies would be divided by zero.
        return mean.tolist(), np.where(std > 1e-6, std, 1.0).tolist()

    def notes(self) -> list[str]:
        """What the person who reads the report should know."""
        said = []
        if len(self.kinds) > 1:
            said.append(f"{self.kinds[1]} grey images among {self.kinds[3]} in colour were read as colour")
        for part, shown in self.shown.items():
            if absent := [name for name, pixels in zip(self.table.classes, shown, strict=False) if not pixels]:
                said.append(f"no mask of the {part} shows {', '.join(absent)}")
        if self.empty:
            said.append(f"{self.empty} masks of the pool are void throughout: labels of these teach nothing")
        return said

    def as_index(self) -> dict[str, Any]:
        assert self.shape is not None
        mean, std = self.statistics()
        return {"shape": [*self.shape, max(self.kinds)], "mean": mean, "std": std, "notes": self.notes()}


def keep(seen: Seen | str, pixels: PixelFile, masks: PixelFile) -> None:
    if isinstance(seen, Seen):
        pixels.append(seen.pixels)
        masks.append(seen.mask[..., None])
