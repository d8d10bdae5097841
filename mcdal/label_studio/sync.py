"""One turn of the loop: pull, train where a round is answered, push what is asked next."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mcdal.campaign.definition import Opened
from mcdal.campaign.progress import State, state
from mcdal.campaign.sweep import sweep
from mcdal.errors import McdalError
from mcdal.label_studio.client import Client
from mcdal.label_studio.connection import Connection
from mcdal.label_studio.pull import pull, pull_tasks
from mcdal.label_studio.push import Pushed, push
from mcdal.label_studio.questions import wants
from mcdal.label_studio.report import Report

WHOLE_SECONDS = 600.0
"""So often a push looks at everything; in between only tasks that have changed are looked at."""
OVERLAP_SECONDS = 60
"""Of looks at what has changed: a server may show a change later than the time that it writes on it."""


@dataclass
class Puller:
    """Looks at everything first and now and then, and otherwise at what has changed."""

    campaign: Opened
    client: Client
    connection: Connection
    _newest: str = ""
    _next_whole: float = field(default=0.0)

    def pull(self) -> Report:
        if not self._newest or time.monotonic() >= self._next_whole:
            report = pull(self.campaign, self.client, self.connection)
            self.saw(report)
        else:
            report = pull(self.campaign, self.client, self.connection, earlier(self._newest))
            self._newest = max(self._newest, report.newest)
        return report

    def saw(self, whole: Report) -> None:
        """All annotations were looked at. Nothing of before counts: the server's clock may have been set back."""
        self._newest, self._next_whole = whole.newest, time.monotonic() + 1.5 * WHOLE_SECONDS  # a push does it before

    def pull_tasks(self, numbers: list[int]) -> Report:
        return pull_tasks(self.campaign, self.client, self.connection, numbers)


@dataclass
class Pusher:
    """Pushes whenever a new round is asked, and now and then: images are answered elsewhere."""

    campaign: Opened
    client: Client
    connection: Connection
    _before: object = None
    _next_whole: float = field(default=0.0)

    def push(self) -> Pushed | None:
        """None where nothing is new."""
        now = wants(self.campaign)
        if (
            (now == self._before and time.monotonic() < self._next_whole)
            or self.campaign.ledger.last_round() is None
            or self.campaign.ledger.unexplained()
        ):
            return None
        done = push(self.campaign, self.client, self.connection)
        self._before, self._next_whole = now, time.monotonic() + WHOLE_SECONDS
        return done


def sync(
    puller: Puller, pusher: Pusher, train: Callable[[], object], tell: Callable[[str], None], watch: float | None
) -> State:
    """Once, or every `watch` seconds until the campaign is finished. Watching, problems of the server are told and outlived."""
    say = once(tell) if watch is not None else tell
    while True:
        try:
            there = _turn(puller, pusher, train, say)
        except McdalError as error:
            if watch is None:
                raise
            say(f"waits: {error}")
            there = "asks"
        if watch is None or there == "finished":
            return there
        time.sleep(watch)


def once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Says nothing that it has just said."""
    last = [""]

    def say(text: str) -> None:
        if text != last[0]:
            last[0] = text
            tell(text)

    return say


def _turn(puller: Puller, pusher: Pusher, train: Callable[[], object], tell: Callable[[str], None]) -> State:
    campaign = puller.campaign
    tell("\n".join(puller.pull().lines()))
    campaign.ledger.settle()  # people who have left are waited for no more
    if away := sweep(campaign):
        tell(away)
    if state(campaign) == "full" or campaign.ledger.unexplained():
        train()
    done = pusher.push()
    if done is not None:
        puller.saw(done.pulled)
        tell("\n".join(done.lines()))
    return state(campaign)


def earlier(time_text: str) -> str:
    """A time as the server writes it, some seconds before."""
    at = datetime.fromisoformat(time_text.replace("Z", "+00:00")) - timedelta(seconds=OVERLAP_SECONDS)
    return at.isoformat().replace("+00:00", "Z")
