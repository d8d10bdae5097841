"""What is going on, told to whoever listens: bars, lines of JSON, or nobody."""

from collections.abc import Callable
from typing import TypeAlias

Listener: TypeAlias = Callable[..., None]
"""Called as `listen("train", step=5, steps=390, loss=1.2)`: the kind of event, then plain values by name."""


def nobody(kind: str, **fields: object) -> None:
    """Listens to nothing."""
