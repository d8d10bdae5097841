"""Text that people gave (classes, names, files) inside Markdown and YAML, where it must be nothing but text."""

import json
import string
from collections.abc import Sequence

PUNCTUATION = frozenset(string.punctuation)


def visible(text: str) -> str:
    """What cannot be printed (line breaks, direction marks, lone surrogates) by its number, such as \\u000a."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def markdown(text: str) -> str:
    """One line that stands for itself, also in a cell of a table: CommonMark takes a backslash before any punctuation."""
    return "".join(f"\\{c}" if c in PUNCTUATION else c for c in visible(text)) or "(empty)"


def yaml(text: str) -> str:
    """A quoted scalar: JSON's strings are YAML's, where all that YAML does not print is escaped."""
    inside = (json.dumps(c, ensure_ascii=False)[1:-1] if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(inside)}"'


def code(lines: Sequence[str]) -> str:
    """A fenced block; its fence is longer than any row of backticks inside."""
    inside = "\n".join(map(visible, lines))
    longest = max((len(run) for run in "".join(c if c == "`" else " " for c in inside).split()), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{inside}\n{fence}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
