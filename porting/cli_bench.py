"""The commands of benchmarks, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from porting.errors import readable

commands = typer.Typer()


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
