"""What judges really say, of migrations good and bad, is all said in Chinese too."""

from __future__ import annotations

import json
import re

import pytest
from accept_support import FIELD, capture, descent, estimator, evaluation, migration

from porting.acceptance.accept import accept
from porting.errors import PortError
from porting.report.reasons import translated
from porting.report.view import view
from porting.report.words import Words


def captures(tmp_path):
    for criteria in ("calibrated", "msprobe", "modelzoo", "mindspeed"):
        sides = capture(tmp_path / f"a-{criteria}"), capture(tmp_path / f"b-{criteria}", scale=1.5, backend="torch:npu")
        yield accept(*sides, criteria=criteria)
    yield accept(capture(tmp_path / "c"), capture(tmp_path / "d", weights=2.0, taps=("logits",), gradients=False))
    yield accept(capture(tmp_path / "e", stepped=True), capture(tmp_path / "f", scale=1 + 1e-6, stepped=True))
    broken = capture(tmp_path / "h", losses=[5, float("nan"), 3] * 10)
    yield accept(capture(tmp_path / "g", losses=[5, 4, 3] * 10), broken)


def trainings(tmp_path):
    for name, changes in (("good", {}), ("emulated", {"emulated": "float16 saturate"}), ("slow", {"seconds": 0.2})):
        run = migration(tmp_path / name, **changes)
        yield accept(run, run, criteria="mindspeed")
        yield accept(run, run, speed=2.0)


def logs(tmp_path):
    a = estimator(tmp_path / "a.log", descent(noise=1e-4))
    for number, losses in enumerate((descent(gap=0.5), descent(noise=1e-4, seed=1), descent(20))):
        b = estimator(tmp_path / f"b{number}.log", losses)
        yield accept(a, b, source_step_ms=10, target_step_ms=5000)
    for number, pair in enumerate([(0.9, 0.8, 10**6), (0.9, 0.9, 100), (0.9, 0.9, 10**7)]):
        sides = [evaluation(tmp_path / f"{number}{side}.log", pair[side], pair[2]) for side in (0, 1)]
        yield accept([a, sides[0]], [a, sides[1]], criteria="modelzoo")


def field(tmp_path):
    for file in sorted(FIELD.iterdir()):
        try:
            yield accept(file, estimator(tmp_path / "x.log", descent(30)))
        except PortError:  # a table of several runs, or of none
            continue


@pytest.mark.parametrize("made", [captures, trainings, logs, field])
def test_all_that_is_said_is_said_in_chinese(tmp_path, made):
    missing, count = set(), 0
    for found in made(tmp_path):
        rows = [one for level in (*found.levels, *([found.rule] if found.rule else [])) for one in level.findings]
        texts = [text for one in rows for text in (one.reason, one.measure, one.source)]
        texts += [level.reason for level in found.levels] + [found.overall.reason, *found.notes]
        texts += [text for party in (found.source, found.target) for text in (*party.limits, *party.notes)]
        missing |= {text for text in texts if text and translated(text, depth=1) is None}
        count += len(texts)
        assert all(re.search("[\u4e00-\u9fff]", text) for text in view(found, Words("zh"))["advice"])
    assert count > 50
    assert not missing


def test_the_pages_are_chinese_and_the_data_english(tmp_path, port):
    a, b = estimator(tmp_path / "a.log", descent(40)), estimator(tmp_path / "b.log", descent(40, gap=0.5))
    for lang in ("en", "zh"):
        port("accept", "--source", a, "--target", b, "-o", tmp_path / lang, "--lang", lang)
    pages = {lang: (tmp_path / lang / "report.html").read_text(encoding="utf-8") for lang in ("en", "zh")}
    reason = "before any update: the weights, the batch or the loss differ"
    assert reason in pages["en"]
    assert reason not in pages["zh"]
    assert "任何更新之前为" in pages["zh"]
    english, chinese = (json.loads((tmp_path / lang / "report.json").read_text(encoding="utf-8")) for lang in pages)
    for key in ("levels", "advice", "calibrated", "source", "target", "state"):
        assert english[key] == chinese[key], key
    assert (tmp_path / "en/junit.xml").read_text() == (tmp_path / "zh/junit.xml").read_text()
