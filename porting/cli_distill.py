"""The commands `port distill …`, which `port` mounts. Their options are those of porting.train.distill_options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from porting.terminal import show, steps
from porting.train.distill_options import Command, chosen, options_of
from porting.train.options import flag

commands = typer.Typer(help="Distillation of TinyBERT.", no_args_is_help=True)

_UNDERSCORES = {"token_normalize_func": lambda name: name.replace("_", "-")}
"""So that the flags may be spelled as in the guide of MindSpore's models."""

_ALIASES = {"output": ("-o", "--save-ckpt-path"), "save_ckpt_step": ("--save-checkpoint-step",)}
"""What the guide also says for an option."""


def _flags(command: Command) -> inspect.Signature:
    """A parameter for each option of a command, None where it is not given, and those of the command line itself."""
    kinds: dict[type, Any] = {bool: str}
    found = [_parameter("config", Path, "A file of options, TOML or JSON: those of the flags, by the same names.")]
    found += [_parameter(one.name, kinds.get(one.kind, one.kind), one.help) for one in options_of(command)]
    found += [_switch("as_json", "--json", "Print JSON instead of text."), _switch("quiet", "--quiet", "Only errors.")]
    return inspect.Signature(found)


def _parameter(name: str, kind: Any, text: str) -> inspect.Parameter:
    option = typer.Option(flag(name), *_ALIASES.get(name, ()), help=text, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _switch(name: str, spelled: str, text: str) -> inspect.Parameter:
    option = typer.Option(spelled, help=text)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])


def _mount(command: Command, body: Callable[..., None]) -> None:
    """Give a body the flags of its command, and the group the command."""
    signature = _flags(command)
    body.__signature__ = signature  # type: ignore[attr-defined] # which inspect and so Typer look for
    body.__annotations__ = {name: one.annotation for name, one in signature.parameters.items()}
    commands.command(command, context_settings=_UNDERSCORES)(body)


def _general(*, config: Path | None, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Distil a teacher's representations and attention scores on plain text, as run_general_distill.py does."""
    from porting.train.distill import distill_general

    options, silent = chosen("general", config, flags), quiet or as_json
    with steps("general distillation", quiet=silent) as stepped:
        done = distill_general(options, _tell(quiet=silent), stepped)
    if as_json:
        show(done.to_json())


def _task(*, config: Path | None, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Distil a fine-tuned teacher on its task, as run_task_distill.py does: phase 1, phase 2, or both."""
    from porting.train.distill import distill_task
    from porting.train.distill_judge import evaluate_student

    silent = quiet or as_json
    options, tell = chosen("task", config, flags), _tell(quiet=silent)
    if options["do_train"]:
        with steps("task distillation", quiet=silent) as stepped:
            found: Any = [done.to_json() for done in distill_task(options, tell, stepped)]
    else:
        found = evaluate_student(options, tell)
    if as_json:
        typer.echo(json.dumps(found, indent=1))


def _tell(*, quiet: bool) -> Callable[[str], None]:
    def tell(line: str) -> None:
        if not quiet:
            show([line])

    return tell


_mount("general", _general)
_mount("task", _task)
