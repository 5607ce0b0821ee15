"""Every text that a judge or a reader of evidence can produce has its template, which takes it apart rightly."""

# ruff: noqa: RUF001 - Chinese has marks of its own

from __future__ import annotations

import ast
import re
import time
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import porting
from porting.report.reasons import said, templates, translated
from porting.report.words import Words

ROOT = Path(porting.__file__).parent
JUDGES = (
    "acceptance/accept.py", "acceptance/answered.py", "acceptance/answers.py", "acceptance/chain.py",
    "acceptance/equivalence.py", "acceptance/evidence.py", "acceptance/judge.py", "acceptance/matched.py",
    "acceptance/measured.py", "acceptance/permutation.py", "acceptance/power.py", "acceptance/preconditions.py",
    "acceptance/runs.py", "acceptance/shadow.py", "acceptance/single.py", "acceptance/speed.py", "acceptance/task.py",
    "parity/compare.py", "parity/criteria.py", "parity/deviations.py", "parity/presets.py", "parity/rules.py",
    "parity/settings.py", "parity/step_findings.py",
    "logs/assemble.py", "logs/dialect.py", "logs/event_file.py", "logs/read.py", "logs/runs.py", "logs/scan.py",
    "logs/source.py", "logs/table.py",
    *(f"logs/dialects/{path.name}" for path in sorted((ROOT / "logs/dialects").glob("*.py"))),
)  # fmt: skip
"""Modules whose texts end up in a report."""

NO_REASON = re.compile(r"[\\|{}%]{2}|\(\?|^[\W\d]*$|^\{\}[\W\d]*\{\}|: ?\d|=|^ (and|at) |…")
"""Patterns of log lines, samples, and pieces of punctuation."""

KEYS = re.compile(r"(Final|E2E|Num|Total|Batch|Training|Evaluation|elapsed|number of|global|grad|lm|Epoch:|\[_) ?.*")
"""What stands in lines of logs."""

FRAGMENTS = {
    " and ", " on ", "task", "check ", "version ", "switch ", "masks ", "planted: ", "data order ",
    "where it runs", "how it runs", "a name", "of the file, not of the run", "of the file",
    "initial values, which the checkpoint replaces", "in which dialect the parameters are named",  # why they may differ
    "is a folder", "is not a file", "is a dry run: its loss is 0.000 throughout",  # errors
    "not counted", "no hash of it was recorded by ",
}  # fmt: skip
"""Texts that stand in no report, or within another that is there."""


def sentences(module: str) -> set[str]:
    """Texts of a module with a space in them, f-strings with `{}` for what is filled in; none of docs or errors."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    left = {id(one) for node in ast.walk(tree) if isinstance(node, ast.Raise) for one in ast.walk(node)}
    left |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    left |= {
        id(one) for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") in PATTERNS
        for one in ast.walk(node)
    }  # fmt: skip
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in left:
            left |= {id(part) for part in node.values if isinstance(part, ast.Constant)}
            found.add("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
    found |= {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left
    }
    return {text for text in found if re.search(r"[A-Za-z]{2,}.* |  *[A-Za-z]{3,}", text)}


PATTERNS = ("line", "Event", "Dialect", "Kind", "compile", "Needle")

TABLE = tomllib.loads(files("porting.report").joinpath("reasons.toml").read_text(encoding="utf-8"))
KNOWN = [re.sub(r"{\w+}", "{}", english) for kind in TABLE.values() for english in kind]


def known_key(module: str, text: str) -> bool:
    return module.startswith("logs/") and KEYS.fullmatch(text) is not None


def is_known(text: str) -> bool:
    """Whether a text is a template, a piece of one, or templates on end."""
    wanted = re.sub(r"\s+", " ", text)
    pieces = [piece for piece in re.split(r"{}", wanted) if re.search(r"[A-Za-z]{3,}", piece)]
    return any(all(piece in known for piece in pieces) for known in KNOWN)


@pytest.mark.parametrize("module", JUDGES)
def test_every_text_of_a_judge_has_its_template(module):
    missing = [
        text for text in sentences(module)
        if text not in FRAGMENTS and not (NO_REASON.search(text) or known_key(module, text)) and not is_known(text)
    ]  # fmt: skip
    assert not missing


@pytest.mark.parametrize("kind", TABLE)
def test_templates_keep_every_place(kind):
    for english, chinese in TABLE[kind].items():
        assert sorted(re.findall(r"{(\w+)}", english)) == sorted(re.findall(r"{(\w+)}", chinese)), english
        assert len(set(re.findall(r"{(\w+)}", english))) == english.count("{"), english
        assert not re.search(r"}{", english), "two places without anything between them cannot be told apart"


@pytest.mark.parametrize("kind", TABLE)
def test_every_template_is_recognised_as_itself(kind):
    """Filled with data, a text becomes what its own template says, and of no other."""
    for one in templates(kind):
        filler = {place: f"Z{n}" for n, place in enumerate(one.places)}
        filler |= {
            place: "float64" if place.startswith("why") else "source"
            for place in one.places
            if place[:3] in ("why", "sid")
        }
        text = re.sub(r"{(\w+)}", lambda place, filler=filler: filler[place[1]], one.english)
        told = {place: {"source": "源"}.get(value, value) for place, value in filler.items()}
        wanted = re.sub(r"{(\w+)}", lambda place, told=told: told[place[1]], one.other)
        assert translated(text, kind) == wanted, text


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "no noise floor of training: 1 runs of the source and 2 of the target, wanted 6 each",
            "没有训练的噪声基线：源 1 次运行、目标 2 次，各需 6 次",
        ),
        ("not run: replicas, tail mean: loss", "未执行：副本, 末段均值：loss"),
        (
            "3 loss not finite (target), first at step 4, 1 grad_norm not finite (source), first at step 9",
            "目标有 3 个 loss 非有限值，首次在第 4 步，源有 1 个 grad_norm 非有限值，首次在第 9 步",
        ),
        (
            "1.2 (source), 3.4 (target), +2.2: beyond the margin; 90 % interval +1 to +3",
            "1.2（源），3.4（目标），+2.2：超出容差；90 % 区间 +1 至 +3",
        ),
        (
            "relative L2 3.1e-05, limit 1e-06 = 8 x 1.2e-07 (replicas, of its section)",
            "相对 L2 3.1e-05，限值 1e-06 = 8 × 1.2e-07（副本，取自本部分）",
        ),
        ("a.log: 4 numbers could not be read", "a.log：4 个数无法读取"),
        (
            "precondition: step 0, 1 (source), 2 (target) before any update: the weights, the batch or the loss differ",
            "前提：第 0 步，任何更新之前为 1（源）与 2（目标）：权重、批数据或损失函数不同",
        ),
        ("L5: PASS, now FAIL", "L5：原为通过，现为不通过"),
    ],
)
def test_texts_as_judges_join_them(english, chinese):
    assert said(english) == chinese


def test_what_is_data_stays_as_it_is():
    assert said("Traceback: something that a log said") == "Traceback: something that a log said"
    assert Words("zh").name("bert/encoder/layer_0/output") == "bert/encoder/layer_0/output"
    assert Words("en").reason("no step is common to both") == "no step is common to both"
    assert said("no hash of the data: {names} {0}") == "没有数据哈希：{names} {0}"


@pytest.mark.parametrize("piece", [", ", ": ", "; ", " (source), ", "no loss: ", " and ", "x"])
def test_a_text_that_means_harm_takes_no_time(piece):
    started = time.perf_counter()
    said(piece * (200_000 // len(piece)))
    assert time.perf_counter() - started < 2
