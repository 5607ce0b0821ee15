"""The catalogue: every key in every language, every text that a template or the code asks for is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import porting.acceptance
import porting.report
from porting.acceptance.accept import SAME
from porting.acceptance.acceptance import Advice
from porting.acceptance.chain import LOGS, WHY_NOT
from porting.acceptance.evidence import BY_HAND
from porting.errors import UsageError
from porting.logs.assemble import NO_BATCHES, NO_DROPOUT, NO_NORM, NO_WEIGHTS
from porting.parity.state import Level, State
from porting.report.advice_text import EVENTS, advice_text
from porting.report.reasons import FULL
from porting.report.words import LANGUAGES, Words, catalogue, words_in

REPORT, ACCEPTANCE = (Path(package.__file__).parent for package in (porting.report, porting.acceptance))
PLACE = re.compile(r"{(\w+)}")


@pytest.mark.parametrize("key", catalogue())
def test_every_text_is_in_every_language(key):
    texts = catalogue()[key]
    assert set(texts) == set(LANGUAGES)
    assert all(text.strip() for text in texts.values())
    assert len({frozenset(PLACE.findall(text)) for text in texts.values()}) == 1, "other fields in another language"


def test_chinese_is_chinese():
    same = [key for key, texts in catalogue().items() if texts["en"] == texts["zh"]]
    assert not same


def asked() -> set[str]:
    """Keys that templates and modules name."""
    sources = [*REPORT.glob("*.py"), *(REPORT / "templates").iterdir()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    return set(re.findall(r'\b(?:w|words)\("(\w+)"', text))


def test_every_text_that_is_asked_for_is_there():
    known = {*Level, *State, "worse", "better", "other", "free", "forced", *EVENTS}
    assert asked() | {str(key) for key in known} <= catalogue().keys()


def test_every_advice_has_its_text():
    source = (ACCEPTANCE / "advice.py").read_text(encoding="utf-8")
    keys = set(re.findall(r'Advice\("(\w+)"', source)) | set(re.findall(r'"(\w+)" if .* else "(\w+)"', source).pop())
    keys |= {
        "weights",
        "settings",
        "batches",
        "lr",
        "ratio_hundreds",
        "slower",
        "task",
        "task_after",
        "first_loss",
        "trajectory",
    }
    texts = {key.removeprefix("advice_") for key in catalogue() if key.startswith("advice_")}
    assert keys <= texts
    assert not texts - keys, "a text that nobody asks for"


def test_every_reason_of_the_chain_is_translated():
    for reason in (
        *WHY_NOT.values(),
        LOGS,
        SAME,
        BY_HAND,
        "nothing was judged",
        NO_BATCHES,
        NO_DROPOUT,
        NO_NORM,
        NO_WEIGHTS,
    ):
        assert Words("zh").reason(reason) != reason
    assert Words("zh").reason(f"{LOGS}; {SAME}").count(FULL) == 1
    assert Words("zh").reason("something a judge said") == "something a judge said"


def test_braces_in_data_are_data():
    assert "{count}" in Words()("advice_lr", first="{count} {0}")


def test_a_missing_value_is_a_mistake_not_a_gap():
    with pytest.raises(KeyError, match="first"):
        Words()("advice_lr")


def test_ways_to_what_is_missing_are_spelled_out():
    text = advice_text(Words(), Advice("missing", None, {"levels": "L5, L7", "how": "training task"}))
    assert "L5, L7" in text
    assert "--steps" in text
    assert "evaluation" in text


def test_events_are_told_with_a_ratio():
    told = advice_text(Words(), Advice("ratio_hundreds", Level.SPEED, {"ratio": "323.3", "recompilations": "12"}))
    assert told.endswith("Compilations of a graph: 12.")
    assert not advice_text(Words(), Advice("ratio_hundreds", Level.SPEED, {"ratio": "323.3"})).endswith(" ")


def test_another_language_is_refused():
    with pytest.raises(UsageError, match="--lang fr: wanted one of en, zh"):
        words_in("fr")
