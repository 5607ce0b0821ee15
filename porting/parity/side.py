"""One side of a comparison: a subject on a backend, captured in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from porting.backends.found import Resolved
from porting.backends.process import call
from porting.model.recipe import Recipe
from porting.model.spec import Compute
from porting.parity.capture import Manifest
from porting.parity.state import Level
from porting.parity.subject import Subject
from porting.parity.writer import CaptureWriter

CAPTURED = (Level.WEIGHTS, Level.FORWARD, Level.BACKWARD, Level.STEP)
"""Levels that are captured unless others are asked for; settings (L1) are in every manifest."""

TIMEOUT = 1800.0
"""Seconds that a capture may take, the import of its framework included."""

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Side:
    """A backend and how a subject is run on it. recipe: None trains nothing. steps: of training, from 1 on with L4."""

    resolved: Resolved
    subject: Subject
    mode: Literal["eager", "graph"] = "eager"
    compute: Compute = "float32"
    recipe: Recipe | None = None
    levels: Sequence[Level] = CAPTURED
    steps: int = 1
    timeout: float = TIMEOUT
    progress: Progress | None = None

    def capture(
        self,
        folder: str | Path,
        *,
        whole: bool = True,
        forced_by: Path | None = None,
        replica: int | None = None,
        compute: Compute | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Record the subject into a folder, and return it.

        whole: every tensor, not only summaries. forced_by: a capture whose taps every module is given. replica: seed
        of a permutation, undone again. compute: another than the side's.
        A crash or a hang makes a capture whose state is `crashed`, with the reason: nothing takes that for a pass.
        Raises: the PortError of what is asked wrongly.
        """
        output = Path(folder).absolute()
        trains = self.recipe is not None
        levels = [level for level in self.levels if level is not Level.STEP or trains]
        job = {
            "verb": "capture",
            "backend": str(self.resolved.backend),
            "emulated": self.resolved.emulated,
            "subject": self.subject.to_json(),
            "mode": self.mode,
            "compute": compute or self.compute,
            "recipe": self.recipe.to_dict() if self.recipe else None,
            "levels": [str(level) for level in levels],
            "steps": self.steps if trains and (Level.STEP in levels or self.steps > 1) else 0,
            "whole": whole,
            "replica": replica,
            "forced_by": str(forced_by.absolute()) if forced_by else None,
            "output": str(output),
            "overwrite": overwrite,
        }
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{output.name}.", suffix=".work", dir=output.parent) as scratch:
            outcome = call(
                self.resolved.backend, job, timeout=self.timeout, folder=Path(scratch), progress=self.progress
            )
        if outcome.state == "crashed":
            last = f": {outcome.tail[-1]}" if outcome.tail else ""
            with CaptureWriter(output, self._manifest(replica), whole=whole, overwrite=overwrite) as writer:
                writer.finish(state="crashed", reason=outcome.reason + last, notes=outcome.notes)
        return output

    def at(self, compute: Compute, resolved: Resolved | None = None) -> Side:
        """The same at another precision, or on another backend."""
        return replace(self, compute=compute, resolved=resolved or self.resolved)

    def _manifest(self, replica: int | None) -> Manifest:
        """Of a run that crashed: what was asked for."""
        build = asdict(self.subject.build(mode=self.mode, compute=self.compute))
        del build["device"]
        backend = self.resolved.backend
        return Manifest(
            self.subject.model, self.subject.config, build, str(backend), backend.known, backend.device,
            self.resolved.emulated, recipe=self.recipe.to_dict() if self.recipe else None, replica=replica,
        )  # fmt: skip
