"""The commands over what is installed: model families and models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from porting.cli_options import Json
from porting.terminal import show

families_app = typer.Typer(help="Model families: list them, start one, have rows proposed.", no_args_is_help=True)
models_app = typer.Typer(help="Models: what is ported, with which taps.", no_args_is_help=True)

Source = Annotated[
    Path, typer.Argument(help="Checkpoint: a file, a folder, or a TensorFlow prefix.", show_default=False)
]


@families_app.command("list")
def list_families(as_json: Json = False) -> None:
    """List the installed families with their dialects and groups."""
    from porting.convert.registry import families
    from porting.convert.summary import families_json, family_lines

    known = families()
    show(families_json(known) if as_json else family_lines(known))


@families_app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the family, and of the folder.", show_default=False)],
    folder: Annotated[Path, typer.Option("--in", help="Where the folder goes.")] = Path(),
) -> None:
    """Write a package with a table and its conformance test, ready to install."""
    from porting.convert.scaffold import new_family

    made = new_family(name, folder)
    show([f"{made}: a working family; pip install -e {made} && pytest {made}, then put your rows into its table"])


@families_app.command()
def suggest(
    a: Source,
    b: Annotated[Path, typer.Argument(help="The same model in another dialect.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Propose rows from two checkpoints of one model; what is ambiguous is marked, never guessed. Then exit code 1."""
    from porting.convert.suggest import suggest as run
    from porting.convert.suggest import suggestion_lines

    found = run(a, b)
    show(found.to_json() if as_json else suggestion_lines(found))
    raise typer.Exit(1 if found.ambiguous or found.only_a or found.only_b else 0)


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the installed models."""
    from porting.model.registry import models
    from porting.model.text import model_lines, spec_json

    known = models()
    show({name: spec_json(spec) for name, spec in known.items()} if as_json else model_lines(known))


@models_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Name of a model.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a model's spec: tasks, features, taps, sizes, known traps."""
    from porting.model.registry import model_named
    from porting.model.text import spec_json, spec_lines

    spec = model_named(name)
    show(spec_json(spec) if as_json else spec_lines(spec))
