"""`mcdal campaign model`, `predict` and `card`: what comes out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcdal.campaign.commands import Folder, app
from mcdal.options import Device
from mcdal.stopping import stoppable

__all__ = ["app"]

if TYPE_CHECKING:
    from mcdal.campaign.judging import Audit

Round = Annotated[int | None, typer.Option("--round", min=0, help="The model of this round; by default the newest.")]
NAMED = 5


@app.command()
def model(
    folder: Folder,
    out: Annotated[
        Path, typer.Option("--out", help="A new folder for the model, what it must be told, and an example.")
    ],
    round: Round = None,
    formats: Annotated[
        str, typer.Option("--format", help="Of safetensors, pt2 (torch.export), torchscript, onnx; with commas.")
    ] = "safetensors,pt2",
    device: Device = "auto",
) -> None:
    """Write the trained network, from pixels to calibrated probabilities."""
    from mcdal import console
    from mcdal.campaign.definition import opened
    from mcdal.campaign.judging import judge
    from mcdal.campaign.model import export_model
    from mcdal.campaign.trained import round_model

    names = [name.strip() for name in formats.split(",") if name.strip()]
    with opened(folder, create=False) as campaign, stoppable(), console.listener(False, False) as listen:
        trained = round_model(campaign, round, device, listen)
        audit = judge(trained)
        export_model(campaign, trained, audit, out, names)
    _say(audit, trained.notes)
    typer.echo(f"round {trained.round}: {out}; try: python {out / 'example.py'} IMAGE")


@app.command()
def predict(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet, or .csv without all probabilities.")],
    round: Round = None,
    device: Device = "auto",
) -> None:
    """Write what the model says of every image without a label, with calibrated probabilities."""
    from mcdal import console
    from mcdal.campaign.definition import opened
    from mcdal.campaign.judging import judge
    from mcdal.campaign.predict import predict as write
    from mcdal.campaign.trained import round_model

    with opened(folder, create=False) as campaign, stoppable(), console.listener(False, False) as listen:
        trained = round_model(campaign, round, device, listen)
        audit = judge(trained)
        predicted = write(campaign, trained, audit.calibration.temperature.value, out, listen)
    _say(audit, trained.notes)
    for bad in predicted.unreadable[:NAMED]:
        typer.echo(f"note: {bad.id} has no row: {bad.reason}")
    if len(predicted.unreadable) > NAMED:
        typer.echo(f"note: so have {len(predicted.unreadable) - NAMED} others")
    typer.echo(f"{predicted.count} predictions of round {trained.round}: {out}")


@app.command()
def card(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="Markdown file to write.")],
    names: Annotated[bool, typer.Option("--names", help="Name people; else they have numbers.")] = False,
    device: Device = "auto",
) -> None:
    """Write a data-set card: what was labeled, how it was chosen, by whom, how well they agree, what the model is worth."""
    from mcdal import console
    from mcdal.campaign.card import write_card
    from mcdal.campaign.definition import opened

    with opened(folder, create=False) as campaign, stoppable(), console.listener(False, False) as listen:
        write_card(campaign, out, names, device, listen)
    typer.echo(f"{out}")


def _say(audit: "Audit", notes: tuple[str, ...]) -> None:
    """What probabilities are worth."""
    from mcdal.campaign.words import calibration_line

    for note in (*notes, audit.calibration.temperature.note):
        if note:
            typer.echo(f"note: {note}")
    typer.echo(calibration_line(audit.calibration))
