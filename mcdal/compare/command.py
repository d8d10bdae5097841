"""The command `mcdal compare`. Heavy imports happen inside it, so that `--help` and completion are quick."""

from pathlib import Path
from typing import Annotated

import typer

from mcdal.options import Data, Database, Device, Json, Out, Quiet, Scale, complete_encoders, complete_recipes
from mcdal.stopping import stoppable


def _complete_comparisons() -> list[tuple[str, str]]:
    from mcdal.compare.figures import FIGURES

    return [*complete_recipes(), *((name, figure.about) for name, figure in FIGURES.items())]


def compare(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, my_recipes.py:NAME, or a figure of the paper, fig3 to fig10 (docs/reproduce.md).",
            autocompletion=_complete_comparisons,
        ),
    ],
    strategies: Annotated[
        str | None,
        typer.Option(
            "--strategies",
            "-s",
            help="mcdal,random,margin, or with fields set: 'mcdal,mcdal[heads=4],my_file.py:NAME'. A figure has its own.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="0-4, or 0,2,5.")] = "0-4",
    data: Data = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", "-e", help="Train heads alone on this network's features.", autocompletion=complete_encoders
        ),
    ] = None,
    out: Out = Path("runs"),
    database: Database = None,
    scale: Scale = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of all runs: --set protocol.budget=100."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="FIELD=A,B", help="Play all of it with each of these: --vary protocol.budget=50,100."
        ),
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Runs at once; by default one a processor, one on an accelerator, or as many as a cluster holds.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ADDRESS",
            help="Play the runs on a Ray cluster: ray://host:10001, auto: this machine's, local: one of its own.",
        ),
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus", min=0.0, help="With --on: CPUs of a run, by default 1 a process.")
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option("--gpus", min=0.0, help="With --on: GPUs of a run, by default 1 a process where it runs on CUDA."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is done and what is missing; run nothing.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Play strategies by seeds under equal conditions, or what is missing of them, and tell what they show."""
    import json as json_module

    from mcdal.command import Command
    from mcdal.compare.asked import entries, variations
    from mcdal.compare.asked import seeds as read_seeds
    from mcdal.compare.compare import compare as play
    from mcdal.compare.compare import missing
    from mcdal.compare.figures import of_figure
    from mcdal.compare.on_ray import cluster_of
    from mcdal.report import write_report

    with stoppable():
        recipe, strategies = of_figure(recipe, strategies)
        of = Command(recipe, data, None, encoder, 0, scale, tuple(settings or ()))
        asked, varied = (entries(strategies), read_seeds(seeds)), variations(vary or [])
        if dry_run:
            for line, counts in missing(of, *asked, out, varied):
                typer.echo(json_module.dumps(counts) if json else line)
            return
        cluster = cluster_of(on, workers, cpus, gpus)
        found = play(
            of, *asked, out, varied=varied, device=device, workers=workers, on=cluster, database=database, quiet=quiet,
            as_json=json,
        )  # fmt: skip
        for strategy, words in found.shown:
            typer.echo(
                json_module.dumps({"event": "shown", "strategy": strategy, "text": words})
                if json
                else f"{strategy}: {words}"
            )
        if found.done and not found.shown and len(asked[0]) > 1:
            typer.echo("no difference is told: it would be one to random, which is not among the strategies", err=True)
        if found.done:
            page = write_report(out, [cell.plan.run_id for cell in found.done], excluded=found.excluded)
            typer.echo(f"report: {page}", err=True)
    if found.failed:
        typer.echo(
            f"{len(found.failed)} of {len(found.cells)} runs failed; the same command tries them again", err=True
        )
        raise typer.Exit(1)
