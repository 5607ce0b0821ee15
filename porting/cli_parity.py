"""The commands of parity, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from porting.errors import readable

commands = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@commands.command()
def doctor(as_json: Json = False) -> None:
    """Show which backends can be used here, with versions and switches, and why the others cannot."""
    from porting.backends.doctor import examine
    from porting.backends.doctor_text import examination_lines

    found = examine()
    lines = [json.dumps(found.to_json(), indent=1)] if as_json else map(readable, examination_lines(found))
    typer.echo("\n".join(lines))
