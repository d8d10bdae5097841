"""The sections of a data-set card, each from the facts."""

import shlex
from collections import Counter
from pathlib import Path

from mcdal.campaign.definition import Campaign
from mcdal.campaign.escape import code, markdown, table
from mcdal.campaign.facts import Facts
from mcdal.campaign.judging import Share
from mcdal.campaign.rows import agreed, did, last_answer
from mcdal.campaign.words import calibration_line
from mcdal.plan import FILES
from mcdal.version import __version__

WHY = {
    "start": "drawn at random before there was a model",
    "strategy": "picked by the strategy, with the model of the round before",
    "control": "drawn at random from what was left, beside the strategy's picks",
    "easy": "drawn among those that the model was surest of",
    "rare": "likely ones of a class that was added and had few labels",
    "audit": "drawn at random to judge models by; never trained on",
    "given": "not asked about: the label came from a file",
    "copy": "not asked about: the label is that of an image that looks nearly the same",
}
"""By arm, in the order in which they are told."""
OPTIONS = (
    "budget", "start", "batch", "audit", "audit_answers", "control", "double", "strategy", "encoder", "scale", "size", "seed",
    "near", "easy", "per_group", "groups", "costs",
)  # fmt: skip
"""Fields of a campaign that decide which images are asked about."""


def intro(found: Facts) -> str:
    name, rows = markdown(found.campaign.campaign.name), found.labels.rows
    gone = f" {len(found.labels.gone)} of them are of images that are not there any more." if found.labels.gone else ""
    return (
        f"# {name}\n\n{len(rows)} labels of {found.images} images, in {len(found.labels.classes)} classes, given by people in a "
        f"campaign of active learning with mcdal {__version__}.{gone}\n\nThe license of the images is not known to mcdal: add it "
        "before you publish them."
    )


def choice(found: Facts) -> str:
    campaign = found.campaign.campaign
    counts = Counter(row.arm for row in found.labels.rows)
    rows = [[arm, str(counts[arm]), why] for arm, why in WHY.items() if counts[arm]]
    through = "" if campaign.encoder is None else f" on features of the frozen network {markdown(campaign.encoder)}"
    return (
        f"## How the images were chosen\n\n{table(('arm', 'labels', 'images'), rows)}\n\n"
        f"The strategy was {markdown(campaign.strategy)}{through}. **What it picked is not a random sample**: classes and hard "
        "cases are in it more or less often than in the pool. Take the arm `audit` for unbiased statistics, with `start` where "
        "it was drawn at random; keep `audit` for tests; train on all others."
    )


def classes(found: Facts) -> str:
    arms = [arm for arm in WHY if any(row.arm == arm for row in found.labels.rows)]
    counts = Counter((row.number, row.arm) for row in found.labels.rows)
    rows = [
        [
            markdown(name), *(str(counts[c, arm]) for arm in arms), str(sum(counts[c, arm] for arm in arms)),
            _percent(share),
        ]
        for c, (name, share) in enumerate(zip(found.labels.classes, found.shares.classes, strict=True))
    ]  # fmt: skip
    head = ("class", *arms, "all", "share in the pool (95 %)")
    return (
        f"## Classes\n\n{table(head, rows)}\n\nThe share in the pool is estimated from {found.shares.images} images that were "
        f"drawn at random ({found.shares.drawn}), with Wilson's interval. People could not tell, or did not agree on, "
        f"{_percent(found.shares.cannot)} of them."
    )


def people(found: Facts) -> str:
    rows = [
        [
            markdown(found.called.get(person.name, person.name)), str(person.labels), str(person.cannot_tell),
            str(person.skipped), "" if person.seconds is None else f"{person.seconds:.1f}",
        ]
        for person in sorted(did(found.campaign), key=lambda person: (-person.labels, person.name))
    ]  # fmt: skip
    head = ("who", "labels", "cannot tell", "skipped", "median seconds an image")
    return f"## Who labeled\n\n{table(head, rows)}\n\n{_agreement(found)}"


def _agreement(found: Facts) -> str:
    agreement = agreed(found.campaign)
    if agreement is None:
        return "No image was answered by two people, so that nothing is known of how well they agree."
    alpha = (
        ""
        if agreement.alpha is None
        else f"; Krippendorff's alpha is {agreement.alpha:.2f} (1: always, 0: as by chance)"
    )
    return (
        f"Two people answered {agreement.images} images that were drawn for it: {100 * agreement.share:.0f} % of the pairs of "
        f"answers agree{alpha}."
    )


def answers(found: Facts) -> str:
    verdicts = Counter(o.verdict for o in found.outcomes)
    first = min(o.at for o in found.outcomes)
    last = last_answer(found.campaign)
    ends = f"{first:%Y-%m-%d}" if last is None else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
    return (
        f"Labeled from {ends} (UTC). {verdicts['cannot_tell']} images have no label because people could not tell or did not "
        f"agree; {verdicts['withdrawn']} were asked about no more because they had gone."
    )


def worth(found: Facts) -> str:
    audit, head = found.audit, "## The model"
    if audit is None:
        return f"{head}\n\n{markdown(found.unjudged)}"
    if audit.accuracy is None:
        return f"{head}\n\nNo audit image has a label, so that nothing is known of the model's accuracy."
    rows = [[markdown(name), f"{s.count} of {s.of}", _percent(s)] for name, s in audit.recall.items()]
    note = f" {markdown(audit.calibration.temperature.note)}" if audit.calibration.temperature.note else ""
    return (
        f"{head}\n\nThe model of round {audit.round} is right on {_percent(audit.accuracy)} of {audit.accuracy.of} audit images. "
        f"Its probabilities: {calibration_line(audit.calibration)}.{note}\n\n"
        f"{table(('class', 'right', 'recall (95 %, Wilson)'), rows)}"
    )


def checksums(found: Facts) -> str:
    rows = [[markdown(name), f"`{digest}`"] for name, digest in found.sums.items()]
    begun = code([command(found.campaign.campaign, found.labels.classes)])
    return (
        f"## Checksums\n\n{table(('of', 'SHA-256'), rows)}\n\nThe column `sha256` of the labels has that of each image.\n\n"
        f"With mcdal {__version__} such a campaign is begun by\n\n{begun}"
    )


def command(campaign: Campaign, classes: tuple[str, ...]) -> str:
    """How to begin such a campaign; the folders are the reader's own."""
    listed = ",".join(classes) if not any("," in name for name in classes) else "classes.txt"
    given: list[str] = ["mcdal", "campaign", "new", campaign.name, "--images", "DIR", "--classes", listed]
    for name in OPTIONS:
        if (value := getattr(campaign, name)) is not None:
            given += [f"--{name.replace('_', '-')}", _no_folder(value)]
    given += [f"--{name.replace('_', '-')}" for name in ("guesses", "fan_out") if getattr(campaign, name)]
    for path, text in campaign.settings:
        given += ["--set", f"{path}={_no_folder(text) if path in FILES else text}"]
    return shlex.join(given)


def _no_folder(value: object) -> str:
    """Where somebody's files lie is nobody's business."""
    return Path(value).name if isinstance(value, (str, Path)) else str(value)


def _percent(share: Share) -> str:
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})" if share.of else "unknown"
