"""Who answers: at once, in minutes, or in days."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from mcdal.values import Ids, Label


class Oracle(ABC):
    """Asked now, answers whenever. Asking twice for the same sample must be harmless: a killed run asks again."""

    @abstractmethod
    def ask(self, ids: Ids) -> None:
        """These samples are wanted, the first most."""

    @abstractmethod
    def answers(self) -> Iterable[Label]:
        """The answers there are so far to what was asked."""

    def given_up(self) -> Mapping[str, str]:
        """Samples that nobody can answer, and why: the run waits for them no longer and does without."""
        return {}

    def is_over(self) -> bool:
        """Whether nothing more may be asked, as people who answer may decide: the run then ends with the labels it has."""
        return False
