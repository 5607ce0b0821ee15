"""The commands of benchmarks, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from porting.cli_options import Json
from porting.errors import readable
from porting.terminal import say, show, stages

commands = typer.Typer()
bench_app = typer.Typer(
    help="Models by batch sizes by devices, and two such runs against each other.", no_args_is_help=True
)


@commands.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def monitor(
    command: Annotated[list[str], typer.Argument(help="After --: the command, with its own options.")],
    period: Annotated[float, typer.Option("--period", help="Seconds between samples.")] = 0.2,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for usage.json and readings.csv.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")] = False,
) -> None:
    """Run a command and watch power, utilisation and memory. On standard error what it cost; its exit code."""
    from porting.bench.watched import watch_command, watched_lines

    found = watch_command(command, period=period, output=output)
    lines = [json.dumps(found.to_json(), indent=1)] if as_json else list(map(readable, watched_lines(found)))
    sys.stderr.write("\n".join(lines) + "\n")
    raise typer.Exit(found.code)


@bench_app.command("run")
def run_matrix(
    models: Annotated[
        str, typer.Option("--models", help="Sizes, with commas: bert-tiny,bert-mini.", show_default=False)
    ],
    batch_sizes: Annotated[str, typer.Option("--batch-sizes", help="With commas: 2,4,8.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder; the same again goes on.", show_default=False)],
    backend: Annotated[str, typer.Option("--backend", help="With commas: gpu,npu,cpu, torch:cpu.")] = "cpu",
    task: Annotated[str, typer.Option("--task", help="Of GLUE. Without files only cola, generated.")] = "cola",
    epochs: Annotated[int, typer.Option("--epochs", help="Over the training examples.")] = 5,
    examples: Annotated[int | None, typer.Option("--examples", help="The first so many only.")] = None,
    train: Annotated[list[Path] | None, typer.Option("--train", help="TFRecords of `port data glue`.")] = None,
    evaluation: Annotated[list[Path] | None, typer.Option("--eval", help="The same, to evaluate.")] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option("--checkpoint", help="MODEL=PATH: weights to begin from.")
    ] = None,
    length: Annotated[int, typer.Option("--max-seq-length", help="Of generated sequences.")] = 128,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The schedule's peak.")] = 2e-5,
    seed: Annotated[int, typer.Option("--seed", help="Of data, weights, order and dropout.")] = 0,
    compute: Annotated[str, typer.Option("--compute", help="float32, float16 or bfloat16.")] = "float32",
    mode: Annotated[str, typer.Option("--mode", help="eager or graph. Default: as the framework is used.")] = "",
    period: Annotated[float, typer.Option("--period", help="Seconds between samples of the monitor.")] = 0.2,
    retry: Annotated[bool, typer.Option("--retry-failed", help="Run cells again that did not come to an end.")] = False,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Ray's HOST:PORT: each cell on a node with its kind of device.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train every model at every batch size on every backend. Exit code 1 if a cell did not come to its end."""
    from porting.bench.cell import run_here
    from porting.bench.matrix import bench
    from porting.bench.options import matrix_of
    from porting.bench.summary import made_json, made_lines
    from porting.cluster.cells import ClusterCells

    matrix = matrix_of(
        models=models, batch_sizes=batch_sizes, backends=backend, task=task, epochs=epochs, examples=examples,
        train=train or (), evaluation=evaluation or (), checkpoints=checkpoint or (), length=length,
        learning_rate=learning_rate, seed=seed, compute=compute, mode=mode, period=period,
    )  # fmt: skip
    with stages("cells", quiet=as_json) as stage:
        run = partial(run_here, tell=stage) if cluster is None else ClusterCells(cluster, say)
        made = bench(matrix, output, run=run, retry=retry, tell=None if as_json else lambda text: show([text]))
    show(made_json(made) if as_json else made_lines(made))
    raise typer.Exit(0 if made.passed else 1)


@bench_app.command()
def compare(
    a: Annotated[str, typer.Argument(help="Folder of a matrix; FOLDER#BACKEND, FOLDER#MODEL.", show_default=False)],
    b: Annotated[str, typer.Argument(help="The other; ratios are of this one over the first.", show_default=False)],
    limit: Annotated[
        float | None, typer.Option("--max-ratio", help="Of step times: beyond it for certain is exit code 1.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ratios of two runs, cell by cell, with intervals. Exit code 1 if cells could not be compared."""
    from porting.bench.compare import compare as run
    from porting.bench.compare_text import comparison_lines

    found = run(a, b, limit=limit)
    show(found.to_json() if as_json else comparison_lines(found))
    raise typer.Exit(0 if found.passed else 1)
