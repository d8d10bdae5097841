"""How a campaign stands, for a terminal and for programs."""

from dataclasses import asdict
from typing import Any

from mcdal.campaign.definition import Opened
from mcdal.campaign.foresight import foresight
from mcdal.campaign.outlook import as_json, outlook
from mcdal.campaign.progress import PICKED, accuracy, finished_rounds, is_training, state
from mcdal.campaign.rows import agreed, did, last_answer
from mcdal.locks import is_locked

WORDS = {"asks": "people are asked", "full": "the round is answered", "finished": "finished"}


def status(campaign: Opened) -> dict[str, Any]:
    """As plain values."""
    ledger, definition = campaign.ledger, campaign.campaign
    round, there = ledger.last_round(), state(campaign)
    last = last_answer(campaign)
    found, agreement = accuracy(campaign), agreed(campaign)
    return {
        "campaign": definition.name,
        "state": there,
        "training": is_training(campaign),
        "served": is_locked(campaign.folder / "serve.lock"),
        "rounds": {"finished": finished_rounds(campaign), "of": definition.rounds},
        "round": None if round is None else {"number": round, **asdict(ledger.progress(round))},
        "budget": {"labels": ledger.progress(arms=PICKED).labels, "of": definition.budget},
        "audit": {"labels": ledger.progress(arms=("audit",)).labels, "of": definition.audit},
        "accuracy": None if found is None else asdict(found),
        "agreement": None if agreement is None else asdict(agreement),
        "outlook": as_json(outlook(campaign)),
        "people": [asdict(person) for person in did(campaign)],
        "last_answer": None if last is None else last.isoformat(timespec="seconds"),
    }


def lines(told: dict[str, Any]) -> list[str]:
    """The same for a person."""
    budget, audit, rounds, round = (told[name] for name in ("budget", "audit", "rounds", "round"))
    beside = ", training now" if told["training"] else ""
    said = [
        f"{told['campaign']}: {WORDS[told['state']]}{beside}; {rounds['finished']} of {rounds['of']} rounds trained",
        f"labels    {budget['labels']} of {budget['of']}, and {audit['labels']} of {audit['of']} for the audit",
    ]
    if round is not None:
        said.append(f"round {round['number']:<3} {round['closed']} of {round['asked']} images answered")
    if (found := told["accuracy"]) is not None:
        ends = f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"
        said.append(
            f"accuracy  {100 * found['value']:.1f} % (95 %: {ends}) after round {found['round']}, on {found['labels']} images "
            "that are never trained on"
        )
    if (agreement := told["agreement"]) is not None:
        alpha = "" if agreement["alpha"] is None else f", Krippendorff's alpha {agreement['alpha']:.2f}"
        said.append(
            f"agreement {100 * agreement['share']:.0f} % of the pairs of answers to {agreement['images']} images{alpha}"
        )
    said += foresight(told["outlook"], budget["of"], audit["of"])
    for person in told["people"]:
        seconds = "" if person["seconds"] is None else f", {person['seconds']:.1f} s an image"
        said.append(
            f"  {person['name']}: {person['labels']} labels, {person['skipped']} skipped, {person['cannot_tell']} cannot "
            f"tell{seconds}"
        )
    if told["last_answer"]:
        said.append(f"last answer {told['last_answer']}")
    return [*said, *(f"you may stop: {reason['text']}" for reason in told["outlook"]["suggestions"])]
