"""What the values in mask files mean: which number or colour is which class, and which stand for none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Int, UInt8

from mcdal.errors import PoolError
from mcdal.pool.masks import read_colours, read_mask
from mcdal.values import VOID

RGB: TypeAlias = tuple[int, int, int]
Value: TypeAlias = int
"""A number in a mask, 0 to 255, or a colour as red * 65536 + green * 256 + blue."""


@dataclass(frozen=True)
class Entry:
    """What one number, or one colour, in mask files means. Entries of one name are one class; void ones are none."""

    name: str
    id: int | None = None
    """Number in grey or palette PNGs, 0 to 255."""
    colour: RGB | None = None
    """Red, green, blue: what PNGs in colour hold where there is no `id`, and what the class is shown in."""
    void: bool = False
    """Whether these pixels belong to no class, so that they count nowhere."""


@dataclass(frozen=True, eq=False)
class ClassTable:
    """Class names in their order, and for each value in a mask file a class index, or VOID.

    by_colour: whether values are colours. colours: what classes are shown in, None where not each has one.
    """

    classes: tuple[str, ...]
    meaning: Mapping[Value, int]
    by_colour: bool
    colours: tuple[RGB, ...] | None

    @property
    def key(self) -> tuple[object, ...]:
        """What decides how files are read."""
        return self.classes, self.by_colour, tuple(sorted(self.meaning.items()))

    def says(self, value: Value) -> str:
        """A value in words."""
        return f"colour {value >> 16},{value >> 8 & 255},{value & 255}" if self.by_colour else f"id {value}"

    def read(self, path: Path, size: tuple[int, int] | None) -> tuple[UInt8[np.ndarray, "h w"], dict[Value, int]]:
        """A mask file as class indices and VOID, and how many pixels have each value that the table lacks.

        size: height and width that it must have. PoolError where the file cannot be read as a mask of this kind.
        """
        if self.by_colour:
            red, green, blue = np.moveaxis(read_colours(path, size).astype(np.int32), 2, 0)
            return self._look_up(red << 16 | green << 8 | blue)
        return self._look_up(read_mask(path, size))

    def _look_up(
        self, values: Int[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
    ) -> tuple[UInt8[np.ndarray, "h w"], dict[Value, int]]:
        known = np.array(sorted(self.meaning))
        means = np.array([self.meaning[value] for value in known.tolist()], dtype=np.uint8)
        if values.dtype == np.uint8:
            table = np.full(256, VOID, dtype=np.uint8)
            table[known] = means
            missing = np.setdiff1d(np.arange(256), known)
            counts = np.bincount(values.ravel(), minlength=256)[missing]
            return table[values], {int(v): int(n) for v, n in zip(missing, counts, strict=True) if n}
        places = np.searchsorted(known, values).clip(max=len(known) - 1)
        found = known[places] == values
        unknown, counts = np.unique(values[~found], return_counts=True)
        mask: UInt8[np.ndarray, "h w"] = np.where(found, means[places], VOID)
        return mask, dict(zip(unknown.tolist(), counts.tolist(), strict=True))


def class_table(entries: Iterable[Entry], where: str = "the class table") -> ClassTable:
    """Classes in the order in which their names first come. PoolError, which begins with `where`, for what is unclear."""
    entries = tuple(entries)
    classes = tuple(dict.fromkeys(entry.name for entry in entries if not entry.void))
    if len(classes) < 2:
        raise PoolError(f"{where} names {len(classes)} class: two are the least to tell apart")
    if len(classes) > VOID:
        raise PoolError(f"{where} names {len(classes)} classes: {VOID} are the most")
    if "" in classes:
        raise PoolError(f"{where}: a row that is not void has no name")
    with_id = sum(entry.id is not None for entry in entries)
    if 0 < with_id < len(entries):
        lacks = next(entry.name for entry in entries if entry.id is None)
        raise PoolError(f"{where}: {lacks!r} has no id, and others have: give all rows an id, or none")
    meaning: dict[Value, int] = {}
    shown: dict[str, RGB] = {}
    for entry in entries:
        value = _value(entry, where)
        index = VOID if entry.void else classes.index(entry.name)
        if meaning.setdefault(value, index) != index:
            raise PoolError(f"{where}: the {'id' if with_id else 'colour'} of {entry.name!r} is given twice")
        if entry.colour is not None and not entry.void:
            shown.setdefault(entry.name, entry.colour)
    colours = tuple(shown[name] for name in classes) if len(shown) == len(classes) else None
    return ClassTable(classes, meaning, not with_id, colours)


def _value(entry: Entry, where: str) -> Value:
    """PoolError for an id or a colour that no mask can hold."""
    numbers = (*([] if entry.id is None else [entry.id]), *(entry.colour or ()))
    if not numbers:
        raise PoolError(f"{where}: {entry.name!r} has neither an id nor red, green and blue")
    wrong = next((number for number in numbers if not 0 <= number <= 255), None)
    if wrong is not None:
        raise PoolError(f"{where}: {entry.name!r} has {wrong}, and masks hold 0 to 255")
    if entry.id is not None:
        return entry.id
    assert entry.colour is not None
    red, green, blue = entry.colour
    return red << 16 | green << 8 | blue
