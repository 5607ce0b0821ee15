"""Eight levels, one verdict. What was not looked at never makes a migration look better than what was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from porting.parity.state import Level, State, Verdict, worst

WHY_NOT = {
    Level.WEIGHTS: "no capture of both sides holds weights",
    Level.SETTINGS: "no capture of both sides holds settings",
    Level.FORWARD: "no capture of both sides holds a forward pass",
    Level.BACKWARD: "no capture of both sides holds gradients",
    Level.STEP: "no capture of both sides holds a training step",
    Level.TRAJECTORY: "no training run of both sides was given",
    Level.SPEED: "no step time of both sides was given",
    Level.TASK: "no metric of the task was given for both sides",
}

LOGS = "logs alone do not show that weights, batches and settings are the same"


def chain(verdicts: Iterable[Verdict], *, emulated: bool = False) -> tuple[Verdict, ...]:
    """All levels in order; those that nobody judged are NOT_RUN, with the reason."""
    known = {verdict.level: verdict for verdict in verdicts}
    found = (known.get(level) for level in Level)
    return tuple(
        one if one is not None and (one.findings or one.reason) else _not_run(level, emulated=emulated)
        for level, one in zip(Level, found, strict=True)
    )


def _not_run(level: Level, *, emulated: bool) -> Verdict:
    return Verdict(level, State.NOT_RUN, (), 0, 0, emulated, WHY_NOT[level])


def overall(levels: Sequence[Verdict], *, logs: bool) -> Verdict:
    """The verdict over the chain.

    The worst of the levels that anything was judged or met at decides. A level that nothing was judged at takes a PASS
    to CONDITIONAL, by name; so does evidence of logs alone on a side (logs). Nothing judged at all is NOT_RUN.
    """
    findings = tuple(finding for level in levels for finding in level.findings)
    emulated = any(level.emulated for level in levels)
    compared = sum(level.compared for level in levels)
    total = sum(level.total for level in levels)
    judged = [level for level in levels if level.compared or level.state not in (State.NOT_RUN, State.PASS)]
    if not judged:
        return Verdict(None, State.NOT_RUN, findings, compared, total, emulated, "nothing was judged")
    absent = [str(level.level) for level in levels if level not in judged]
    reasons = [f"not run: {', '.join(absent)}"] if absent else []
    reasons += [LOGS] if logs else []
    state = worst([level.state for level in judged] + [State.CONDITIONAL] * bool(reasons))
    return Verdict(None, state, findings, compared, total, emulated, "; ".join(reasons))
