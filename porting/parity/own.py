"""Captures a model that the kit has never seen: every module's output, weights, gradients.

The framework is found from the object's class; none is imported that the process has not imported itself.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

from porting.backends.protocol import Array
from porting.backends.watch import Asked, Facts, Ran, Watched
from porting.errors import PortError, UsageError
from porting.parity.capture import Manifest, Section
from porting.parity.matching.elements import elements_hash, set_hash
from porting.parity.writer import CaptureWriter

_HOOKS = {
    "torch": ("torch.nn", "Module", "torch"),
    "mindspore": ("mindspore.nn", "Cell", "mindspore"),
    "keras": ("keras", "Layer", "tensorflow"),
    "onnx": ("onnx", "ModelProto", "onnxruntime"),
}
"""By framework: where its base class stands, the class, and the folder of porting/backends that has its hooks."""

INPUT = "input"
"""What the names of the batch's tensors begin with among the taps."""


def capture(  # noqa: PLR0913 - one keyword per thing that may be asked for
    module: Any,
    batch: Any,
    *,
    output: str | Path,
    taps: Iterable[str] | None = None,
    whole: bool = True,
    loss: Callable[[Any], Any] | str | None = None,
    gradients: bool = False,
    step: Any = None,
    overwrite: bool = False,
) -> Path:
    """Run a model of your own once and write what it computed into the folder `output`.

    module: a torch.nn.Module, a MindSpore Cell in PyNative mode, a Keras 3 model, or an ONNX model (a path, or a
    ModelProto), which runs as it stands: call `.eval()` where dropout should not act. batch: arrays or the framework's
    tensors; a mapping by name, a tuple by position, or one alone. taps: names of modules or shell patterns
    (`encoder.layer.*.attention`); all by default. whole: False keeps summaries and sketches only.
    loss: a function of the output, or the name of a part of it; its gradients are written where `gradients` is set.
    step: a torch.optim optimizer of the module's parameters; it makes one step, and the module has the new weights.

    Returns the folder. A tensor goes to the disk as soon as it is made, and is not held.
    If the model raises, what was captured stays, in a capture whose state is `crashed`, and the exception goes on. A
    module that was asked for and never ran makes the state `crashed` too, with the reason.

    Raises: UsageError for an object that cannot be hooked, a tap, a loss or an output folder that does not fit.

    >>> import tempfile, numpy, torch
    >>> import porting
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> batch = numpy.ones((3, 4), numpy.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = porting.capture(model, batch, output=f"{folder}/mine", loss=torch.sum, gradients=True)
    ...     porting.read_capture(made).manifest.taps
    ('input', '0', '1', '2', 'output', 'loss')
    """
    if (gradients or step is not None) and loss is None:
        raise UsageError("gradients and step want a loss: a function of the model's output, or a name in it")
    watched: Watched = _hooks(module).open_model(module, batch)
    modules, patterns = _asked(watched.facts.names, taps)
    asked = Asked(modules, loss, gradients, step)
    with CaptureWriter(Path(output), _manifest(watched.facts), whole=whole, overwrite=overwrite) as writer:
        kept = _Kept(writer)
        try:
            kept.batch(watched.inputs())
            kept.weights(watched.weights())
            ran = watched.run(asked, kept)
        except PortError:
            raise
        except Exception as error:
            writer.finish(**kept.found(), state="crashed", reason=_reason(error, kept))
            raise
        if ran.step is not None:
            writer.step(dict(ran.step))
        never = _never(watched.facts, patterns, ran)
        state = {"state": "crashed", "reason": "; ".join(never)} if never else {}
        notes = (*watched.facts.notes, *ran.notes, *_silent(modules, patterns, ran))
        return writer.finish(**kept.found(), **state, notes=notes)


def _hooks(module: Any) -> Any:
    """The module that hooks this object. Raises: UsageError for one of no known framework."""
    if isinstance(module, (str, Path)):
        return import_module("porting.backends.onnxruntime.hooks")
    owner = getattr(module, "__self__", module)  # mindspore.jit(cell) gives a method of the cell
    for home, name, folder in _HOOKS.values():
        loaded = sys.modules.get(home)
        base = getattr(loaded, name, None)
        if base is not None and isinstance(owner, base):
            return import_module(f"porting.backends.{folder}.hooks")
    kind = type(module)
    if kind.__module__.split(".")[0] in {"tensorflow", "tf_keras"}:
        raise UsageError(
            f"{kind.__name__}: a raw TensorFlow function or module has no layers to hook: pass the Keras 3 model that "
            "it calls, or return the tensors to compare from a keras.Model of your own"
        )
    raise UsageError(
        f"{kind.__module__}.{kind.__qualname__}: wanted a torch.nn.Module, a mindspore.nn.Cell, a keras.Model, or an "
        "ONNX model (a path, or a ModelProto)"
    )


