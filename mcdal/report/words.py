"""Numbers, times and names as a person reads them."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

NARROW = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
ACRONYMS = frozenset(
    ["alfa", "badge", "bait", "bald", "daal", "falcun", "ll", "mc", "mcdal", "qbc", "sraal", "tcm", "vaal"]
)


def percent(share: float) -> str:
    """0.9721 -> 97.2 %."""
    return f"{100 * share:.1f}{NARROW}%" if math.isfinite(share) else str(share)


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign: 0.013 -> +1.3."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", MINUS)


def count(number: int) -> str:
    """12345 -> 12 345, with narrow spaces that do not break."""
    return f"{number:,}".replace(",", NARROW)


def plural(number: int, noun: str) -> str:
    """1 seed, 2 seeds."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def listed(names: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def significant(number: float) -> str:
    """Three significant digits: 0.012 -> 0.0120."""
    return f"{number:#.3g}".rstrip(".").replace("-", MINUS)


def rounded(number: float) -> str:
    """Two significant digits, as the ends of a scale need: 0.00954 -> 0.0095."""
    return f"{number:.2g}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """0.42 -> 0.4 s, 95 -> 1 min 35 s, 7300 -> 2 h 2 min, 200000 -> 2 d 8 h."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds < 59.95:
        return f"{seconds:.1f}{NARROW}s"
    whole = round(seconds)
    for big, small, names in ((86400, 3600, "d h"), (3600, 60, "h min"), (60, 1, "min s")):
        if whole >= big:
            first, second = names.split()
            return f"{whole // big}{NARROW}{first} {whole % big // small}{NARROW}{second}"
    return f"{whole}{NARROW}s"


def moment(at: datetime | None) -> str:
    """A time of the store, which keeps UTC."""
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


def strategy_name(name: str) -> str:
    """A strategy's name as a heading: `learning_loss` -> Learning loss, `power_bald` -> Power BALD."""
    name = one_line(name)
    if not re.fullmatch(r"[a-z0-9_]+", name):
        return name
    words = [w.upper() if w in ACRONYMS else w for w in name.split("_") if w]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]]) if words else name


def overrides_text(overrides: Mapping[str, str]) -> str:
    """`heads=4, epochs=2`: what was changed by hand, without the word `strategy` that goes without saying."""
    return one_line(", ".join(f"{k.removeprefix('strategy.')}={v}" for k, v in sorted(overrides.items())))


def titled(text: str) -> str:
    """The first letter as a heading has it, the others as they are."""
    return text[:1].upper() + text[1:]


def one_line(text: str) -> str:
    """Text from outside, fit for a figure: no line breaks, and nothing that XML forbids."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", " ".join(text.split()))


def shortened(text: str, most: int) -> str:
    """At most this many characters, with an ellipsis where some were left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def slug(text: str) -> str:
    """A name that is safe as a file name everywhere."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", text).strip("-.")[:80] or "unnamed"
