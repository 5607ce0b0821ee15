"""The commands `port data …`, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from porting.errors import readable

commands = typer.Typer(help="Tokens, records, pre-training text, rank tables.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@commands.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A TFRecord or MindRecord file.", show_default=False)],
    schema: Annotated[Path | None, typer.Option("--schema", help="A schema.json that every record must fit.")] = None,
    as_json: Json = False,
) -> None:
    """Read a record file to its end and show what it holds. Exit code 1 if records contradict."""
    from porting.data.inspection import inspect_records, inspection_lines

    found = inspect_records(file, schema=schema)
    lines = [json.dumps(found.to_json(), indent=1)] if as_json else map(readable, inspection_lines(found))
    typer.echo("\n".join(lines))
    raise typer.Exit(1 if found.problems else 0)
