"""A campaign in the report: does it pay, what is to be expected, who did what."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from sqlalchemy import inspect, select

from mcdal.campaign.definition import Opened, opened
from mcdal.campaign.forecast import forecast
from mcdal.campaign.foresight import expected, gained, spent
from mcdal.campaign.judged import Curve, curves
from mcdal.campaign.outlook import as_json, outlook
from mcdal.campaign.progress import accuracy
from mcdal.campaign.rows import agreed, did
from mcdal.campaign_tables import campaigns
from mcdal.database import Database
from mcdal.report.ink import BLUE, GREY, MUTED, STYLE, Cell, Drawing, Table, drawn, panel, sheet, words
from mcdal.report.section import Section
from mcdal.report.tables import RoundTable
from mcdal.report.words import count

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 420.0, 250.0, 34.0, 46.0, 96.0, 34.0
ENDS = [0.025, 0.975]
AHEAD = 60
"""Points of the forecast's line."""
SMALL = (
    "Accuracy is that on images for the audit, which are never trained on nor picked. Labels drawn at random are the start "
    "set and the control images; a model that learns from them alone shows what random labeling gives. Intervals know of "
    "other audit images and other trainings; that a forecast's power law goes on is assumed.",
)


def section(out: Path) -> Section | None:
    """Of the campaign in this store; None where there is none."""
    if not _has_campaign(out):
        return None
    with opened(out, create=False) as campaign:
        told = as_json(outlook(campaign))
        return Section("Does it pay?", _told(campaign, told), _figures(campaign), _people(campaign), SMALL)


def _has_campaign(out: Path) -> bool:
    database = Database(out, create=False)
    try:
        with database.read() as connection:
            if not inspect(connection).has_table(campaigns.name):
                return False
            return connection.execute(select(campaigns.c.campaign_id)).first() is not None
    finally:
        database.close()


def _told(campaign: Opened, told: Mapping[str, Any]) -> list[tuple[str, str]]:
    budget, reached, agreement = campaign.campaign.budget, accuracy(campaign), agreed(campaign)
    ahead, gain, cost = told["ahead"], told["gain"], told["cost"]
    said = [
        ("Gain", gained(gain) or "Not known yet: it takes three trained rounds, and control images in the batches."),
        ("Forecast", expected(ahead, budget) or "Not known yet: it takes three trained rounds."),
    ]
    if reached is not None:
        ends = f"{100 * reached.low:.1f} to {100 * reached.high:.1f}"
        said.insert(0, ("Accuracy", f"{100 * reached.value:.1f} % (95 %: {ends}), on {reached.labels} audit images."))
    if text := spent(cost, budget + campaign.campaign.audit):
        said.append(("Cost", text))
    if agreement is not None:
        alpha = "" if agreement.alpha is None else f", Krippendorff’s alpha {agreement.alpha:.2f}"
        said.append(
            ("Agreement", f"{100 * agreement.share:.0f} % of the pairs of answers to {agreement.images} images{alpha}.")
        )
    said += [("You may stop", reason["text"]) for reason in told["suggestions"]]
    return said


def _people(campaign: Opened) -> list[tuple[str, RoundTable]]:
    rows = [
        (
            p.name,
            count(p.labels),
            count(p.skipped),
            count(p.cannot_tell),
            "" if p.seconds is None else f"{p.seconds:.1f} s",
        )
        for p in did(campaign)
    ]
    columns = ("person", "labels", "skipped", "cannot tell", "median time an image")
    return [("People", RoundTable(columns, rows))] if rows else []


def _figures(campaign: Opened) -> list[Drawing]:
    picked, random, judged = curves(campaign)
    if not len(picked.labels):
        return []
    most = float(max(campaign.campaign.budget, picked.labels[-1]))
    rows: list[Sequence[Cell]] = []
    with rc_context(STYLE):
        figure = sheet(WIDTH, HEIGHT)
        words(figure, 0.0, 12.0, "Accuracy of picked and of random labels, %", size=10.5, weight="bold")
        words(figure, 0.0, 27.0, f"on {count(judged)} audit images, with 95 % intervals", color=MUTED)
        axes = panel(figure, LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM)
        going = forecast(picked)
        if going is not None:
            at = np.linspace(picked.labels[0], most, AHEAD)
            values = np.stack([going.at(n) for n in at], axis=1)
            low, high = np.quantile(values[1:], ENDS, axis=0)
            axes.fill_between(at, low, high, color=BLUE, alpha=0.1, linewidth=0)
            axes.plot(at, values[0], color=BLUE, linewidth=1.0, linestyle=(0, (3, 2)))
            rows += [("forecast", *map(float, row)) for row in zip(at, values[0], low, high, strict=True)]
        for title, curve, color in (("random", random, GREY), ("picked", picked, BLUE)):
            if len(curve.labels):
                rows += _line(axes, title, curve, color)
        axes.set_xlabel("labels", loc="right")
        axes.set_xlim(0, most * 1.02)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: count(round(v))))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g}"))
        table = Table(("curve", "labels", "accuracy", "low", "high"), rows)
        return [drawn("campaign/pays", "Accuracy against labels, picked and random", figure, table)]


def _line(axes: Axes, title: str, curve: Curve, color: str) -> list[Sequence[Cell]]:
    value = curve.accuracy[0]
    low, high = np.quantile(curve.accuracy[1:], ENDS, axis=0)
    axes.errorbar(
        curve.labels, value, [value - low, high - value], color=color, linewidth=0 if title == "picked" else 1.2, elinewidth=0.8,
        marker="o", markersize=3.2,
    )  # fmt: skip
    axes.annotate(
        f"{title} {100 * value[-1]:.1f} %", (curve.labels[-1], value[-1]), (6, -2), textcoords="offset points", color=color,
        annotation_clip=False, va="top" if title == "random" else "bottom",
    )  # fmt: skip
    columns = (curve.labels.tolist(), value.tolist(), low.tolist(), high.tolist())
    return [(title, *row) for row in zip(*columns, strict=True)]
