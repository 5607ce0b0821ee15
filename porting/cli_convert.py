"""The commands of conversion, which `port` mounts. Every body calls one function and shows what it returns.

Annotations are values in this file, not text: Typer looks at them four times, and would evaluate each as often.
"""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from porting.cli_options import Json, Quiet
from porting.errors import UsageError
from porting.terminal import progress, say, show, stages

commands = typer.Typer()

Source = Annotated[
    Path, typer.Argument(help="Checkpoint: a file, a folder, or a TensorFlow prefix.", show_default=False)
]
FamilyName = Annotated[str | None, typer.Option("--family", help="Model family, where names alone do not tell.")]
DialectName = Annotated[
    str | None, typer.Option("--from", help="Dialect of the source, where names alone do not tell.")
]
SourceFormat = Annotated[
    str | None, typer.Option("--source-format", help="Format of the source, where content does not tell.")
]
ConfigFile = Annotated[str | None, typer.Option("--config", help="Config to check against; `none` to look for none.")]


@commands.command()
def convert(
    direction: Annotated[str, typer.Argument(help="tf2ms, ms2tf, tf2pt, pt2tf, pt2ms, ms2pt, or any with --to.")],
    source: Source,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: STEM.DIALECT.EXT beside the source.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Target dialect.")] = None,
    family: FamilyName = None,
    source_dialect: DialectName = None,
    source_format: SourceFormat = None,
    config: ConfigFile = None,
    output_format: Annotated[str | None, typer.Option("--format", help="Format of the output.")] = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", help="What the encoder's names begin with in the output.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="Checkpoint whose names, not values, are followed.")
    ] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Layers to keep, renumbered: 0-2 or 3,7,11.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="Round floating tensors to this dtype.")] = None,
    with_optimizer: Annotated[bool, typer.Option("--with-optimizer", help="Carry the optimizer's state over.")] = False,
    optimizer: Annotated[
        Path | None, typer.Option("--optimizer", help="PyTorch optimizer file beside the model.")
    ] = None,
    allow_missing: Annotated[
        list[str] | None, typer.Option("--allow-missing", help="Names or patterns that may be missing.")
    ] = None,
    allow_unexpected: Annotated[
        list[str] | None, typer.Option("--allow-unexpected", help="Names or patterns that may be left out.")
    ] = None,
    require: Annotated[
        list[str] | None, typer.Option("--require", help="Groups that have to be there (mlm, pooler …).")
    ] = None,
    variables: Annotated[
        list[str] | None, typer.Option("--set", help="Value of a free field of names: task=mnli.")
    ] = None,
    shard_size: Annotated[
        str | None, typer.Option("--shard-size", help="Largest size of one file: 500MB, 2GB.")
    ] = None,
    graph: Annotated[Path | None, typer.Option("--graph", help="ONNX model that the weights are written into.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the ledger, write nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Read back and compare hashes.")] = True,
    hash_name: Annotated[
        str, typer.Option("--hash", help="xxh3_128; sha256 of tensors and input files; none, with --no-verify.")
    ] = "xxh3_128",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that bring tensors over; for large checkpoints.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Ray's HOST:PORT: on its nodes, which all see the files.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a checkpoint to another framework's names, axes and format."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # else numpy starts threads that spin, and we are to be forked
    from porting.convert.convert import convert as run
    from porting.convert.summary import ledger_lines, parse_direction, parse_layers, parse_pairs, parse_size, summary

    framework, target = parse_direction(direction, to)
    with progress(f"{source.name} -> {target}", quiet=quiet or as_json) as report:
        ledger = run(
            source, output, to=target, source_framework=framework, source_format=source_format, family=family,
            source_dialect=source_dialect, config=config, format=output_format, prefix=prefix, like=like,
            layers=parse_layers(layers), dtype=dtype, with_optimizer=with_optimizer, optimizer=optimizer,
            allow_missing=allow_missing or (), allow_unexpected=allow_unexpected or (), require=require or (),
            variables=parse_pairs(variables), shard_size=parse_size(shard_size), graph=graph, dry_run=dry_run,
            verify=verify, hash=hash_name, overwrite=overwrite, workers=workers, cluster=cluster,
            fork=True, tell=say, progress=report,
        )  # fmt: skip
    if as_json:
        typer.echo(ledger.to_json(), nl=False)
    elif not quiet:
        show([*(ledger_lines(ledger) if dry_run else []), *summary(ledger, dry_run=dry_run)])


