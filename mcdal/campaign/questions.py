"""What travels between people and the ledger of a campaign: questions, answers, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Arm = Literal["start", "strategy", "control", "easy", "rare", "audit", "given"]
"""Why an image is asked about; rare: likely of a class that was added; given: it was not, its label came from a file."""

OF_FILES = "file/"
"""The keys of answers from files begin with it: nobody has looked at an image for them."""


@dataclass(frozen=True)
class Question:
    """An image that people are asked about. why: sentences. guess: the model's class number, with its confidence."""

    sample_id: str
    round: int
    rank: int
    arm: Arm
    wanted: int = 1
    why: Sequence[str] = ()
    guess: int | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Given:
    """One answer as it comes from a person. key: made once by whoever gives it, and kept when it is sent again."""

    key: str
    sample_id: str
    verdict: str
    value: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Receipt:
    """What became of an answer. recorded, repeated: it is kept. refused: it is not, and the message says why."""

    key: str
    status: Literal["recorded", "repeated", "refused"]
    message: str = ""


@dataclass(frozen=True)
class Outcome:
    """A question that is closed. by: the names of those whose answer it is; at: when the last of them gave it."""

    sample_id: str
    arm: Arm
    verdict: Literal["label", "cannot_tell", "withdrawn", "ended"]
    value: int | None
    by: tuple[str, ...]
    at: datetime


@dataclass(frozen=True)
class Progress:
    """Of a campaign, or of one round of it. labels: closed ones that have a class."""

    asked: int
    closed: int
    labels: int


def plain(at: datetime) -> datetime:
    """UTC without a time zone, as the columns keep it."""
    return at.astimezone(UTC).replace(tzinfo=None)


def question_of(row: Any) -> Question:
    """Of a row of the table."""
    return Question(
        row.sample_id, row.round, row.rank, row.arm, row.wanted, tuple(row.why), row.guess, row.confidence
    )  # fmt: skip