def _asked(names: tuple[str, ...], taps: Iterable[str] | None) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """All modules to tap, and those of each pattern. Raises: UsageError naming what fits none, and what is near."""
    if taps is None:
        return frozenset(names), {}
    wanted = (taps,) if isinstance(taps, str) else tuple(taps)
    found = {
        pattern: frozenset({pattern} if pattern in names else (n for n in names if fnmatchcase(n, pattern)))
        for pattern in wanted
    }
    missing = [pattern for pattern, fitting in found.items() if not fitting]
    if missing or not found:
        near = [name for pattern in missing for name in get_close_matches(pattern, names, 3, 0.5)] or list(names[:8])
        raise UsageError(f"taps: no module {', '.join(missing) or 'is named'}; there are {', '.join(near)} …")
    return frozenset().union(*found.values()), found


@dataclass(slots=True)
class _Kept:
    """Hands tensors to the writer, and remembers of each no more than names and a hash."""

    writer: CaptureWriter
    taps: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, section: Section, name: str, array: Array) -> None:
        """Write one tensor; a name that comes twice in a section is NAME~2, a complex one its two parts."""
        if array.dtype.kind == "c":
            self(section, f"{name}.real", array.real)
            self(section, f"{name}.imag", array.imag)
            return
        self.seen[section, name] += 1
        count = self.seen[section, name]
        name = name if count == 1 else f"{name}~{count}"
        if section == "forward":
            self.taps.append(name)
        self.writer.add(section, name, array)

    def batch(self, tensors: Iterable[tuple[str, Array]]) -> None:
        """Write the inputs, as taps: a comparison shows that they are the same, whatever their axes."""
        hashes = []
        for name, array in tensors:
            hashes.append(elements_hash(array))
            self("forward", f"{INPUT}.{name}" if name else INPUT, array)
        self.hashes["batch"] = set_hash(hashes)

    def weights(self, tensors: Iterable[tuple[str, Array]]) -> None:
        """Write the weights. Counters and index tables (whole numbers) are one framework's own, and not hashed."""
        hashes = []
        for name, array in tensors:
            if array.dtype.kind not in "biu":
                hashes.append(elements_hash(array))
            self("weights", name, array)
        self.hashes["weights"] = set_hash(hashes)

    def found(self) -> dict[str, Any]:
        """What only the run could tell of the manifest."""
        return {"taps": tuple(self.taps), **self.hashes}


def _manifest(facts: Facts) -> Manifest:
    backend = f"{facts.framework}:{facts.device}"
    return Manifest(
        model=facts.model,
        config={},
        build={"task": "own", "compute": facts.compute, "training": facts.training},
        backend=backend,
        framework=facts.framework,
        device=facts.device,
        versions=facts.versions,
        switches=facts.switches,
    )


def _reason(error: Exception, kept: _Kept) -> str:
    """One line: what was raised, and the last tensor before it."""
    lines = str(error).strip().splitlines()
    after = f" after {kept.taps[-1]}" if kept.taps else ""
    return f"{type(error).__name__}{after}: {lines[0] if lines else 'no message'}"


def _never(facts: Facts, patterns: dict[str, frozenset[str]], ran: Ran) -> list[str]:
    """A line per pattern none of whose modules ran; a line if nothing at all did."""
    if not patterns:
        return [] if ran.fired else [f"none of the {len(facts.names)} modules ran: their hooks were never called"]
    return [
        f"{pattern}: its hook was never called: the module did not run, or ran inside another one's kernel"
        for pattern, modules in patterns.items()
        if not modules & ran.fired
    ]


def _silent(modules: frozenset[str], patterns: dict[str, frozenset[str]], ran: Ran) -> list[str]:
    """A note on what did not run and was not asked for by its own name: lists of modules, parts not used here."""
    idle = sorted(name for name in modules - ran.fired if name not in patterns)
    return [f"never ran: {', '.join(idle)}"] if idle else []
