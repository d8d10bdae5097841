"""Colours, and figures as files: one look for all, on light, dark and printed pages.

Figures are drawn in fixed colours. In the page, each of them becomes a CSS variable, so that the page's theme decides;
the files beside the page keep the colours, for a light background.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

INK, MUTED, FAINT = "#1d2126", "#68707a", "#d8dce1"
BLUE, VERMILLION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, YELLOW, GREY = "#e69f00", "#56b4e9", "#c9b800", "#858b93"

SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
"""Okabe and Ito's colours, which people with any colour vision can tell apart (yellow darkened to show on white)."""

VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    FAINT: "--faint",
    GREY: "--grey",
    BLUE: "--blue",
    VERMILLION: "--vermillion",
    GREEN: "--green",
    PURPLE: "--purple",
    ORANGE: "--orange",
    SKY: "--sky",
    YELLOW: "--yellow",
}

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.major.width": 0.6,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
}

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A figure's data, for whoever wants to draw it otherwise."""

    columns: Sequence[str]
    rows: Iterable[Sequence[Cell]]

    def csv(self) -> bytes:
        """UTF-8, one header line; numbers at full precision, an empty field where there is none."""
        sink = io.StringIO(newline="")
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return sink.getvalue().encode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Plot:
    """What the page needs to answer a pointer over a figure of lines.

    panel: left, top, width and height of the axes, in points. limits: of x and y there. lines: of each its number in the
    experiment, its title, its colour as a CSS variable and its points: x, y, and both as they are read.
    """

    panel: Sequence[float]
    limits: Sequence[float]
    lines: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Drawing:
    """A figure for the page and beside it. name: of its files, without ending. alt: for whoever cannot see it."""

    name: str
    alt: str
    svg: bytes
    png: bytes
    csv: bytes
    inline: Markup
    plot: Plot | None = None


MARK = re.compile(r'<g id="line-(\d+)-\d+"')
"""An artist that belongs to a line of an experiment, which the page can hide and show: see `Marker`."""


class Marker:
    """Names artists by the line that they belong to, each differently, as an SVG file wants it."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, line: int, *artists: Artist) -> None:
        for artist in artists:
            self._count += 1
            artist.set_gid(f"line-{line}-{self._count}")


def sheet(width: float, height: float) -> Figure:
    """An empty figure, in points; a point in the file is a pixel in the page at most at its natural size."""
    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasAgg(figure)
    return figure


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes by absolute place, in points from the upper left, so that panels of different figures align."""
    w, h = figure.get_size_inches() * 72
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h), facecolor="none")


def words(figure: Figure, x: float, y: float, text: str, **style: object) -> None:
    """Text with its baseline in points from the upper left."""
    w, h = figure.get_size_inches() * 72
    figure.text(x / w, 1 - y / h, text, va="baseline", **style)  # type: ignore[arg-type]


def drawn(name: str, alt: str, figure: Figure, table: Table, plot: Plot | None = None) -> Drawing:
    """The figure in all its formats; the same bytes for the same data."""
    with rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has fonts for other scripts
        svg, png = io.BytesIO(), io.BytesIO()
        dateless = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=dateless)
        width, height = (float(inches) for inches in figure.get_size_inches())
        margin = Bbox.from_bounds(-0.15, -0.15, width + 0.3, height + 0.3)  # the page has its own
        figure.savefig(png, format="png", dpi=160, facecolor="white", bbox_inches=margin, metadata={"Software": None})
    return Drawing(name, alt, svg.getvalue(), png.getvalue(), table.csv(), inline(svg.getvalue().decode(), alt), plot)


def inline(svg: str, alt: str) -> Markup:
    """An SVG file as an element of a page, sized by the page and coloured by its theme; ids of groups are dropped.

    What a `Marker` named says which line it belongs to.
    """
    width, height = (float(v) for v in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", MARK.sub(r'<g data-line="\1"', body))
    body = re.sub(r'style="[^"]*"', lambda style: themed(style[0]), body)
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(alt)}">'
    return Markup(head + body.strip() + "</svg>")  # matplotlib escapes what it writes


def themed(style: str) -> str:
    """Fixed colours as CSS variables."""
    return re.sub(r"#[0-9a-f]{6}", lambda m: f"var({VARIABLES[m[0]]})" if m[0] in VARIABLES else m[0], style)
