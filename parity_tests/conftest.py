"""The parity suite: every model and task on a backend, level by level, against a source.

pytest parity_tests --backend npu
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from porting.backends.found import usable
from porting.backends.names import BackendName
from porting.errors import PortError, first_line_of
from porting.parity.state import Level, Verdict
from porting.testing.suite.choice import (
    BACKEND,
    LEVELS,
    SOURCE,
    TRAJECTORY,
    Case,
    Choice,
    Target,
    checked_models,
    targets_of,
)
from porting.testing.suite.evidence import Evidence
from porting.testing.suite.ledger import Expected, read_expected
from porting.testing.suite.summary import write_summary

HERE = Path(__file__).parent
NOT_RUN = "NOT_RUN: "
CHOICE = pytest.StashKey[Choice]()
EVIDENCE = pytest.StashKey[Evidence]()
EXPECTED = pytest.StashKey[dict[str, tuple[Expected, ...]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; --record and --source DIR are for two machines."""
    group = parser.getgroup("parity")
    group.addoption("--backend", help=f"target: FRAMEWORK:DEVICE, or cpu, gpu, npu; by default {BACKEND}")
    group.addoption("--source", help=f"a backend, or a folder that --record wrote; by default {SOURCE}")
    group.addoption("--model", action="append", default=[], help="a model or a published size; may be repeated")
    group.addoption("--checkpoint", default="", help="weights of the one model; by default the probe's")
    group.addoption("--config", default="", dest="model_config", help="a config file; by default a tiny one")
    group.addoption("--require-device", action="store_true", help="never emulate")
    group.addoption("--report", default="", metavar="DIR", help="write comparisons, summary.md and junit.xml")
    group.addoption("--record", default="", metavar="DIR", help="record the source for another machine")
    group.addoption("--update-floor", action="store_true", help="measure the noise floors and keep them in floors/")
    group.addoption("--floors", default=str(HERE / "floors"), metavar="DIR", help="where kept floors are")
    group.addoption("--expected", default=str(HERE / "expected"), metavar="DIR", help="where expected failures stand")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Workers get whole models, whose captures are made together."""
    if getattr(config.option, "numprocesses", None) and getattr(config.option, "dist", "no") == "no":
        config.option.dist = "loadgroup"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Resolve the backends, once: workers are told."""
    if config.option.help:
        return
    given = getattr(config, "workerinput", {}).get("parity")
    try:
        choice = Choice.from_json(json.loads(given)) if given else _chosen(config)
        config.stash[CHOICE] = choice
        config.stash[EXPECTED] = _expected(config, choice)
    except PortError as error:
        raise pytest.UsageError(str(error)) from None
    if choice.report and not given:
        Path(choice.report).mkdir(parents=True, exist_ok=True)
        config.option.xmlpath = config.option.xmlpath or str(Path(choice.report) / "junit.xml")


def _chosen(config: pytest.Config) -> Choice:
    option = config.option
    source, recorded = option.source or SOURCE, ""
    if option.source and Path(option.source).is_dir():
        recorded = str(Path(option.source).absolute())
    targets: tuple[Target, ...] = ()
    absent = ""
    try:
        targets = () if option.record else targets_of(option.backend or BACKEND, require_device=option.require_device)
    except PortError as error:
        if option.backend or option.require_device:
            raise
        absent = first_line_of(error)
    return Choice(
        backend=option.backend or BACKEND,
        source=None if recorded else usable(BackendName.parse(source)),
        targets=targets,
        folder=tempfile.mkdtemp(prefix="parity-"),
        recorded=recorded,
        record=str(Path(option.record).absolute()) if option.record else "",
        models=checked_models(option.model, option.checkpoint),
        checkpoint=option.checkpoint,
        config=option.model_config,
        floors=str(Path(option.floors).absolute()),
        update_floor=option.update_floor,
        report=str(Path(option.report).absolute()) if option.report else "",
        absent=absent,
        workers=bool(getattr(option, "numprocesses", None)),
    )


