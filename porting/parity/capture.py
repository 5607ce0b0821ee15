"""A capture: what one run on one backend produced, as a folder of open formats.

    DIR/manifest.json        this module's Manifest; written last, so a folder without it is no capture
    DIR/tensors-00000.safetensors …   whole tensors, about 256 MB a file, named SECTION/NAME (no section has a slash)
    DIR/summaries.jsonl      a Summary per tensor, in the order of computation
    DIR/steps.jsonl          a line per training step: step, loss, lr, grad_norm, loss_scale, overflow, seconds, batch

Sections: `weights`, `forward` (free-running taps), `forced` (taps computed from the other side's inputs), `gradients`,
`step.weights`, `step.m`, `step.v`.

Everything is written under `.DIR.PID.part` and renamed when it is whole, so a run that was killed leaves nothing that
can be taken for a capture, and running again works. The manifest has a hash over itself and hashes of the other files,
the summaries those of the tensors; `read_capture` refuses what was edited or cut short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

VERSION = 1

Section = Literal["weights", "forward", "forced", "gradients", "step.weights", "step.m", "step.v"]


@dataclass(frozen=True, slots=True)
class Summary:
    """One tensor in a few numbers.

    hash: xxh3_128 of the bytes in row-major order. l2, largest (max |x|), mean: over finite elements, in float64.
    sketch: a count sketch of 1021 float32 buckets, signs and buckets drawn from the element's index alone, so that the
    l2 norm of the difference of two tensors is estimated by that of their sketches (`porting.parity.sketch`);
    base64 of little-endian float32, empty where the whole tensor is stored. stored: whether it is.
    """

    section: Section
    name: str
    shape: tuple[int, ...]
    dtype: str
    hash: str
    l2: float
    largest: float
    mean: float
    nan: int = 0
    inf: int = 0
    stored: bool = False
    sketch: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where a capture comes from.

    model: spec's name, or the user's; config: its values; build: task, mode, compute, labels, dropout, extra.
    backend: as it was asked for; framework, device: what it came to; emulated: `` or the emulated arithmetic
    (`float16 saturate`). versions: of framework, Python, driver, CANN. switches: precision and determinism, as set.
    weights: hash over names and bytes in the family's first dialect, before anything was permuted, so that captures of
    different frameworks agree on it. batch: hash over names, shapes and bytes of the features. recipe: its values.
    code: hash of the port's and the kit's sources. taps: in the order of computation. replica: seed of the
    function-preserving permutation, None without. forced_by: content hash of the capture whose taps were given.
    state: `crashed` says that the run ended early, and reason why.
    files: hashes of the others by name, of a file of tensors that of its header; content: hash over names, shapes,
    dtypes and bytes of all tensors, in order, whether they are stored or not. Both are filled in by the writer.
    """

    model: str
    config: Mapping[str, Any]
    build: Mapping[str, Any]
    backend: str
    framework: str
    device: str
    emulated: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, str] = field(default_factory=dict)
    weights: str = ""
    batch: str = ""
    recipe: Mapping[str, Any] | None = None
    code: str = ""
    taps: tuple[str, ...] = ()
    replica: int | None = None
    forced_by: str = ""
    state: Literal["whole", "crashed"] = "whole"
    reason: str = ""
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    content: str = ""
    version: int = VERSION
