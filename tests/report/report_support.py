"""Acceptances made by hand: what the renderers are tried on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from porting.acceptance.acceptance import Acceptance, Advice, Change, Curve, Pace, Party, Quality, Regression, Speed
from porting.acceptance.chain import chain, overall
from porting.acceptance.trajectory import Input, Metric, Series
from porting.parity.settings import Difference
from porting.parity.state import Finding, Level, State, Verdict, verdict_of

HASH = "xxh3_128:" + "0" * 32


def party(path: str, **changes) -> Party:
    made = Party(
        path, "parity", path, {"device": path, "framework": "torch 2.13.0"}, (Input(path, 1234, HASH),),
        ("printed to 0.01",), ("the last line is torn",),
    )  # fmt: skip
    return replace(made, **changes)


def level(level: Level, *states: State, emulated: bool = False) -> Verdict:
    findings = [
        Finding(
            level, f"check {n}", state, f"why {n}" * (state is not State.PASS), "", "relative L2", 2e-6, 4e-6, "floor"
        )
        for n, state in enumerate(states)
    ]
    return verdict_of(level, findings, emulated=emulated)


def taps(count: int = 6) -> Verdict:
    findings = []
    for layer in range(count):
        for part in ("attention.self", "attention.output", "output"):
            for mode in ("free", "forced"):
                bad = layer == 3 and part == "attention.self"
                state = State.FAIL if bad else State.PASS
                name = f"encoder.layer.{layer}.{part}"
                value = 3e-4 if bad else 10 ** -(7 + (layer % 3) / 2)
                findings.append(
                    Finding(Level.FORWARD, name, state, "", mode, "relative L2", value, 3e-6, "4 x 7.5e-07")
                )
    return verdict_of(Level.FORWARD, findings)


def curve(name: str = "loss", steps: int = 200, seed: int = 0, gap: float = 0.0) -> Curve:
    rng = np.random.default_rng(seed)
    at = np.arange(steps)
    base = 10 * np.exp(-at / (steps / 4)) + 2
    source, target = base + rng.normal(0, 0.03, steps), base + rng.normal(0, 0.03, steps) + gap
    low, high = Series(at, base - 0.06), Series(at, base + 0.06)
    z = Series(at[::10], rng.normal(0, 1, len(at[::10])))
    return Curve(name, Series(at, source), Series(at, target), low, high, z)


def pace(seconds: float, seed: int = 0) -> Pace:
    values = np.random.default_rng(seed).lognormal(np.log(seconds), 0.03, 300)
    return Pace(
        float(np.median(values)),
        float(np.quantile(values, 0.95)),
        0.03,
        300,
        5,
        40 * seconds,
        39 * seconds,
        values,
        16 / seconds,
    )


def acceptance(*verdicts: Verdict, logs: bool = False, **changes) -> Acceptance:
    """One with everything in it; verdicts replace those of their levels."""
    known = {level_: level(level_, State.PASS, State.PASS) for level_ in Level} | {one.level: one for one in verdicts}
    levels = chain(known.values())
    made = Acceptance(
        party("gpu"), party("npu"), levels, overall(levels, logs=logs),
        curves=(curve(), curve("grad_norm", seed=1)),
        speed=Speed(pace(0.054181), pace(0.0601, 1), (1.05, 1.15)),
        qualities=(Quality("accuracy", Metric(0.9086, 872), Metric(0.902777, 872)),),
        differences=(Difference("versions.torch", "2.13.0", "2.12.1"),),
        counts={"recompilations": (0, 12)},
        advice=(Advice("precision_mode"),),
        notes=("a note",),
        regression=Regression(Input("old/report.json", 10, HASH), (Change("L5", "PASS", "FAIL", "worse"),)),
        made="2026-11-21T09:30:00+00:00", kit="0.5.0",
    )  # fmt: skip
    return replace(made, **changes)
