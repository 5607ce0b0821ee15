"""Parity in people's own suites: `pytest_plugins = ["porting.testing.parity"]` in the conftest at their root.

It declares fixtures that are called `port_…`, and no option, so a suite may have a `--backend` of its own:

    def test_my_port(port_capture, port_floor, port_compare):
        source = port_capture("bert", "torch:cpu")
        target = port_capture("bert", "tensorflow:cpu", forced_by=source)
        assert_parity(port_compare(source, target, floor=port_floor("bert", "torch:cpu")))
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from porting.backends.found import usable
from porting.backends.names import BackendName
from porting.parity.compare import Comparison, compare
from porting.parity.floor import Floor
from porting.parity.measure_floor import REPLICAS
from porting.parity.origin import Origin
from porting.parity.probe import probe_recipe
from porting.parity.reader import Capture, read_capture
from porting.parity.side import Side, capture_all
from porting.parity.state import Finding, State, Verdict
from porting.parity.subject import Subject, subject


def assert_parity(comparison: Comparison, *, emulated: bool = False) -> None:
    """Pass if the comparison does. emulated: whether evidence of an emulated device is enough.

    Raises: AssertionError that names the first difference: anything that is no PASS, whether it was compared or not.
    """
    __tracebackhide__ = True
    overall = comparison.overall
    sides = f"{comparison.source.model}: {comparison.source.backend} -> {comparison.target.backend}"
    if overall.state is not State.PASS or not overall.compared:
        raise AssertionError(f"{sides}: {told(overall)}")
    if overall.emulated and not emulated:
        kind = comparison.target.emulated or comparison.source.emulated
        raise AssertionError(f"{sides}: a PASS that is EMULATED ({kind}): ask for it with emulated=True")


def told(verdict: Verdict) -> str:
    """A verdict in a line: its state, the first difference, and what was compared."""
    first = verdict.decisive
    place = verdict.reason if first is None else _finding(first)
    return f"{verdict.state}: {place or 'nothing was compared'} ({verdict.compared} of {verdict.total} compared)"


def _finding(finding: Finding) -> str:
    where = f"{finding.level} {finding.what}" + (f" ({finding.mode})" if finding.mode else "")
    told_already = finding.measure and finding.measure in finding.reason
    if finding.value is not None and finding.limit is not None and not told_already:
        # Numbers that JSON does not know come back from a report as text.
        numbers = f"{float(finding.value):.2e}, limit {float(finding.limit):.2e}"
        return (
            f"{where}: {finding.measure} {numbers} ({finding.source}){f'; {finding.reason}' if finding.reason else ''}"
        )
    if told_already:
        return f"{where}: {finding.reason}"
    return f"{where}: {finding.state}, {finding.reason or finding.source}"


def _side(of: str | Subject, backend: str) -> Side:
    name, chosen = BackendName.parse(backend), subject(of) if isinstance(of, str) else of
    return Side(usable(name), chosen, recipe=probe_recipe(chosen.spec))


@pytest.fixture(scope="session")
def port_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives a folder that is not there yet."""
    room, numbers = tmp_path_factory.mktemp("port"), count()
    return lambda name: room / f"{next(numbers)}-{name}"


@pytest.fixture(scope="session")
def port_capture(port_folder: Callable[[str], Path]) -> Callable[..., Capture]:
    """Records a model on a backend: `port_capture(MODEL or Subject, BACKEND, forced_by=CAPTURE)`."""

    def record(of: str | Subject, backend: str, *, forced_by: Capture | None = None) -> Capture:
        place = None if forced_by is None else forced_by.folder
        return read_capture(_side(of, backend).capture(port_folder("capture"), forced_by=place))

    return record


@pytest.fixture(scope="session")
def port_floor(port_folder: Callable[[str], Path]) -> Callable[..., Floor]:
    """Measures the noise floor of a model on a backend: `port_floor(MODEL or Subject, BACKEND)`."""

    def measure(of: str | Subject, backend: str, *, replicas: int = REPLICAS) -> Floor:
        origin = Origin(_side(of, backend), port_folder("floor"), replicas)
        for error in capture_all(origin.takes()):
            if error is not None:
                raise error
        return origin.measured()

    return measure


@pytest.fixture(scope="session")
def port_compare() -> Callable[..., Comparison]:
    """`porting.parity.compare.compare`: `port_compare(SOURCE, TARGET, floor=FLOOR)`."""
    return compare
