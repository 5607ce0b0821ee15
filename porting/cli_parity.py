"""The commands of parity, which `port` mounts. Every body calls one function and shows what it returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from porting.cli_options import Json
from porting.terminal import say, show, stages

if TYPE_CHECKING:
    from porting.acceptance.train import Judged

commands = typer.Typer()


@commands.command()
def doctor(as_json: Json = False) -> None:
    """Show which backends can be used here, with versions and switches, and why the others cannot."""
    from porting.backends.doctor import examine
    from porting.backends.doctor_text import examination_lines

    found = examine()
    show(found.to_json() if as_json else examination_lines(found))


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
    show(mapping_json(found) if as_json else mapping_lines(found))
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
    core: Annotated[bool, typer.Option("--core", help="Leave out mean and p95, ULP and KL.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two captures level by level. Exit code 1 if anything is not a pass."""
    from porting.parity.compare import compare_folders
    from porting.parity.compare_text import show_comparison

    found = compare_folders(
        a, b, floor=floor, truth=truth, reference=reference, criteria=criteria, mapping=mapping, core=core
    )
    if as_json:
        show(found.to_json())
    else:
        show_comparison(found)
    raise typer.Exit(0 if found.passed else 1)


Model = Annotated[str, typer.Argument(help="A model (port models list) or a published size.", show_default=False)]
ModelOrEntry = Annotated[
    str,
    typer.Argument(
        help="A model, a published size, or FILE.py:FUNCTION, which an interpreter without the kit runs.",
        show_default=False,
    ),
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", help="Weights in any format and dialect. Default: the probe's.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Default: of the size, or beside the checkpoint; else a tiny one.")
]
TaskName = Annotated[str | None, typer.Option("--task", help="A task of the model.")]
Batch = Annotated[Path | None, typer.Option("--batch", help="Features, npz or safetensors. Default: the probe's.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the probe's weights and batch.")]
LevelNames = Annotated[str, typer.Option("--level", help="Levels, of L0,L2,L3,L4.")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="JSON file of a recipe. Default: the probe's; `none` trains nothing.")
]
DType = Annotated[str, typer.Option("--dtype", help="Of activations: float32, float16, bfloat16, float64.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that a process may take.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")]


@commands.command()
def capture(
    model: ModelOrEntry,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the capture.")],
    backend: Annotated[str, typer.Option("--backend", help="FRAMEWORK:DEVICE, or cpu, gpu, npu.")],
    checkpoint: Checkpoint = None,
    config: ConfigFile = None,
    task: TaskName = None,
    batch: Batch = None,
    seed: Seed = 0,
    level: LevelNames = "L0,L2,L3,L4",
    steps: Annotated[int, typer.Option("--steps", help="Training steps on the batch.")] = 2,
    recipe: RecipeName = None,
    dtype: DType = "float32",
    mode: Annotated[str, typer.Option("--mode", help="eager or graph.")] = "eager",
    whole: Annotated[
        bool, typer.Option("--whole/--summaries", help="Every tensor, or a line and a sketch of each.")
    ] = True,
    forced_by: Annotated[
        Path | None, typer.Option("--forced-by", help="Capture whose taps every module is given.")
    ] = None,
    require_device: Annotated[bool, typer.Option("--require-device", help="Never emulate.")] = False,
    timeout: Timeout = 1800.0,
    overwrite: Overwrite = False,
) -> None:
    """Record a model on one backend: taps, gradients, training steps. Exit code 1 if it crashed."""
    from porting.parity.entry import capture_own, is_entry
    from porting.parity.options import chosen_side
    from porting.parity.reader import read_capture
    from porting.parity.subject import subject

    if is_entry(model):
        place = capture_own(backend, model, batch, output=output, timeout=timeout, whole=whole, overwrite=overwrite)
    else:
        found = subject(model, config=config, checkpoint=checkpoint, task=task, batch=batch, seed=seed)
        side = chosen_side(found, backend, level, steps, recipe, dtype, mode, timeout, require_device=require_device)
        place = side.capture(output, whole=whole, forced_by=forced_by, overwrite=overwrite)
    made = read_capture(place)
    state = f"CRASHED: {made.manifest.reason}" if made.manifest.state == "crashed" else "whole"
    show([f"{output}: {len(made.summaries)} tensors, {len(list(made.steps))} steps, {state}"])
    raise typer.Exit(1 if made.manifest.state == "crashed" else 0)


