"""The commands of acceptance, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from porting.cli_options import Json
from porting.terminal import show

commands = typer.Typer()

Evidence = (
    "A log (FILE#RUN for one of its runs), a folder of logs, a capture, the folder of `port parity`; predictions."
)


@commands.command()
def accept(
    source: Annotated[list[str], typer.Option("--source", help=Evidence, show_default=False)],
    target: Annotated[list[str], typer.Option("--target", help="The same of the port.", show_default=False)],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the report.", show_default=False)],
    criteria: Annotated[
        str,
        typer.Option(
            "--criteria", help="A rule to show beside: mindformers, msprobe, verl, mindspeed, modelzoo, FILE.toml."
        ),
    ] = "calibrated",
    source_step_ms: Annotated[
        float | None, typer.Option("--source-step-ms", help="Milliseconds of a step, in place of what was recorded.")
    ] = None,
    target_step_ms: Annotated[float | None, typer.Option("--target-step-ms", help="The same of the target.")] = None,
    speed: Annotated[
        float | None, typer.Option("--max-ratio", help="Step time, target over source, at most; yours to set.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="How far a metric may be off, in its own unit. Default: 0.005.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Labels of the examples, for predictions that have none.")
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help="Language of the report: en or zh.")] = "en",
    sign: Annotated[Path | None, typer.Option("--sign", help="OpenSSH key that signs the report.")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="A previous report: what is worse now is no pass.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    as_json: Json = False,
) -> None:
    """Judge a migration by captures or logs of both sides, and write the report that someone signs. 1 if no pass."""
    from porting.acceptance.accept import accept as run
    from porting.acceptance.signature import key_of
    from porting.report.json import read_report
    from porting.report.text import text_lines
    from porting.report.words import words_in
    from porting.report.write import free, write_report

    words = words_in(lang)
    free(output.absolute(), overwrite=overwrite)
    key = key_of(sign) if sign else None
    found = run(
        source, target, criteria=criteria, source_step_ms=source_step_ms, target_step_ms=target_step_ms,
        speed=speed, margin=margin, labels=labels, against=against,
    )  # fmt: skip
    place = write_report(found, output, words=words, key=key, overwrite=overwrite)
    show(read_report(place) if as_json else [*text_lines(found, words), "", str(place / "report.html")])
    raise typer.Exit(0 if found.passed else 1)


@commands.command()
def logs(
    files: Annotated[
        list[Path], typer.Argument(help="Logs, CSV tables, trainer_state.json, event files.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Show what is read from logs of training: series with their resolution, metrics, events, limits."""
    from porting.logs.read import read_logs
    from porting.logs.text import log_json, log_lines

    found = [run for file in files for run in read_logs(file)]
    if as_json:
        show({"runs": [log_json(run) for run in found]})
    else:
        show([line for run in found for line in log_lines(run)])


def verify_report(
    report: Path, source: Path | None, target: Path | None, signers: Path | None, *, as_json: bool, quiet: bool
) -> NoReturn:
    """What `port verify` does with a report."""
    from dataclasses import asdict

    from porting.acceptance.verify import verify_report as run
    from porting.report.text import checked_lines

    checked = run(report, source=source, target=target, signers=signers)
    if as_json:
        typer.echo(json.dumps({**asdict(checked), "holds": checked.holds}, default=str, indent=1))
    elif not quiet:
        show(list(checked_lines(checked)))
    raise typer.Exit(0 if checked.holds else 1)
