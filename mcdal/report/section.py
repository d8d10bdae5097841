"""A part of the page that another part of the package tells, such as a campaign of what people have done."""

from collections.abc import Sequence
from dataclasses import dataclass

from mcdal.report.ink import Drawing
from mcdal.report.tables import RoundTable


@dataclass(frozen=True)
class Section:
    """Sentences with what each is about, figures, tables with their titles, and what is said in small print."""

    title: str
    told: Sequence[tuple[str, str]]
    drawings: Sequence[Drawing] = ()
    tables: Sequence[tuple[str, RoundTable]] = ()
    small: Sequence[str] = ()
