"""`port finetune`: a classifier or a regression trained from a checkpoint, in a process of its own, and exported.

What a run leaves in its folder is in docs/train.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

from porting.backends.found import Resolved, usable
from porting.backends.names import BackendName
from porting.checkpoint.output import write_json
from porting.convert.config import find_config
from porting.convert.registry import family_named
from porting.data.tasks import Task, task_named
from porting.errors import Interrupted, UsageError
from porting.model.dropout import Mode
from porting.model.registry import models
from porting.model.spec import Compute
from porting.parity.subject import Subject, subject
from porting.train.examples import labels_of
from porting.train.export import check_formats
from porting.train.options import flag, required

if TYPE_CHECKING:
    from porting.terminal import Stepped

RESULT = "result.json"
"""What `--json` shows, kept in the folder."""

QUIET = 3600.0
"""Seconds without a step after which a run counts as hanging: MindSpore compiles a large model for minutes."""


@dataclass(frozen=True, slots=True)
class Run:
    """A fine-tuning run. None: as the recipe's original has it, or as `port finetune --help` says.

    model: a spec or a published size. task: of GLUE. train, eval: record files; the first to evaluate on decides which
    weights are the best. warmup: steps, or below 1 their share. steps: in all, in place of epochs.
    dropout: `shared` masks are drawn from the step's number, so that a run that goes on is the same to the bit; `own`
    are the framework's, faster and not so. eval_steps, save_steps: 0 for each epoch's end.
    """

    model: str
    task: str
    train: tuple[str, ...]
    output: str
    eval: tuple[str, ...] = ()
    checkpoint: str | None = None
    model_config: str | None = None
    schema: str | None = None
    backend: str = "cpu"
    dtype: str = "float32"
    recipe: str | None = None
    epochs: float | None = None
    steps: int | None = None
    batch_size: int | None = None
    eval_batch_size: int = 32
    learning_rate: float | None = None
    warmup: float | None = None
    weight_decay: float | None = None
    loss_scale: str = "none"
    seed: int = 0
    dropout: str = "shared"
    save_steps: int = 0
    max_ckpt_num: int = 1
    eval_steps: int = 0
    log_steps: int = 1
    export: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises: UsageError naming the option that makes no sense."""
        least = {"steps": 1, "batch_size": 1, "eval_batch_size": 1, "seed": 0, "save_steps": 0, "eval_steps": 0}
        least |= {"max_ckpt_num": 1, "log_steps": 1, "warmup": 0, "weight_decay": 0, "learning_rate": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise UsageError(f"{flag(name)}: wanted at least {low}, got {value}")
        if self.epochs is not None and not self.epochs > 0:
            raise UsageError(f"--epochs: wanted more than 0, got {self.epochs}")
        if self.epochs is not None and self.steps is not None:
            raise UsageError("--epochs, --steps: wanted one of both")
        for name, known in (("dropout", get_args(Mode)), ("dtype", get_args(Compute))):
            if getattr(self, name) not in known:
                raise UsageError(f"{flag(name)} {getattr(self, name)}: wanted one of {', '.join(known)}")
        check_formats(self.export)
        task_named(self.task)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Run:
        """From options by name. Raises: UsageError for one that is missing or of another kind."""
        required(options, "model", "task", "train", "output")
        return cls(**{one.name: _kept(one.name, str(one.type), options[one.name])
                      for one in fields(cls) if options.get(one.name) is not None})  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Run:
        """From what `to_json` gave."""
        return cls.of(values)

    @property
    def glue(self) -> Task:
        """The task."""
        return task_named(self.task)

    @property
    def subject(self) -> Subject:
        """The model with its checkpoint. Raises: UsageError, FormatError, MismatchError."""
        if self.checkpoint is None and self.model_config is None and self.model in models():
            raise UsageError(f"{self.model}: wanted --checkpoint, --model-config or a published size ({self.model}-…)")
        glue, spec = self.glue, models().get(self.model)
        if self.checkpoint and self.model_config is None and spec is not None:
            place = Path(self.checkpoint)
            if find_config(family_named(spec.family), place, None).path is None:
                text = (
                    "no config beside it, and shapes do not tell heads or activation: wanted --model-config, or a size"
                )
                raise UsageError(f"{place}: {text} ({self.model}-…)")
        return subject(
            self.model,
            config=self.model_config,
            checkpoint=self.checkpoint,
            task="regression" if glue.regression else "classification",
            labels=labels_of(glue, [Path(file) for file in self.train]),
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What a run has come to: JSON values of porting.train.finetune_job, and the files that were exported."""

    result: Mapping[str, Any]
    exports: Sequence[tuple[str, Path | str]] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        from porting.train.export import as_json

        return {**self.result, "exports": as_json(self.exports)}


def finetune(run: Run, *, progress: Stepped | None = None) -> Finetuned:
    """Train, from the newest state in the folder if there is one, and export the best weights.

    Raises: UsageError, FormatError, MismatchError for what is asked wrongly, before the first step; Interrupted after
    Ctrl-C. Older states stay whole in any case.
    """
    from porting.backends.process import call
    from porting.train.parallel import schedule, world

    schedule()
    found = _resolved(run.backend)
    folder = Path(run.output).absolute()
    settled = run.subject

    def told(values: Mapping[str, Any]) -> None:
        if progress is not None:
            progress(values["step"], values["steps"], values["said"])

    job = {"verb": "porting.train.finetune_job:finetune", "run": _absolute(run).to_json(), "subject": settled.to_json()}
    job |= {"backend": str(found.backend), "emulated": found.emulated, "reason": found.reason}
    try:
        with TemporaryDirectory(prefix="port-finetune-") as scratch:  # where MindSpore leaves what it compiles
            done = call(found.backend, job, timeout=QUIET, folder=Path(scratch), progress=told, renewed=True)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; states in {folder} are whole, and the same command goes on") from None
    if done.state == "crashed":
        here = world()
        place = f"rank {here.rank} of {here.size}, " if here.size > 1 else ""
        raise UsageError(f"{place}{found.backend}: {done.reason}", *(f"  {line}" for line in done.tail))
    if not world().leads:
        return Finetuned(done.result)
    trained = Finetuned(done.result, _exported(run, settled, found, folder))
    write_json(folder / RESULT, trained.to_json())
    return trained


def _exported(run: Run, settled: Subject, found: Resolved, folder: Path) -> list[tuple[str, Path | str]]:
    """The best weights in the formats that are asked for; the last ones, where nothing was evaluated."""
    from porting.train.best import best_weights
    from porting.train.export import export
    from porting.train.state import read_state, states

    if not run.export:
        return []
    weights = best_weights(folder) if run.eval else read_state(states(folder)[-1]).weights
    spec = settled.spec
    return export(
        weights, spec, settled.configured(), settled.build(), source_dialect=spec.dialects[found.backend.port],
        folder=folder / "export", stem=spec.name, formats=run.export,
    )  # fmt: skip


def _resolved(name: str) -> Resolved:
    backend = BackendName.parse(name)
    if backend.framework == "onnxruntime":
        raise UsageError(f"--backend {name}: an ONNX graph is run forward only: wanted torch, tensorflow or mindspore")
    if backend.interpreter:
        raise UsageError(f"--backend {name}: training in a named interpreter is not supported")
    return usable(backend)


def _absolute(run: Run) -> Run:
    """The same with absolute paths: the process works in another folder."""
    changed: dict[str, Any] = {}
    for name in ("checkpoint", "model_config", "schema", "output"):
        if (value := getattr(run, name)) is not None:
            changed[name] = str(Path(value).absolute())
    for name in ("train", "eval"):
        changed[name] = tuple(str(Path(one).absolute()) for one in getattr(run, name))
    if run.recipe and run.recipe.endswith(".json"):
        changed["recipe"] = str(Path(run.recipe).absolute())
    return replace(run, **changed)


def _kept(name: str, kind: str, value: Any) -> Any:
    """A value of an option's kind. Raises: UsageError."""
    if kind.startswith("tuple"):
        items = value.split(",") if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(one, str | Path) for one in items):
            return tuple(map(str, items))
        raise UsageError(f"{flag(name)}: wanted a list of names, got {value}")
    plain = kind.removesuffix(" | None")
    if plain == "str" and isinstance(value, str | Path | int | float) and not isinstance(value, bool):
        return str(value)
    if plain == "int" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if plain == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    wanted = {"str": "a text", "int": "a whole number", "float": "a number"}[plain]
    raise UsageError(f"{flag(name)}: wanted {wanted}, got {value!r}")
