"""The commands `port data …`, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from porting.cli_options import Json, Quiet
from porting.terminal import progress, show

commands = typer.Typer(help="Tokens, records, pre-training text, rank tables.", no_args_is_help=True)


@commands.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A TFRecord or MindRecord file.", show_default=False)],
    schema: Annotated[Path | None, typer.Option("--schema", help="A schema.json that every record must fit.")] = None,
    as_json: Json = False,
) -> None:
    """Read a record file to its end and show what it holds. Exit code 1 if records contradict."""
    from porting.data.inspection import inspect_records, inspection_lines

    found = inspect_records(file, schema=schema)
    show(found.to_json() if as_json else inspection_lines(found))
    raise typer.Exit(1 if found.problems else 0)


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
Vocab = Annotated[Path | None, typer.Option("--vocab", help="BERT's vocab.txt, or RoBERTa's vocab.json.")]
Merges = Annotated[Path | None, typer.Option("--merges", help="RoBERTa's merges.txt, if not beside its vocab.json.")]
Sentencepiece = Annotated[Path | None, typer.Option("--sentencepiece", help="XLNet's sentencepiece model.")]
Lower = Annotated[
    bool | None, typer.Option("--lower-case/--cased", help="Default: what the vocabulary is; XLNet's is cased.")
]
ModelConfig = Annotated[Path | None, typer.Option("--config", help="The model's config: its vocab_size is checked.")]
Length = Annotated[int, typer.Option("--max-seq-length", help="Tokens of a sequence, padding included.")]
Workers = Annotated[int | None, typer.Option("--workers", help="Processes; default: as the input is large, all cores.")]


@commands.command()
def glue(
    task: Annotated[str, typer.Argument(help="cola, sst-2, mrpc, qqp, mnli, qnli, rte, wnli, sts-b or tnews.")],
    sources: Annotated[list[Path], typer.Argument(help="Files (.tsv, .json), or folders that hold them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder, or a record file's name.")],
    vocab: Vocab = None,
    merges: Merges = None,
    sentencepiece: Sentencepiece = None,
    max_seq_length: Length = 128,
    lower: Lower = None,
    config: ModelConfig = None,
    split: Annotated[str | None, typer.Option("--split", help="train, dev or test, where names do not tell.")] = None,
    labels: Annotated[str, typer.Option("--labels", help="Labels in order, with commas, in place of the task's.")] = "",
    kind: Annotated[str, typer.Option("--format", help="tfrecord or mindrecord.")] = "tfrecord",
    quoted: Annotated[bool, typer.Option("--quoted", help="Fields are quoted as csv writers do.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a file with a row that cannot be used.")] = False,
    pad_to: Annotated[int, typer.Option("--pad-to", min=1, help="Fill the last batch of this size.")] = 1,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert GLUE's files, and others of their shape, to the records that run_classifier writes.

    The vocabulary decides the layout of sequences: BERT's, RoBERTa's or XLNet's.
    """
    from porting.data.glue import Request, account_lines, glue_to_records
    from porting.data.tasks import task_named
    from porting.data.tokenizing import tokens_of

    tokens = tokens_of(vocab, sentencepiece, merges=merges, lower=lower, config=config)
    request = Request(
        task_named(task, labels.split(",") if labels else ()), tokens, max_seq_length, split, kind, quoted, strict,
        pad_to, workers, overwrite,
    )  # fmt: skip
    with progress(f"{task} -> {output.name}", quiet=quiet or as_json) as report:
        accounts = glue_to_records(sources, output, request, progress=report)
    if as_json:
        typer.echo(json.dumps([account.to_json() for account in accounts], indent=1))
    elif not quiet:
        show(line for account in accounts for line in account_lines(account))


