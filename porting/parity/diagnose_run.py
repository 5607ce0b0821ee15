"""`port diagnose`: both sides in processes of their own, then the search in a third, with the reference in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from porting.backends.found import Resolved, resolve
from porting.backends.names import BackendName
from porting.backends.process import call
from porting.model.recipe import Recipe
from porting.model.spec import Compute
from porting.parity.diagnosis import Diagnosis, Place, diagnosis_of
from porting.parity.probe import probe_recipe
from porting.parity.side import TIMEOUT
from porting.parity.state import Level
from porting.parity.subject import Subject
from porting.terminal import unsaid

Tell = Callable[[str], None]

_VERBS = {verb: f"porting.parity.diagnose_job:{verb}" for verb in ("run_side", "search")}


def diagnose_backends(  # noqa: PLR0913 - one keyword per choice
    subject: Subject,
    source: str,
    target: str,
    *,
    compute: Compute = "float32",
    mode: Literal["eager", "graph"] = "eager",
    recipe: Recipe | None = None,
    detectable: bool = True,
    require_device: bool = False,
    timeout: float = TIMEOUT,
    tell: Tell | None = None,
) -> Diagnosis:
    """What the target does otherwise than the source.

    source, target: backends by name. compute: of the target's activations, and of the reference's, so that it rounds
    as the target does. recipe: None is the probe's. detectable: see `diagnose`.
    Raises: UsageError for a backend that cannot be used; the PortError of what is asked wrongly. A side that crashes is
    no error but a place that differs.
    """
    say = tell or unsaid
    learns = recipe or probe_recipe(subject.spec)
    common = {"subject": subject.to_json(), "mode": mode, "recipe": learns.to_dict(), "emulated": "", "given": None}
    ours = resolve(BackendName.parse(source))
    theirs = resolve(BackendName.parse(target), require_device=require_device)
    with TemporaryDirectory(prefix="diagnose-") as room:
        folders = {name: str(Path(room) / name) for name in ("source", "target")}
        jobs = {
            "source": (ours, {"compute": "float32"}),
            "target": (theirs, {"compute": compute, "emulated": theirs.emulated, "given": folders["source"]}),
        }
        for side, (resolved, own) in jobs.items():
            say(f"{side} on {resolved.backend}{' (EMULATED)' if resolved.emulated else ''}")
            job = {**common, **own, "output": folders[side]}
            crash, _ = _done("run_side", resolved, job, timeout, Path(room))
            if crash:
                return _crashed(subject, side, crash)
        say("the catalogue against the target")
        last: dict[str, Any] = {**common, **folders, "compute": compute, "emulated": theirs.emulated}
        last["detectable"] = detectable
        crash, found = _done("search", resolve(BackendName.parse("torch:cpu")), last, timeout, Path(room))
    return _crashed(subject, "reference", crash) if crash else diagnosis_of(found)


def _done(verb: str, resolved: Resolved, job: Mapping[str, Any], timeout: float, room: Path) -> tuple[str, Any]:
    """Why the process crashed, or what it returned. Raises: its PortError."""
    asked = {"verb": _VERBS[verb], "backend": str(resolved.backend), **job}
    outcome = call(resolved.backend, asked, timeout=timeout, folder=room / "work")
    if outcome.state == "done":
        return "", outcome.result
    return outcome.reason + (f": {outcome.tail[-1]}" if outcome.tail else ""), None


def _crashed(subject: Subject, side: str, reason: str) -> Diagnosis:
    place = Place(Level.FORWARD, side, reason=f"CRASHED: {reason}")
    return Diagnosis(subject.model, subject.task, unexplained=place)