@commands.command()
def parity(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    target: Annotated[str, typer.Option("--target", help="FRAMEWORK:DEVICE, or cpu, gpu, npu.")],
    source: Annotated[str, typer.Option("--source", help="Likewise.")] = "torch:cpu",
    checkpoint: Checkpoint = None,
    config: ConfigFile = None,
    task: TaskName = None,
    batch: Batch = None,
    seed: Seed = 0,
    level: LevelNames = "L0,L2,L3,L4",
    recipe: RecipeName = None,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the target's activations.")] = "float32",
    criteria: Annotated[str, typer.Option("--criteria", help="A rule to show beside, as in compare.")] = "calibrated",
    floor: Annotated[Path | None, typer.Option("--floor", help="A noise floor that was measured before.")] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", help="For the noise floor. Default: 3; of training 5 beside the run.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Train so many steps on both sides, and judge L5, L6.")] = 0,
    data: Annotated[
        Path | None, typer.Option("--data", help="File of features, whose examples are trained on.")
    ] = None,
    examples: Annotated[int | None, typer.Option("--batch-size", help="Examples of a step.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Runs with other orders of the data: 5 set the margin.")] = 0,
    plant: Annotated[list[str] | None, typer.Option("--plant", help="Mistakes whose detection is measured.")] = None,
    limit: Annotated[float | None, typer.Option("--max-ratio", help="Of step times, target over source.")] = None,
    require_device: Annotated[bool, typer.Option("--require-device", help="Never emulate.")] = False,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Ray's HOST:PORT: each side on a node with its kind of device.")
    ] = None,
    timeout: Timeout = 1800.0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Run the same batch through two backends and compare; with --steps, train. Exit code 1 if it is not a pass."""
    from porting.acceptance.command import train_both
    from porting.cluster.captures import captures_on
    from porting.parity.compare_text import show_comparison
    from porting.parity.measure_floor import REPLICAS
    from porting.parity.options import computed, levels_of, recipe_named
    from porting.parity.parity import parity as run
    from porting.parity.subject import subject

    captures = captures_on(cluster, steps=steps, tell=say)
    found = subject(
        model, config=config, checkpoint=checkpoint, task=task, batch=data or batch, seed=seed, examples=examples
    )
    with stages(f"{model}: {source} -> {target}", quiet=as_json) as tell:
        if steps:
            trained = train_both(
                found, source, target, output=output, steps=steps, compute=computed(dtype), criteria=criteria,
                recipe=recipe_named(found.spec, recipe) if recipe else None, replicas=replicas, seeds=seeds,
                plant=plant or (), limit=limit, require_device=require_device, timeout=timeout, overwrite=overwrite,
                tell=tell,
            )  # fmt: skip
            raise _shown(trained, as_json=as_json)
        result = run(
            found, source, target, output=output, compute=computed(dtype), recipe=recipe_named(found.spec, recipe),
            levels=levels_of(level), criteria=criteria, floor=floor,
            replicas=REPLICAS if replicas is None else replicas, require_device=require_device, timeout=timeout,
            overwrite=overwrite, tell=tell, captures=captures,
        )  # fmt: skip
    if as_json:
        show(result.to_json())
    else:
        show_comparison(result)
    emulated_pass = result.overall.emulated and result.overall.state.value == "PASS"
    raise typer.Exit(0 if result.passed or emulated_pass else 1)


def _shown(trained: Judged, *, as_json: bool) -> typer.Exit:
    """Print what training has shown; the exit."""
    from porting.acceptance.command import judged_lines

    show(trained.to_json() if as_json else judged_lines(trained))
    return typer.Exit(0 if trained.passed else 1)


@commands.command()
def diagnose(
    model: Model,
    target: Annotated[str, typer.Option("--target", help="FRAMEWORK:DEVICE, or cpu, gpu, npu.")],
    source: Annotated[str, typer.Option("--source", help="Likewise.")] = "torch:cpu",
    checkpoint: Checkpoint = None,
    config: ConfigFile = None,
    task: TaskName = None,
    batch: Batch = None,
    seed: Seed = 0,
    recipe: RecipeName = None,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the target's activations.")] = "float32",
    mode: Annotated[str, typer.Option("--mode", help="eager or graph.")] = "eager",
    require_device: Annotated[bool, typer.Option("--require-device", help="Never emulate.")] = False,
    timeout: Timeout = 1800.0,
    as_json: Json = False,
) -> None:
    """Find the first place that differs, and the known mistake that explains it. Exit code 1 if anything differs."""
    from porting.parity.diagnose_run import diagnose_backends
    from porting.parity.diagnosis_text import diagnosis_lines
    from porting.parity.options import computed, mode_named, recipe_named
    from porting.parity.subject import subject

    found = subject(model, config=config, checkpoint=checkpoint, task=task, batch=batch, seed=seed)
    with stages(f"{model}: {source} -> {target}", quiet=as_json) as tell:
        result = diagnose_backends(
            found, source, target, compute=computed(dtype), mode=mode_named(mode),
            recipe=recipe_named(found.spec, recipe), require_device=require_device, timeout=timeout, tell=tell,
        )  # fmt: skip
    show(result.to_json() if as_json else diagnosis_lines(result))
    raise typer.Exit(0 if result.agrees else 1)