@commands.command()
def verify(
    ledger: Annotated[
        Path,
        typer.Argument(help="OUTPUT.port.json of a conversion, or the report of an acceptance.", show_default=False),
    ],
    source: Annotated[Path | None, typer.Option("--source", help="Where the source is now.")] = None,
    target: Annotated[Path | None, typer.Option("--target", help="Where the output is now.")] = None,
    signers: Annotated[
        Path | None, typer.Option("--signers", help="OpenSSH's file of allowed signers: one of them signed the report.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show that a file is still the conversion of another, or a report that of its inputs. Exit code 1 if not."""
    from dataclasses import asdict

    from porting.convert.verify import verify as run
    from porting.report.json import is_report_file

    if is_report_file(ledger):
        from porting.cli_acceptance import verify_report

        verify_report(ledger, source, target, signers, as_json=as_json, quiet=quiet)
    if signers is not None:
        raise UsageError("--signers: a conversion's ledger is not signed, only the report of an acceptance is")
    result = run(ledger, source=source, target=target)
    if as_json:
        typer.echo(json.dumps({**asdict(result), "holds": result.holds}, default=str, indent=1))
    elif not quiet:
        verdict = "holds" if result.holds else "does not hold"
        show([*result.problems, f"{verdict}: {result.compared} tensors compared, {result.unhashed} without a hash"])
    raise typer.Exit(0 if result.holds else 1)


@commands.command()
def inspect(
    checkpoint: Source,
    family: FamilyName = None,
    dialect: DialectName = None,
    source_format: SourceFormat = None,
    config: ConfigFile = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Read the values: range, mean, NaN, infinities, zeros.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a checkpoint is and holds. Exit code 1 if it contradicts itself, its config or its family."""
    from porting.convert.inspect import inspect as run
    from porting.convert.inspect_text import inspection_lines

    found = run(checkpoint, family=family, source_dialect=dialect, format=source_format, config=config, stats=stats)
    show(found.to_json() if as_json else inspection_lines(found))
    raise typer.Exit(1 if found.problems else 0)


@commands.command()
def diff(
    a: Source,
    b: Annotated[Path, typer.Argument(help="The other checkpoint.", show_default=False)],
    family: FamilyName = None,
    dialect_a: Annotated[str | None, typer.Option("--from", help="Dialect of the first.")] = None,
    dialect_b: Annotated[str | None, typer.Option("--to", help="Dialect of the second.")] = None,
    config: ConfigFile = None,
    atol: Annotated[
        float | None, typer.Option("--atol", help="Absolute tolerance; without any, bits must be equal.")
    ] = None,
    rtol: Annotated[float | None, typer.Option("--rtol", help="Tolerance relative to the first.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare two checkpoints across formats and dialects. Exit code 1 if they differ."""
    from porting.convert.diff import diff as run
    from porting.convert.diff_text import difference_lines

    with progress(f"{a.name} / {b.name}", quiet=quiet or as_json) as report:
        found = run(
            a, b, family=family, dialect_a=dialect_a, dialect_b=dialect_b, config=config, atol=atol, rtol=rtol,
            progress=report,
        )  # fmt: skip
    if not quiet:
        show(found.to_json() if as_json else difference_lines(found))
    raise typer.Exit(0 if found.equal else 1)


@commands.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where its files go; made if it is not there.")] = Path("port-demo"),
    as_json: Json = False,
) -> None:
    """Make a small BERT checkpoint, convert it there and back, run it on two frameworks, and write the report.

    What wants a framework that is not installed is left out, and said.
    """
    from porting.convert.summary import demo_lines
    from porting.demo import demo as run
    from porting.demo_parity import demo_parity

    result = run(folder)
    if not as_json:
        typer.echo("\n".join(demo_lines(result)) + "\n")
    with stages("parity", quiet=as_json) as tell:
        shown = demo_parity(folder, tell)
    if as_json:
        proof = {"proved": result.proved, "compared": result.compared, "differing": result.differing}
        typer.echo(json.dumps({**proof, "parity": shown.passed}))
    else:
        show(shown.lines)
    raise typer.Exit(0 if result.proved and shown.passed is not False else 1)
