"""The `port` command: which module has the command that is asked for. Only that one is imported."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from porting.errors import INTERRUPTED, Interrupted, PortError
from porting.terminal import fail

if TYPE_CHECKING:
    import typer
    from typer.models import CommandInfo


class Part(NamedTuple):
    """A Typer app that `port` mounts.

    app: where it stands, `module:name`. words: its commands. group: their common first word; empty if they have none.
    """

    app: str
    words: tuple[str, ...] = ()
    group: str = ""


PARTS = (
    Part("porting.cli_convert:commands", ("convert", "verify", "inspect", "diff", "demo")),
    Part("porting.cli_parity:commands", ("doctor", "map", "compare", "capture", "parity", "diagnose")),
    Part("porting.cli_acceptance:commands", ("accept", "logs")),
    Part("porting.cli_bench:commands", ("monitor",)),
    Part("porting.cli_train:commands", ("finetune",)),
    Part("porting.cli_registry:families_app", group="families"),
    Part("porting.cli_registry:models_app", group="models"),
    Part("porting.cli_bench:bench_app", group="bench"),
    Part("porting.cli_data:commands", group="data"),
    Part("porting.cli_distill:commands", group="distill"),
)


def _port() -> None:
    """Moves models between TensorFlow, PyTorch, MindSpore and ONNX, and proves that the port is right."""


def app_for(words: Sequence[str] | None = None) -> typer.Typer:
    """The app with the command that the first word names, with all commands, or, if it names none, only listing them.

    Typer makes the options of all that an app holds, and each module is one more to import: options that nobody will
    see would take a third of the time of `port --help`.
    """
    import typer

    first = words[0] if words else ""
    asked = [part for part in PARTS if first and (first in part.words or first == part.group)]
    listed = words is not None and not asked
    app = typer.Typer(
        name="port", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
    )
    app.callback()(_port)
    for part in asked or PARTS:
        module, _, name = part.app.partition(":")
        mounted: typer.Typer = getattr(import_module(module), name)
        if listed:
            _list(app, part, mounted)
        elif part.group:
            app.add_typer(mounted, name=part.group)
        else:
            app.registered_commands += [
                one for one in mounted.registered_commands if not asked or word_of(one) == first
            ]
    return app


def _list(app: typer.Typer, part: Part, mounted: typer.Typer) -> None:
    """Have the app show a part's commands, without options, as nobody can run them from there."""
    from inspect import getdoc  # Typer has imported it

    if part.group:
        app.command(part.group, help=mounted.info.help)(_not_run)
    for one in () if part.group else mounted.registered_commands:
        app.command(word_of(one), help=one.help or getdoc(one.callback))(_not_run)


def _not_run() -> None:
    raise AssertionError("a command that is only listed was run")


def word_of(command: CommandInfo) -> str:
    """What a command is called: by its own name, else by its function's."""
    return command.name or (command.callback.__name__ if command.callback else "")


def _spelled_out(words: list[str]) -> list[str]:
    """`port bench --models …` is short for `port bench run --models …`; a `--` before the command says nothing."""
    while words[:1] == ["--"]:
        words = words[1:]
    short = words[:1] == ["bench"] and words[1:2] != ["--help"] and words[1:2] and words[1].startswith("-")
    return ["bench", "run", *words[1:]] if short else words


def main() -> None:
    """Run the command. A user's mistake is one line and exit code 2; a bug keeps its traceback."""
    gc.set_threshold(200_000)  # imports and plans make many objects and no garbage
    try:
        words = _spelled_out(sys.argv[1:])
        app_for(words)(words, prog_name="port")
    except PortError as error:
        fail(str(error))
        sys.exit(INTERRUPTED if isinstance(error, Interrupted) else 2)
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        fail("interrupted; nothing was left behind")  # of a KeyboardInterrupt Typer has shown nothing
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    finally:
        gc.freeze()  # nothing is left to be found among what lives until the end


if __name__ == "__main__":
    main()
