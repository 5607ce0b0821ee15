"""What `port finetune` says at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from porting.train.export import lines
from porting.train.finetune import Finetuned


def finetuned_lines(found: Finetuned) -> list[str]:
    """Notes, what was trained, the last and the best metric, what was exported."""
    result = found.result
    emulated = f", EMULATED: {result['emulated']}" if result["emulated"] else ""
    where = f"{result['backend']} ({result['device']}){emulated}"
    what = (
        f"{result['steps']} steps of {result['batch_size']}, {result['examples']} examples, recipe {result['recipe']}"
    )
    said = [*result["notes"], f"{result['model']} on {result['task']}, {where}: {what}"]
    if result["skipped"]:
        said.append(f"{result['skipped']} steps skipped for overflow; the loss scale is {result['loss_scale']:g}")
    metric = result["metric"]
    if metric is None:
        said.append("not evaluated: no --eval")
    else:
        last, best = result["last"], result["best"]
        values = f"last {_value(last, metric)}, best {_value(best, metric)} (step {best['step']})"
        said.append(f"{metric}: {values}; {_rest(best, metric)}")
    return [*said, f"{result['folder']}: {result['state']}", *lines(found.exports)]


def _value(evaluation: Mapping[str, Any], metric: str) -> str:
    value = evaluation["metrics"][metric]
    return "not defined" if value is None else f"{value:.4f}"


def _rest(best: Mapping[str, Any], metric: str) -> str:
    others = [f"{name} {_value(best, name)}" for name in best["metrics"] if name != metric]
    return f"of the best: {', '.join(others)}" if others else "by that metric alone"
