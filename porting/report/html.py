"""An acceptance as one HTML file that opens without a network.

Everything that a log or a manifest says is text: Jinja2 escapes it, the figures' JSON has no `<` in it, and a policy in
the file lets nothing run but the two scripts whose hashes it names, and nothing load from anywhere.
"""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

import numpy as np

from porting.acceptance.acceptance import Acceptance
from porting.acceptance.trajectory import Series
from porting.convert.columns import jsonable
from porting.extras import require
from porting.report.figure import Figure
from porting.report.figures import FIRST, drawn, figures_of
from porting.report.thin import BUCKETS
from porting.report.view import view
from porting.report.words import Words

ROOM = 2_400_000
"""Characters of packed points that a file may hold, so that with Plotly's 4.8 MB it stays below 8 MB. Curves that
do not fit are drawn all the same, and only zooming in shows no more of them."""


def html(found: Acceptance, words: Words, *, signer: str = "") -> str:
    """The report. signer: what the sign-off block says of the key.

    Raises: UsageError if Jinja2 or Plotly is not installed.
    """
    figures = figures_of(found, words)
    curves = [figure for figure in figures if figure.name.startswith("curve-")]
    scripts = [plotly(), template("report.js")]
    thinned = any(figure.thinned for figure in figures)
    page: str = page_named("report.html.j2").render(
        **view(found, words),
        policy=policy(scripts),
        css=template("report.css"),
        scripts=scripts,
        curve_figures=curves,
        shown_curves=max(1, sum(curve.name in FIRST for curve in drawn(found))),
        map_figures=[figure for figure in figures if figure.name.startswith("map-")],
        step_figures=[figure for figure in figures if figure.name == "steps"],
        thinned=words("thinned", points=2 * BUCKETS) if thinned else "",
        figures=figures_json(figures),
        signed=signer or words("sign_off_unsigned"),
    )
    return page


def policy(scripts: Sequence[str]) -> str:
    """The content security policy: these scripts, inline styles (Plotly makes some), images from the page itself."""
    hashes = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    rest = "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {hashes}; {rest}"


def figures_json(figures: Sequence[Figure]) -> str:
    """The figures as JSON that is safe between script tags: it has no `<`, `>` or `&`."""
    left = ROOM
    rows: list[dict[str, Any]] = []
    for figure in figures:
        packed = list(_packed(figure))
        size = sum(len(one["values"]) + len(one["steps"] or "") for one in packed)
        fits = size <= left
        left -= size if fits else 0
        rows.append(
            {
                "name": figure.name,
                "data": figure.data,
                "layout": figure.layout,
                "full": packed if fits else [],
                "summed": figure.summed,
            }
        )
    text = json.dumps(jsonable(rows), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _packed(figure: Figure) -> Iterator[dict[str, Any]]:
    for trace, series in figure.full.items():
        yield {"trace": trace, **_steps(series), "values": _bytes(series.values.astype("<f4"))}


def _steps(series: Series) -> dict[str, Any]:
    """Steps by start and stride where they are regular, as nearly all are."""
    apart = np.diff(series.steps)
    if (apart == apart[0]).all():
        return {"start": int(series.steps[0]), "stride": int(apart[0]), "steps": None}
    return {"start": 0, "stride": 0, "steps": _bytes(series.steps.astype("<i4"))}


def _bytes(array: np.ndarray[Any, np.dtype[Any]]) -> str:
    return b64encode(gzip.compress(array.tobytes(), 6, mtime=0)).decode()


def page_named(name: str) -> Any:
    """A page's template. Raises: UsageError without Jinja2."""
    require("jinja2", "report")
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("porting.report")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["commands"] = _commands
    return environment.get_template(name)


def _commands(text: str) -> str:
    """Text, escaped, with what stands between backticks set as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped one step before


def plotly() -> str:
    """Plotly's script. Raises: UsageError where it is not installed."""
    require("plotly", "report")
    return files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8").strip()


def template(name: str) -> str:
    """The text of a file that goes into a page as it is."""
    return files("porting.report").joinpath("templates", name).read_text(encoding="utf-8")
