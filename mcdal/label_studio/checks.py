"""What a check of the doctor looks at, and what it says."""

from dataclasses import dataclass
from typing import Literal

from mcdal.campaign.definition import Opened
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import Connection
from mcdal.label_studio.http import Json

Verdict = Literal["ok", "look", "wrong"]


@dataclass(frozen=True)
class Check:
    """look: it works, but not as it could. wrong: answers, order or predictions are lost. todo: empty where nothing is."""

    name: str
    verdict: Verdict
    seen: str
    todo: str = ""

    def line(self) -> str:
        return f"{self.verdict:<5} {self.name}: {self.seen}" + (f"\n      -> {self.todo}" if self.todo else "")


@dataclass
class Patient:
    """What the checks look at; project and tasks are read once."""

    client: Client
    campaign: Opened | None = None
    connection: Connection | None = None
    backend: str | None = None
    project: Json | None = None
    tasks: tuple[Json, ...] = ()
