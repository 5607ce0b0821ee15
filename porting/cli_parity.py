"""The commands of parity, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

import json
from pathlib import Path
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


@commands.command("map")
def map_names(
    a: Annotated[Path, typer.Argument(help="A capture: the source.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="A capture of the same model elsewhere: the target.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a TOML file, to correct and to compare with.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Propose which tap and which weight of one capture is which of another. Exit code 1 if something stays open."""
    from porting.parity.mapping_file import write_mapping
    from porting.parity.mapping_text import mapping_json, mapping_lines
    from porting.parity.matching.propose import propose_mapping
    from porting.parity.reader import read_capture

    found = propose_mapping(read_capture(a), read_capture(b))
    if output is not None:
        write_mapping(found, output, overwrite=overwrite)
    lines = [json.dumps(mapping_json(found), indent=1)] if as_json else list(map(readable, mapping_lines(found)))
    typer.echo("\n".join(lines))
    raise typer.Exit(0 if found.settled else 1)


@commands.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A capture: the source.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="A capture of the same model elsewhere: the target.", show_default=False)],
    floor: Annotated[
        Path | None, typer.Option("--floor", help="Noise floor of the source; without one nothing passes.")
    ] = None,
    truth: Annotated[Path | None, typer.Option("--truth", help="Capture of the source's model in float64.")] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Capture of the source at the target's precision.")
    ] = None,
    criteria: Annotated[
        str,
        typer.Option(
            "--criteria", help="A rule to show beside: mindformers, msprobe, verl, mindspeed, modelzoo, FILE.toml."
        ),
    ] = "calibrated",
    mapping: Annotated[Path | None, typer.Option("--mapping", help="Names and axes, from `port map -o FILE`.")] = None,
    core: Annotated[bool, typer.Option("--core", help="Leave out cosine, mean and p95, ULP and KL.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two captures level by level. Exit code 1 if anything is not a pass."""
    from porting.parity.compare import compare_folders
    from porting.parity.compare_text import show_comparison

    found = compare_folders(
        a, b, floor=floor, truth=truth, reference=reference, criteria=criteria, mapping=mapping, core=core
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
    else:
        show_comparison(found)
    raise typer.Exit(0 if found.passed else 1)
