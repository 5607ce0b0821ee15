"""The pre-training script of XLNet on GPUs, which prints two decimals of the loss."""

from __future__ import annotations

from porting.logs.columns import Found
from porting.logs.dialect import Dialect, Event, Part, curves, line, once, repeats

LINE = line(
    r"\[(?P<step>%(WHOLE)s)\] \| gnorm +(?P<gnorm>%(NUMBER)s) lr +(?P<lr>%(NUMBER)s) \| loss +(?P<loss>%(NUMBER)s)"
    r" \| pplx +(?P<pplx>%(NUMBER)s), bpc +(?P<bpc>%(NUMBER)s)%(END)s"
)
NAMES = {"gnorm": "grad_norm", "lr": "lr", "loss": "loss", "pplx": "perplexity", "bpc": "bits_per_character"}


def _settle(found: Found) -> Part:
    rows = found["line"]
    steps = rows.dense("step")
    fresh = once(steps, rows.dense("loss"), rows.dense("gnorm"))
    wanted = {name: (to, 1.0) for name, to in NAMES.items()}
    return Part(curves(rows, steps, wanted, keep=fresh), notes=repeats(fresh))


DIALECT = Dialect(
    "xlnet",
    "XLNet on GPUs",
    "[100] | gnorm 1.23 lr 0.000010 | loss 6.54 | pplx  694.02, bpc  9.4385",
    (Event("line", b"] | gnorm ", LINE),),
    _settle,
)
