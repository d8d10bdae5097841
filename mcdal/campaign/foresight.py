"""What is told of gain, forecast and cost, for a terminal and for the report: sentences of plain values."""

from collections.abc import Mapping
from typing import Any


def foresight(told: Mapping[str, Any], budget: int, audit: int) -> list[str]:
    """Lines of an outlook as JSON; those that nothing is known for yet are left out. budget, audit: labels in all."""
    return [
        f"{name:<9} {text}"
        for name, text in (
            ("gain", gained(told["gain"])),
            ("forecast", expected(told["ahead"], budget)),
            ("cost", spent(told["cost"], budget + audit)),
        )
        if text
    ]


def gained(gain: Mapping[str, Any] | None) -> str:
    """What picking has brought so far, as far as the control arm tells."""
    if gain is None:
        return ""
    points, saved = gain["points"], gain["saved"]
    low, high = 100 * points["low"], 100 * points["high"]
    text = (
        f"{100 * points['value']:+.1f} points (95 %: {low:+.1f} to {high:+.1f}) over {gain['labels']} labels that are drawn at "
        f"random, which reach {100 * gain['accuracy']['value']:.1f} %"
    )
    if low <= 0 <= high:
        return f"{text}: no difference shown yet"
    if low > 0 and saved["value"] is not None and saved["low"] is not None:
        ends = f"{100 * saved['low']:.0f} to {100 * saved['high']:.0f}"
        return f"{text}; picked ones reach that with {100 * saved['value']:.0f} % (95 %: {ends}) fewer"
    return text


def expected(ahead: Mapping[str, Any] | None, budget: int) -> str:
    """How accuracy goes on."""
    if ahead is None:
        return ""
    more, end, needed = ahead["more"], ahead["at_budget"], ahead["needed"]
    text = (
        f"{100 * more['value']:+.1f} points ({100 * more['low']:+.1f} to {100 * more['high']:+.1f}) by 100 further labels; "
        f"{100 * end['value']:.1f} % ({100 * end['low']:.1f} to {100 * end['high']:.1f}) with {max(budget, 0):,}"
    )
    return text if needed is None else f"{text}; the target {_needs(needed)}"


def _needs(needed: Mapping[str, Any]) -> str:
    if needed["value"] is None:
        return "is not reached on this curve"
    most = "no end in sight" if needed["high"] is None else f"{needed['high']:,.0f}"
    return f"needs {needed['value']:,.0f} labels ({needed['low']:,.0f} to {most})"


def spent(cost: Mapping[str, Any], labels: int) -> str:
    """What people have spent, and what all labels, those of the audit included, would take at this pace."""
    parts = []
    if cost["hours"]:
        parts.append(f"{cost['hours']:.2f} hours at the images so far, {cost['seconds_a_label']:.1f} s a label")
    if cost["money"] is not None:
        each = cost["money_a_label"]
        whole = "" if each is None else f"; at {each:.3f} a label, {each * labels:,.2f} for all {labels:,}"
        parts.append(f"{cost['money']:,.2f} spent{whole}")
    return "; ".join(parts)