def _expected(config: pytest.Config, choice: Choice) -> dict[str, tuple[Expected, ...]]:
    everything = [str(case) for case in Choice("", None, (), "", models=choice.models).cases()]
    known = [*everything, *(str(case) for case in Choice("", None, (), "").cases())]
    folder = Path(config.option.expected)
    labels = [target.label for target in choice.targets]
    return {label: read_expected(folder / f"{label}.toml", known, (*LEVELS, *TRAJECTORY)) for label in labels}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what was chosen."""
    node.workerinput["parity"] = json.dumps(node.config.stash[CHOICE].to_json())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the captures, when all workers are done with them."""
    choice = config.stash.get(CHOICE, None)
    if choice is not None and not hasattr(config, "workerinput"):
        shutil.rmtree(choice.folder, ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Source, target, versions, and whether anything is emulated."""
    return list(config.stash[CHOICE].header()) if CHOICE in config.stash else []


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What records is no test of a target, and the other way round."""
    if CHOICE not in config.stash or collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    return (collection_path.name == "test_record.py") != bool(config.stash[CHOICE].record) or None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases by what a test asks for: parity_trained, parity_level, parity_dialect, or parity_case alone."""
    choice = metafunc.config.stash[CHOICE]
    rows: list[tuple[Any, ...]]
    if "parity_trained" in metafunc.fixturenames:
        rows = [(t, c, lv) for t in choice.targets for c in choice.trained_of(t) for lv in TRAJECTORY]
        _parametrize(metafunc, "parity_target, parity_case, parity_level", rows, "{0.label}-{1}-{2}")
    elif "parity_level" in metafunc.fixturenames:
        rows = [(t, c, lv) for t in choice.targets for c in choice.cases_of(t) for lv in LEVELS]
        _parametrize(metafunc, "parity_target, parity_case, parity_level", rows, "{0.label}-{1}-{2}")
    elif "parity_dialect" in metafunc.fixturenames:
        from porting.convert.registry import family_named

        cases = [(case, choice.subject(case).spec.family) for case in choice.cases()]
        rows = [(case, one.name) for case, family in cases for one in family_named(family).dialects]
        _parametrize(metafunc, "parity_case, parity_dialect", rows, "{0}-{1}")
    elif "parity_case" in metafunc.fixturenames:
        _parametrize(metafunc, "parity_case", [(case,) for case in choice.cases()], "{0}")


def _parametrize(metafunc: pytest.Metafunc, names: str, rows: Sequence[tuple[Any, ...]], shape: str) -> None:
    """Parameters, those of one group of captures marked to run in one worker."""
    choice, grouped = metafunc.config.stash[CHOICE], metafunc.config.pluginmanager.hasplugin("xdist")
    found = []
    for row in rows:
        case = next(value for value in row if isinstance(value, Case))
        marks = [pytest.mark.xdist_group(choice.group(case))] if grouped else []
        found.append(pytest.param(*row, id=shape.format(*row).replace(" ", "_"), marks=marks))
    metafunc.parametrize(names, found)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the default backend everything is skipped, with the reason."""
    absent = config.stash[CHOICE].absent
    for item in items if absent else ():
        item.add_marker(pytest.mark.skip(reason=absent))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Captures are made of what was selected only."""
    params = [getattr(item, "callspec", None) for item in session.items]
    cases = dict.fromkeys(spec.params["parity_case"] for spec in params if spec and "parity_case" in spec.params)
    session.config.stash[EVIDENCE] = Evidence(session.config.stash[CHOICE], list(cases))


@pytest.fixture
def parity_choice(pytestconfig: pytest.Config) -> Choice:
    """What the run was asked for."""
    return pytestconfig.stash[CHOICE]


@pytest.fixture
def parity_evidence(pytestconfig: pytest.Config) -> Evidence:
    """Captures and comparisons, made when they are first asked for."""
    return pytestconfig.stash[EVIDENCE]


@pytest.fixture
def parity_verdict(parity_evidence: Evidence, parity_target: Target, parity_case: Case, parity_level: str) -> Verdict:
    """The verdict of one level. Fails with what the case was refused by."""
    level, _, mode = parity_level.partition(" ")
    try:
        return parity_evidence.verdict(parity_target, parity_case, Level(level), mode)
    except PortError as error:
        pytest.fail(f"{parity_case}: {error}", pytrace=False)


@pytest.fixture
def parity_trained(
    parity_evidence: Evidence, parity_target: Target, parity_case: Case, parity_level: str
) -> Callable[[], Verdict]:
    """Gives the verdict of L5 or L6 when it is called. Fails with what the case was refused by."""

    def trained() -> Verdict:
        try:
            return parity_evidence.trained(parity_target, parity_case, Level(parity_level))
        except PortError as error:
            pytest.fail(f"{parity_case}: {error}", pytrace=False)

    return trained


@pytest.fixture
def parity_expected(
    pytestconfig: pytest.Config, parity_target: Target, parity_case: Case, parity_level: str
) -> Expected | None:
    """The line that expects this to fail."""
    lines = pytestconfig.stash[EXPECTED][parity_target.label]
    own = [line for line in lines if (line.case, line.level) == (str(parity_case), parity_level)]
    return own[0] if own else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """What passed on an emulated device is an outcome of its own, and so is what was not run: a skip for JUnit."""
    outcome = yield
    report: Any = outcome.get_result()
    choice = item.config.stash[CHOICE]
    if call.when != "call":
        return
    if report.passed and choice.emulated:
        report.outcome, report.parity = "skipped", "emulated"
        kinds = " and ".join(dict.fromkeys(t.resolved.emulated for t in choice.targets if t.resolved.emulated))
        report.longrepr = (str(item.path), item.location[1], f"EMULATED ({kinds}): passed, and no evidence of a device")
    elif report.skipped and isinstance(report.longrepr, tuple) and NOT_RUN in report.longrepr[2]:
        report.parity = "not run"


def pytest_report_teststatus(report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Letters and words of the two outcomes."""
    if (kind := getattr(report, "parity", "")) and report.when == "call":
        letter = {"emulated": "e", "not run": "n"}[kind]
        return kind, letter, (kind.upper(), {"yellow": True})
    return None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The last word: how many passed on the device itself."""
    choice = config.stash.get(CHOICE, None)
    if choice is None or choice.absent:
        return
    line = _counts(terminalreporter.stats, choice)
    terminalreporter.section("parity")
    for row in (*choice.header(), line):
        terminalreporter.write_line(row)
    if choice.report:
        terminalreporter.write_line(f"report: {write_summary(Path(choice.report), list(choice.header()), line)}")


def _counts(stats: dict[str, list[Any]], choice: Choice) -> str:
    number = {name: len(found) for name, found in stats.items()}
    failed = number.get("failed", 0) + number.get("error", 0)
    if choice.record:
        return f"{number.get('passed', 0)} recorded into {choice.record}, {failed} failed"
    kind = choice.targets[0].resolved.backend.kind.upper()
    words = [f"{number.get('passed', 0)} passed on {kind}"]
    named = {"emulated": "emulated", "failed": "failed", "xfailed": "failed as expected", "not run": "not run"}
    shown = {**number, "failed": failed}
    return ", ".join(words + [f"{shown[name]} {word}" for name, word in named.items() if shown.get(name)])
