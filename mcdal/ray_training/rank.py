"""What runs on the cluster's machines: one of the processes that train together. It needs this package there."""

import io
import platform
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from mcdal.checkpoint import packed
from mcdal.device import Numerics
from mcdal.process_group import group_of_machines, open_store, reach_store
from mcdal.rank_process import told
from mcdal.ray_cluster import first_line, imported_ray
from mcdal.ray_training.parcel import Parcel
from mcdal.training import train
from mcdal.version import __version__
from mcdal.work import Keeper

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore


@dataclass(frozen=True)
class Sight:
    """Of a rank: where it is, and with what it computes. All must be alike but for the machine."""

    machine: str
    gpu: str
    mcdal: str
    torch: str
    numerics: Numerics


@dataclass(frozen=True)
class Outcome:
    """Of a call: what it gave, or the error that was raised. gone: what was sent has been lost on its way."""

    value: Any = None
    failure: bytes = b""
    gone: str = ""


@dataclass(frozen=True)
class News:
    """What rank 0 has to tell. events: for the listener. state: of the training, as bytes, where one was asked for."""

    events: tuple[tuple[str, dict[str, Any]], ...]
    state: bytes


class Rank:
    """Number `rank` of `count`. Lives for one training. kind: of its device. path: where the driver looks for modules."""

    def __init__(self, rank: int, count: int, threads: int, kind: str, path: Sequence[str]):
        self._rank, self._count, self._threads, self._kind = rank, count, threads, kind
        self._store: TCPStore | None = None
        self._mail = Mail(b"")
        sys.path += [folder for folder in path if folder not in sys.path]

    def hear(self, pool: Parcel, order: Parcel, state: bytes) -> Outcome:
        """Takes all that the training needs. state: at which rank 0 begins; empty for the beginning."""

        def heard() -> Sight:
            ray = imported_ray("training on a cluster")
            self._order = {**pool.opened(ray), **order.opened(ray)}
            self._mail = Mail(state)
            masks, names = self._order["pool"].masks, self._order.pop("masks")
            if masks is not None:
                masks.hear(names)
            self._numerics: Numerics = self._order["training"].numerics(self._kind)
            gpu = torch.cuda.get_device_name(self._numerics.device) if self._kind == "cuda" else ""
            return Sight(platform.node(), gpu, __version__, torch.__version__, self._numerics)

        return _outcome(heard)

    def open(self) -> Outcome:
        """Of rank 0: address and port at which the others meet it."""

        def opened() -> tuple[str, int]:
            address = _address()
            self._store = open_store(address)
            return address, int(self._store.port)

        return _outcome(opened)

    def train(self, meeting: tuple[str, int] | None) -> Outcome:
        """Its part of the training; of rank 0 the last news, with the state at the end. meeting: as rank 0's `open` gave it."""

        def trained() -> News:
            torch.set_num_threads(self._threads)  # of this thread, which is not the one that `hear` ran in
            if self._kind == "cuda":
                torch.cuda.set_device(self._numerics.device)
            with self._group(meeting):
                # Without others there is no group, and none is to be started here.
                training = replace(self._order["training"], processes=1)
                rest = {name: part for name, part in self._order.items() if name != "training"}
                train(**rest, training=training, numerics=self._numerics, keeper=self._mail, listen=self._mail.listen)
            return self._mail.taken(at_end=True)

        return _outcome(trained)

    def _group(self, meeting: tuple[str, int] | None) -> AbstractContextManager[None]:
        if meeting is None:
            return nullcontext()
        store = self._store or reach_store(*meeting)
        return group_of_machines(_address(), store, self._rank, self._count, self._numerics.device)

    def news(self, due: bool) -> News:
        """Of rank 0, while it trains: what there is to tell since the last time. due: whether a state is wanted soon."""
        self._mail.wanted = self._mail.wanted or due
        return self._mail.taken()


class Mail(Keeper):
    """What rank 0 tells and keeps, until the driver asks for it. begin: the state at which the training begins."""

    def __init__(self, begin: bytes):
        self._begin, self.wanted = begin, False
        self._state = self._last = b""
        self._events: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def load(self) -> dict[str, object] | None:
        if not self._begin:
            return None
        state: dict[str, object] = torch.load(io.BytesIO(self._begin), map_location="cpu", weights_only=True)
        return state

    def due(self) -> bool:
        return self.wanted

    def save(self, state: dict[str, object]) -> None:
        content = packed(state)
        with self._lock:
            self._state, self._last, self.wanted = content, content, False

    def listen(self, kind: str, **fields: object) -> None:
        with self._lock:
            self._events.append((kind, fields))

    def taken(self, at_end: bool = False) -> News:
        """What has come since the last time. at_end: with the last state, even if it was taken before."""
        with self._lock:
            news = News(tuple(self._events), self._last if at_end else self._state)
            self._events, self._state = [], b""
        return news


def _outcome(do: Callable[[], object]) -> Outcome:
    errors = imported_ray("training on a cluster").exceptions
    try:
        return Outcome(do())
    except errors.RayError as error:
        return Outcome(gone=first_line(error))
    except Exception as error:
        return Outcome(failure=told(error))


def _address() -> str:
    """By which the other machines of the cluster reach this one."""
    return str(imported_ray("training on a cluster").util.get_node_ip_address())
