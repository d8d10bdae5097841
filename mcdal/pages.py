"""Pages of the documentation that are made of the code, so that they stay true: `scripts/docs` writes them."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from mcdal.registry import listed, load
from mcdal.settings import described

FOLDER = Path(__file__).parent.parent / "docs"

WORDS = {
    "probabilities": "class probabilities",
    "features": "features",
    "labeled": "some labeled samples",
    "labels": "the labels so far",
    "model": "the task model",
    "training": "networks of its own",
    "stages": "inner stages of the model",
    "images": "the pixels",
}

INTRODUCTION = """# Strategies

Made from the code by `scripts/docs`; `mcdal strategies NAME` shows the same fields in a terminal.

*needs* says what a strategy looks at. One that needs no more than class probabilities, features and the labels so far also
works on the outputs of any model of yours, without our training ([mcdal select](select.md)). All that need neither the pixels
nor inner stages of the model work on a [frozen encoder](frozen.md). *masks*: it also picks scenes for segmentation; scores of
pixels are averaged over the image, and so are features and probabilities unless it says otherwise. *memory* is beyond the
measured rows, which are N numbers for a score, N x d for features and N x C for probabilities in float32; nobody allocates N x N,
N x budget or, but for BADGE on masks, N x (C x d). N: samples of the pool, b: budget, C: classes, d: length of the features.
"""


def strategies() -> str:
    """The page on all strategies: a table, then a section each."""
    ours = sorted(name for name in listed("strategies") if ":" not in name)
    found = {name: load("strategies", name) for name in ours}
    found = {name: kind for name, kind in found.items() if kind.__module__.startswith("mcdal.strategies.")}
    lines = [INTRODUCTION, "| strategy | | needs | arrays | masks |", "|---|---|---|---|---|"]
    for name, kind in found.items():
        on_arrays = "" if {"model", "training"} & set(kind.about.needs) else "yes"
        masks = "yes" if "segmentation" in kind.about.tasks else ""
        lines.append(f"| [`{name}`](#{name}) | {listed('strategies')[name]} | {_needs(kind)} | {on_arrays} | {masks} |")
    for name, kind in found.items():
        lines += ["", *_section(name, kind)]
    return "\n".join(lines) + "\n"


def _needs(kind: type) -> str:
    return ", ".join(WORDS[need] for need in kind.about.needs) or "nothing"  # type: ignore[attr-defined]


def _section(name: str, kind: type) -> Iterator[str]:
    about = kind.about  # type: ignore[attr-defined]
    yield f"## {name}"
    yield ""
    yield inspect.cleandoc(kind.__doc__ or "").replace("<", "&lt;")
    yield ""
    yield "| | |"
    yield "|---|---|"
    rows = {"paper": about.paper, "needs": _needs(kind), "cost": about.cost, "memory": about.memory}
    rows |= {"when to use it": about.use, "when not": about.avoid}
    for title, text in rows.items():
        yield f"| {title} | {text.replace('|', '&#124;')} |"
    fields = list(described(kind(), "strategy"))
    if fields:
        yield ""
        yield "| field | default | |"
        yield "|---|---|---|"
    for path, value, help in fields:
        yield f"| `{path}` | `{value}` | {help.replace('|', '&#124;')} |"


PAGES = {"strategies.md": strategies}


def main() -> None:
    """Writes every page, or with --check exits 1 where one is not what the code says."""
    stale = [name for name, page in PAGES.items() if not _is(FOLDER / name, page())]
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"not current, run scripts/docs: {', '.join(stale)}")
        return
    for name in stale:
        (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
        sys.stdout.write(f"docs/{name} written\n")


def _is(path: Path, content: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == content


if __name__ == "__main__":
    main()
