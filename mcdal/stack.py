"""Tables of numbers that are read in parts: several files as one, some rows of another, or what is made of rows on reading."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Shaped
from numpy.lib import format as npy

from mcdal.errors import PoolError, StoreError

OPEN, MAPPED = 256, 2 << 30
"""Files that are mapped at once, and bytes of them: a process may hold some 1,000 files open."""


@runtime_checkable
class Matrix(Protocol):
    """n x d numbers: an array in memory, a mapped file, or a `Stack`. Read it by slices and by positions, never as a whole."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, where: Any, /) -> Any: ...


class Stack:
    """Rows of several tables, one after the other, as one table that is only read: by a slice, by positions, or one row.

    It copies what is asked for and nothing else; a slice within one file is a view of it. positions: which rows of all, in this
    order; all without it. each: what is made of the rows on reading, such as rows of length 1: a function of each row alone.
    """

    def __init__(
        self,
        tables: Sequence[Matrix],
        positions: Int[np.ndarray, " n"] | None = None,
        each: Callable[[Shaped[np.ndarray, "m _"]], Shaped[np.ndarray, "m _"]] | None = None,
    ):
        if not tables:
            raise PoolError("a stack of no tables has no rows: give at least one")
        for table in tables:
            if len(table.shape) != 2 or table.shape[1] != tables[0].shape[1] or table.dtype != tables[0].dtype:
                raise PoolError(
                    f"{_name(table)} is {table.dtype} of shape {tuple(table.shape)}, and {_name(tables[0])} {tables[0].dtype} of "
                    f"shape {tuple(tables[0].shape)}: tables of one stack have the same columns and type"
                )
        self._tables, self._positions, self._each = tuple(tables), positions, each
        self._starts = np.concatenate([[0], np.cumsum([len(table) for table in tables])]).astype(np.int64)
        some = np.empty((0, tables[0].shape[1]), dtype=tables[0].dtype)
        made = some if each is None else each(some)
        n = int(self._starts[-1]) if positions is None else len(positions)
        self.shape: tuple[int, ...] = (n, made.shape[1])
        self.dtype = made.dtype

    @staticmethod
    def of_files(paths: Sequence[Path], holding: object = None) -> "Stack":
        """Of .npy files, which stay on the disk. PoolError names the file that is none, or of another width or type.

        holding: what keeps the files there; it lives as long as anybody reads them. StoreError where one has gone.
        """
        maps = _Maps(holding)
        return Stack([_File(Path(path), maps) for path in paths])

    def take(self, positions: Int[np.ndarray, " m"]) -> "Stack":
        """These rows, in this order, without reading one."""
        return Stack(self._tables, positions if self._positions is None else self._positions[positions], self._each)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: slice | int | np.integer[Any] | Shaped[np.ndarray, " m"]) -> np.ndarray:
        if isinstance(where, (int, np.integer)):
            row: np.ndarray = self[np.array([where])][0]
            return row
        rows = self._rows(where)
        return rows if self._each is None else self._each(rows)

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError(f"a table of {self.shape} may be larger than memory: read it in parts, or copy it by table[:]")

    def _rows(self, where: slice | Shaped[np.ndarray, " m"]) -> np.ndarray:
        if self._positions is not None:
            return self._at(self._positions[where])
        if not isinstance(where, slice):
            return self._at(np.arange(len(self))[where] if where.dtype == bool or (where < 0).any() else where)
        first, last, step = where.indices(len(self))
        return self._from_to(first, last) if step == 1 and first < last else self._at(np.arange(first, last, step))

    def _from_to(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to below `last`, at least one."""
        begin, end = np.searchsorted(self._starts, [first, last - 1], side="right").tolist()
        which = range(begin - 1, end)
        starts = self._starts[begin - 1 : end].tolist()
        parts = [
            np.asarray(self._tables[i][max(first - start, 0) : last - start])
            for i, start in zip(which, starts, strict=True)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _at(self, positions: Int[np.ndarray, " m"]) -> np.ndarray:
        if len(positions) and positions.max() >= self._starts[-1]:
            raise IndexError(f"row {positions.max()} of a stack of {self._starts[-1]}")
        if len(self._tables) == 1 or not len(positions):
            return np.asarray(self._tables[0][positions])
        table = np.searchsorted(self._starts, positions, side="right") - 1
        found = np.empty((len(positions), self._tables[0].shape[1]), dtype=self._tables[0].dtype)
        order = np.argsort(table, kind="stable")  # a file after the other
        used, first = np.unique(table[order], return_index=True)
        for i, here in zip(used.tolist(), np.split(order, first[1:]), strict=True):
            found[here] = self._tables[i][positions[here] - self._starts[i]]
        return found


def taken(table: Matrix, positions: Int[np.ndarray, " m"]) -> Matrix:
    """These rows, in this order: a copy of what is in memory, and of what lies on the disk a table that reads them there."""
    if isinstance(table, Stack):
        return table.take(positions)
    if on_disk(table):
        return Stack([table], positions)
    copied: Matrix = table[positions]
    return copied


def on_disk(table: Matrix) -> bool:
    """Whether a copy of it is to be avoided: it may be larger than memory."""
    return isinstance(table, Stack | np.memmap)


class _Maps:
    """Mapped files, of which the longest unused are closed: so their pages no longer count as memory of the process."""

    def __init__(self, holding: object = None) -> None:
        self._holding = holding
        self._open: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._bytes = 0

    def of(self, path: Path) -> np.ndarray:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        try:
            table = np.asarray(np.load(path, mmap_mode="r"))
        except FileNotFoundError as error:
            raise _gone(path) from error
        self._bytes += table.nbytes
        while self._open and (len(self._open) >= OPEN or self._bytes > MAPPED):
            self._bytes -= self._open.popitem(last=False)[1].nbytes
        self._open[path] = table
        return table


class _File:
    """A .npy file that is mapped when it is read."""

    def __init__(self, path: Path, maps: _Maps):
        self.path, self._maps = path, maps
        try:
            with path.open("rb") as file:
                version = npy.read_magic(file)
                read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                self.shape, _, self.dtype = read(file)
        except (OSError, ValueError) as error:
            raise PoolError(f"{path}: it is not a table in a .npy file ({error})") from error

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, where: Any) -> np.ndarray:
        part: np.ndarray = self._maps.of(self.path)[where]
        return part


def _gone(path: Path) -> StoreError:
    return StoreError(f"{path} is not there any more: it was measured again since, or removed; read the newer results")


def _name(table: Matrix) -> str:
    """What to call it in an error."""
    return str(getattr(table, "path", None) or getattr(table, "filename", None) or "an array")
