"""The commands of training, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from porting.cli_options import Json, Quiet
from porting.terminal import show, steps

commands = typer.Typer()


@commands.command("finetune")
def finetune_model(
    model: Annotated[str | None, typer.Argument(help="A model (port models list) or a published size.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder; a run in it is gone on with.")] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="cola, sst-2, mrpc, qqp, mnli, qnli, rte, wnli, sts-b, tnews.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Weights in any format and dialect; without, drawn.")
    ] = None,
    model_config: Annotated[
        Path | None, typer.Option("--model-config", help="Default: of the size, or beside the checkpoint.")
    ] = None,
    train: Annotated[
        list[Path] | None, typer.Option("--train", help="TFRecord files, as `port data glue` writes them.")
    ] = None,
    evaluate: Annotated[
        list[Path] | None, typer.Option("--eval", help="The same; the first decides which weights are best.")
    ] = None,
    schema: Annotated[Path | None, typer.Option("--schema", help="Default: schema.json beside the records.")] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="FRAMEWORK:DEVICE, or cpu (default), gpu, npu.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Of activations: float32 (default), float16, bfloat16.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="bert, roberta, xlnet, tinybert, tinybert-mindspore, adamw, FILE.json; default: the model's.",
        ),
    ] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Default: the recipe's.")] = None,
    max_steps: Annotated[int | None, typer.Option("--steps", help="In all, in place of epochs.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Of each device. Default: the recipe's.")
    ] = None,
    eval_batch_size: Annotated[int | None, typer.Option("--eval-batch-size", help="Default: 32.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="The peak. Default: the recipe's.")
    ] = None,
    warmup: Annotated[
        float | None, typer.Option("--warmup", help="Steps, or below 1 their share. Default: the recipe's.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", help="Default: the recipe's.")] = None,
    loss_scale: Annotated[
        str | None, typer.Option("--loss-scale", help="none (default), a number, dynamic, dynamic:START.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of new weights, order and dropout. Default: 0.")] = None,
    dropout: Annotated[str | None, typer.Option("--dropout", help="shared (default), own, off.")] = None,
    save_steps: Annotated[
        int | None, typer.Option("--save-steps", help="Between states; 0 (default): each epoch's end.")
    ] = None,
    max_ckpt_num: Annotated[
        int | None, typer.Option("--max-ckpt-num", help="States that are kept. Default: 1.")
    ] = None,
    eval_steps: Annotated[
        int | None, typer.Option("--eval-steps", help="Between evaluations; 0 (default): each epoch's end.")
    ] = None,
    log_steps: Annotated[
        int | None, typer.Option("--log-steps", help="Between lines of train.log. Default: 1.")
    ] = None,
    export: Annotated[
        str | None, typer.Option("--export", help="Of safetensors,ckpt,onnx,mindir: the best weights.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML or JSON file of these options; flags win.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a classifier or a regression by the original's recipe, and keep the best weights."""
    from porting.train.finetune import Run, finetune
    from porting.train.finetune_text import finetuned_lines
    from porting.train.options import merged, read_options
    from porting.train.parallel import world

    flags = {
        "model": model, "output": output, "task": task, "checkpoint": checkpoint, "model_config": model_config,
        "train": train, "eval": evaluate, "schema": schema, "backend": backend, "dtype": dtype, "recipe": recipe,
        "epochs": epochs, "steps": max_steps, "batch_size": batch_size, "eval_batch_size": eval_batch_size,
        "learning_rate": learning_rate, "warmup": warmup, "weight_decay": weight_decay, "loss_scale": loss_scale,
        "seed": seed, "dropout": dropout, "save_steps": save_steps, "max_ckpt_num": max_ckpt_num,
        "eval_steps": eval_steps, "log_steps": log_steps, "export": export,
    }  # fmt: skip
    run = Run.of(merged(read_options(config) if config else {}, flags))
    quiet = quiet or not world().leads
    with steps(f"{run.model} on {run.task}", quiet=quiet or as_json) as report:
        found = finetune(run, progress=report)
    if as_json and world().leads:
        show(found.to_json())
    elif not quiet:
        show(finetuned_lines(found))