@commands.command()
def pretraining(
    sources: Annotated[list[Path], typer.Argument(help="Text or WikiExtractor's output: files, .bz2, folders.")],
    outputs: Annotated[list[Path], typer.Option("-o", "--output", help="A TFRecord file; several take turns.")],
    vocab: Vocab = None,
    max_seq_length: Length = 128,
    max_predictions: Annotated[int, typer.Option("--max-predictions", help="Masks of a sequence at most.")] = 20,
    masked_lm_prob: Annotated[float, typer.Option("--masked-lm-prob", help="Share of tokens that are masked.")] = 0.15,
    short_seq_prob: Annotated[float, typer.Option("--short-seq-prob", help="Share of documents cut shorter.")] = 0.1,
    dupe_factor: Annotated[int, typer.Option("--dupe-factor", help="Rounds, each with its own masks.")] = 10,
    whole_word: Annotated[bool, typer.Option("--whole-word", help="Mask all pieces of a word or none.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of all random draws.")] = 12345,
    compat: Annotated[
        bool, typer.Option("--compat", help="The very instances of BERT's script, in one process.")
    ] = False,
    lower: Lower = None,
    config: ModelConfig = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make masked-LM and next-sentence TFRecords from text, as create_pretraining_data does."""
    from porting.data.instances import Plan
    from porting.data.pretraining import Request, make_pretraining_data
    from porting.data.tokenizing import tokens_of

    plan = Plan(max_seq_length, max_predictions, masked_lm_prob, short_seq_prob, dupe_factor, whole_word)
    request = Request(tokens_of(vocab, None, lower=lower, config=config), plan, seed, compat, workers, overwrite)
    with progress(f"{sources[0].name} -> {outputs[0].name}", quiet=quiet or as_json) as report:
        account = make_pretraining_data(sources, outputs, request, progress=report)
    if as_json or not quiet:
        show(account.to_json() if as_json else account.lines())


ranks_commands = typer.Typer(help="Rank tables of HCCL.", no_args_is_help=True)
commands.add_typer(ranks_commands, name="ranks")


@ranks_commands.command("write")
def write_ranks(
    output: Annotated[Path, typer.Argument(help="The JSON file to write.", show_default=False)],
    servers: Annotated[
        list[str] | None, typer.Option("--server", help="SERVER/DEVICE=ADDRESS[=SUPER_DEVICE],… in order of ranks.")
    ] = None,
    hccn: Annotated[str | None, typer.Option("--this-server", help="Its address; devices by /etc/hccn.conf.")] = None,
    tables: Annotated[list[Path] | None, typer.Option("--join", help="A table whose devices come next.")] = None,
    pods: Annotated[list[str] | None, typer.Option("--pod", help="POD:SERVER,SERVER… for 1.2; default: one.")] = None,
    form: Annotated[str, typer.Option("--form", help="1.0, 1.2, or old (the TinyBERT guide's).")] = "1.0",
    overwrite: Overwrite = False,
) -> None:
    """Write a rank table from device ids and addresses."""
    from porting.data.rank_check import read_rank_table
    from porting.data.ranks import in_pods, parse_server, rank_table, read_hccn, write_rank_table

    devices = [device for text in servers or () for device in parse_server(text)]
    devices += read_hccn(Path("/etc/hccn.conf"), hccn) if hccn else []
    devices += [device for path in tables or () for device in read_rank_table(path).devices]
    table = rank_table(form, in_pods(devices, pods or ()))
    show([f"{write_rank_table(table, output, overwrite=overwrite)}: {len(table.devices)} ranks"])


@ranks_commands.command("check")
def check_ranks(file: Annotated[Path, typer.Argument(help="A rank table.", show_default=False)]) -> None:
    """Read a rank table in any of its forms and show its ranks; name what HCCL would not take."""
    from porting.data.rank_check import read_rank_table

    table = read_rank_table(file)
    ranks = enumerate(table.devices)
    show([
        f"{file}: form {table.form}, {len(table.devices)} ranks on {len(table.servers())} servers",
        *(f"  rank {rank}: server {device.server}, device {device.number}, {device.address}" for rank, device in ranks),
    ])  # fmt: skip


def run(command: str) -> None:
    """`port data COMMAND` with this process's arguments, for the scripts under tools/."""
    import sys

    from porting.cli import main

    sys.argv[1:1] = ["data", command]
    main()
