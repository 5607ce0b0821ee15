"""No false alarm: pairs that cross a framework, or a permutation of heads and units, pass and show no difference."""

from __future__ import annotations

import pytest
from sides import Source, Subject, opened

TASKS = (
    ("bert", "pretraining"),
    ("bert", "classification"),
    ("bert", "question_answering"),
    ("roberta", "mlm"),
    ("roberta", "classification"),
    ("tinybert", "task_distill_1"),
    ("tinybert", "classification"),
    ("tinybert", "general_distill"),
    ("xlnet", "pretraining"),
    ("xlnet", "classification"),
    ("xlnet", "question_answering"),
)
SIZES = (
    (),
    (("num_attention_heads", 2), ("n_head", 2), ("d_head", 16)),
    (("hidden_size", 48), ("d_model", 48), ("num_attention_heads", 3), ("n_head", 3), ("d_head", 16)),
    (("num_hidden_layers", 3), ("n_layer", 3)),
)
PAIRS = {"replica": 48, "tensorflow": 44, "mindspore": 11}
"""By what is crossed: the permutation of a replica, or a framework. 103 in all."""

SHARE = 0.03
"""Of clean pairs that may raise an alarm."""

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def alarm(crossed, number, folder):
    """Why a clean pair is not a pass, or nothing. number: of its task, size and seed."""
    model, task = TASKS[number % len(TASKS)]
    source = Source(Subject(model, task, SIZES[number // 3 % len(SIZES)], seed=number), folder)

    def net():
        if crossed == "replica":
            return opened(source.what, replica=100 + number)
        return opened(source.what, crossed)

    verdict = source.compared(net(), "torch" if crossed == "replica" else crossed).overall
    diagnosis = source.diagnosed(net())
    if str(verdict.state) == "PASS" and diagnosis.agrees:
        return ""
    return f"{crossed} {number}, {model} {task}: {verdict.state} {verdict.decisive}; {diagnosis.to_json()}"


@pytest.mark.parametrize("crossed", ["replica"])
@pytest.mark.parametrize("number", [1, 8])
def test_a_clean_pair_passes(crossed, number, tmp_path):
    assert alarm(crossed, number, tmp_path) == ""


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.mindspore
@pytest.mark.timeout(3600)
def test_a_hundred_clean_pairs(tmp_path):
    pytest.importorskip("tensorflow")
    pytest.importorskip("mindspore")
    assert sum(PAIRS.values()) >= 100
    found = [alarm(crossed, number, tmp_path) for crossed, count in PAIRS.items() for number in range(count)]
    alarms = [one for one in found if one]
    assert len(alarms) <= SHARE * len(found), alarms
