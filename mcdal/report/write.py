"""Puts the report together and writes it: every figure with its data first, the page that shows them last."""

from collections.abc import Sequence
from pathlib import Path

from mcdal.report.ink import Drawing
from mcdal.report.page import build_page, render
from mcdal.report.queries import read_runs
from mcdal.report.section import Section
from mcdal.writing import write_atomically


def write_report(
    out: Path, run_ids: Sequence[str] = (), sections: Sequence[Section] = (), excluded: Sequence[str] = ()
) -> Path:
    """Writes `out/report/index.html`, each figure as PNG, SVG and CSV, and tables as CSV and LaTeX; returns the page's path.

    run_ids: which runs to show; empty for all runs of the store. sections: told before them. excluded: what was wanted and is
    not among them, a sentence each. The store and the runs' files are only read, so a report may be written while runs go on.
    Raises StoreError where there is no store, or no run of such an id.
    """
    folder = out / "report"
    page = build_page(read_runs(out, run_ids), sections, excluded)
    for drawing in page.drawings:
        _write_drawing(folder, drawing)
    for chapter in page.chapters:
        if chapter.latex:
            write_atomically(folder / chapter.latex_name, chapter.latex.encode("utf-8", "replace"))
        for name, _, table in chapter.tables:
            write_atomically(folder / name, table.csv())
    index = folder / "index.html"
    write_atomically(index, render(page).encode("utf-8", "replace"))
    return index


def _write_drawing(folder: Path, drawing: Drawing) -> None:
    for ending, content in (("svg", drawing.svg), ("png", drawing.png), ("csv", drawing.csv)):
        write_atomically(folder / f"{drawing.name}.{ending}", content)
