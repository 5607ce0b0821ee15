"""Files of predictions as evidence of L7: read by content, paired where they may be, refused in a line."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from accept_support import capture, evaluation

from porting.acceptance import resampling
from porting.acceptance.accept import accept
from porting.acceptance.answer_file import read_answers
from porting.acceptance.matched import matched
from porting.acceptance.resampling import bounds, drawn_measures, tango
from porting.errors import PortError
from porting.metrics import MEASURES
from porting.parity.state import Level, State

COUNT = 300


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """What is tested here needs no fine quantiles."""
    monkeypatch.setattr(resampling, "RESAMPLES", 100)


@pytest.fixture
def task():
    """Labels of two classes, and margins of a source that has most of them right."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, COUNT)
    return labels, (labels * 2 - 1) * 1.5 + random.normal(0, 1.2, COUNT)


def lines(path, labels, margins, *, ids=True, order=None, **extra):
    """JSON lines of predictions."""
    rows = [
        {"label": int(label), "prediction": int(margin > 0), "score": float(margin), **extra}
        | ({"id": f"dev-{n}"} if ids else {})
        for n, (label, margin) in enumerate(zip(labels, margins, strict=True))
    ]
    path.write_text("".join(json.dumps(rows[n]) + "\n" for n in (range(len(rows)) if order is None else order)))
    return path


def results(path, margins):
    """What run_classifier.py writes: probabilities, no head, no labels."""
    ones = 1 / (1 + np.exp(-margins))
    path.write_text("".join(f"{1 - one}\t{one}\n" for one in ones))
    return path


def table(path, labels, margins, mark):
    rows = [mark.join(("idx", "sentence", "label", "logits_0", "logits_1"))]
    rows += [
        mark.join((str(n), '"a', str(label), f"{-margin}", f"{margin}"))
        if mark == "\t"
        else mark.join((str(n), f'"a{mark} b"', str(label), f"{-margin}", f"{margin}"))
        for n, (label, margin) in enumerate(zip(labels, margins, strict=True))
    ]
    path.write_text("\r\n".join(rows) + "\r\n")
    return path


def test_every_form_of_file_says_the_same(tmp_path, task):
    labels, margins = task
    (tmp_path / "gold").write_text("".join(f"{label}\n" for label in labels))
    np.savez(tmp_path / "a.npz", labels=labels, logits=np.stack([-margins, margins], 1))
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(lines(tmp_path / "a.jsonl", labels, margins).read_bytes()))
    files = [
        tmp_path / "a.jsonl",
        packed,
        tmp_path / "a.npz",
        table(tmp_path / "a.tsv", labels, margins, "\t"),
        table(tmp_path / "a.csv", labels, margins, ","),
        results(tmp_path / "test_results.tsv", margins),
    ]
    wanted = {name: MEASURES[name](labels, (margins > 0).astype(int)) for name in ("accuracy", "f1", "matthews")}
    wanted |= {"auc": MEASURES["auc"](labels, margins), "acc_and_f1": (wanted["accuracy"] + wanted["f1"]) / 2}
    for file in files:
        answers = read_answers(file, tmp_path / "gold")
        found = {name: one.value for name, one in answers.metrics().items()}
        assert found == pytest.approx(wanted, abs=1e-9), file.name
        assert all(one.interval[0] < one.value < one.interval[1] for one in answers.metrics().values()), file.name


def test_they_are_sklearns_and_scipys(tmp_path, task):
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    labels, margins = task
    found = read_answers(lines(tmp_path / "a", labels, margins)).metrics()
    answers = (margins > 0).astype(int)
    assert found["f1"].value == pytest.approx(metrics.f1_score(labels, answers))
    assert found["auc"].value == pytest.approx(metrics.roc_auc_score(labels, margins))
    assert found["matthews"].value == pytest.approx(metrics.matthews_corrcoef(labels, answers))
    values = labels * 2.5 + np.round(margins, 1) / 10
    (tmp_path / "b").write_text(
        "label\tprediction\n" + "".join(f"{a}\t{b}\n" for a, b in zip(values, margins, strict=True))
    )
    found = read_answers(tmp_path / "b").metrics()
    assert set(found) == {"pearson", "spearman"}
    assert found["pearson"].value == pytest.approx(stats.pearsonr(values, margins).statistic)
    assert found["spearman"].value == pytest.approx(stats.spearmanr(values, margins).statistic)


def test_a_draw_is_a_metric_of_that_many_copies(task):
    """The weighted forms against the plain ones of examples that are repeated; scikit-learn's where it is there."""
    labels, margins = task
    margins = np.round(margins, 1)  # ties
    weights = np.random.default_rng(1).integers(0, 4, COUNT)
    rows = np.repeat(np.arange(COUNT), weights)
    answers = (margins > 0).astype(int)
    for name in ("f1", "acc_and_f1", "matthews", "auc", "pearson", "spearman"):
        given = answers if name in ("f1", "acc_and_f1", "matthews") else margins
        weighted = resampling._weighted(name, labels, given)(weights.astype(float))
        assert weighted == pytest.approx(MEASURES[name](labels[rows], given[rows])), name
    metrics = pytest.importorskip("sklearn.metrics")
    auc = resampling._weighted("auc", labels, margins)(weights.astype(float))
    assert auc == pytest.approx(metrics.roc_auc_score(labels, margins, sample_weight=weights))


def test_pairs_are_found_by_ids_in_any_order(tmp_path, task):
    labels, margins = task
    order = np.random.default_rng(2).permutation(COUNT)
    one = read_answers(lines(tmp_path / "a", labels, margins))
    two = read_answers(lines(tmp_path / "b", labels, margins + 1e-6, order=order))
    found = matched(one, two)
    assert found.paired
    assert found.findings[0].state is State.PASS
    low, high = found.differences["accuracy"]
    assert (low, high) == pytest.approx(tango(0, 0, COUNT))
    assert found.differences["auc"][1] < 0.02, "the same answers, held together, are told closely"


def test_pairs_are_found_by_the_sequence_of_labels(tmp_path, task):
    labels, margins = task
    one = read_answers(lines(tmp_path / "a", labels, margins, ids=False))
    same = matched(one, read_answers(lines(tmp_path / "b", labels, margins)))
    assert same.paired
    assert "the labels of 300 examples are the same, in order" in same.findings[0].reason
    other = matched(one, read_answers(lines(tmp_path / "c", labels[::-1], margins[::-1], ids=False)))
    assert not other.paired
    assert other.findings[0].state is State.CONDITIONAL
    assert "unpaired" in other.findings[0].reason
    wide, narrow = (found.differences["matthews"] for found in (other, same))
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_predictions_of_one_side_alone_are_compared_unpaired_and_it_is_said(tmp_path, task):
    labels, margins = task
    found = accept(evaluation(tmp_path / "a.log", 0.9), lines(tmp_path / "b", labels, margins)).level(Level.TASK)
    examples, accuracy, *rest = found.findings
    assert (examples.state, examples.what) == (State.CONDITIONAL, "examples")
    assert examples.reason == "only the target gave predictions: compared as two samples, unpaired"
    assert accuracy.what == "accuracy"
    assert {one.state for one in rest} == {State.UNMATCHED}


def test_ids_that_mean_harm_stay_text(tmp_path, port):
    for name, label in (("a", 0), ("b", 1)):
        row = {"id": "<script>alert(1)</script>|`x`\u202e", "label": label, "prediction": 1}
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    for lang in ("en", "zh"):
        words = ("--source", tmp_path / "a", "--target", tmp_path / "b", "--lang", lang)
        assert port("accept", *words, "-o", tmp_path / lang).code == 1
        assert "<script>alert(1)" not in (tmp_path / lang / "report.html").read_text(encoding="utf-8")
        assert "<" not in (tmp_path / lang / "report.md").read_text(encoding="utf-8")


def test_other_labels_under_the_same_ids_fail(tmp_path, task):
    labels, margins = task
    changed = labels.copy()
    changed[7] = 1 - changed[7]
    a, b = lines(tmp_path / "a", labels, margins), lines(tmp_path / "b", changed, margins)
    found = accept(a, b)
    assert found.level(Level.TASK).state is State.FAIL
    assert "1 of 300 common examples have another label on the target, first dev-7" in found.decisive.reason


def test_some_ids_in_common_are_two_samples(tmp_path, task):
    labels, margins = task
    a = read_answers(lines(tmp_path / "a", labels, margins))
    b = read_answers(lines(tmp_path / "b", labels[:200], margins[:200]))
    found = matched(a, b)
    assert not found.paired
    assert found.findings[0].reason.startswith("200 ids in common of 300 (source) and 200 (target)")


@pytest.mark.parametrize(("share", "state"), [(0.0, State.PASS), (0.2, State.FAIL)])
def test_the_level_passes_with_enough_examples_and_fails_on_worse(tmp_path, share, state):
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 4000)
    margins = (labels * 2 - 1) * 1.5 + random.normal(0, 1, 4000)
    worse = np.where(random.random(4000) < share, -margins, margins)
    found = accept(lines(tmp_path / "a", labels, margins), lines(tmp_path / "b", labels, worse))
    assert found.level(Level.TASK).state is state, found.level(Level.TASK).findings
    assert found.state is not State.PASS, "one level of eight"
    assert {one.name for one in found.qualities} == {"accuracy", "f1", "acc_and_f1", "matthews", "auc"}
    assert all(one.paired and one.interval for one in found.qualities)


def test_few_examples_that_agree_are_no_pass(tmp_path, task):
    """All of a plain bootstrap's draws agree where all of the answers do."""
    labels, margins = task
    for count in (3, 12, 60):
        a = lines(tmp_path / f"a{count}", labels[:count], margins[:count])
        b = lines(tmp_path / f"b{count}", labels[:count], margins[:count] + 1e-9)
        found = accept(a, b).level(Level.TASK)
        rows = {one.what: one.state for one in found.findings if one.what != "examples"}
        assert set(rows.values()) == {State.CONDITIONAL}, rows


def test_no_finite_predictions_are_told_and_fail(tmp_path, task):
    labels, margins = task
    (tmp_path / "gold").write_text("".join(f"{label}\n" for label in labels))
    broken = margins.copy()
    broken[5] = np.nan
    found = accept(
        results(tmp_path / "a.tsv", margins), results(tmp_path / "b.tsv", broken), labels=tmp_path / "gold"
    ).level(Level.TASK)
    assert found.state is State.FAIL
    assert "0 predictions are no finite numbers (source), 1 (target)" in [one.reason for one in found.findings]


def test_they_stand_beside_logs_and_say_where_a_log_differs(tmp_path, task):
    labels, margins = task
    a, b = lines(tmp_path / "a", labels, margins), lines(tmp_path / "b", labels, margins)
    log = evaluation(tmp_path / "eval.log", 0.5)
    found = accept([log, a], [log, b])
    value = next(one for one in found.qualities if one.name == "accuracy").target.value
    assert value == pytest.approx(np.mean((margins > 0) == labels))
    assert any("was printed as 0.5" in note for note in found.target.notes)
    assert {one.path for one in found.source.inputs} == {str(log), str(a)}


@pytest.mark.parametrize("place", ["run/{side}-predictions.jsonl", "run/{side}/predictions.jsonl"])
def test_they_are_found_in_the_folders_of_parity(tmp_path, task, place):
    labels, margins = task
    for side, backend in (("source", "torch:cpu"), ("target", "tensorflow:cpu")):
        capture(tmp_path / "run" / side, backend=backend)
        lines(tmp_path / place.format(side=side), labels, margins)
    found = accept(tmp_path / "run", tmp_path / "run")
    assert found.level(Level.TASK).compared > 1
    assert found.level(Level.WEIGHTS).compared


def test_a_folder_of_results_and_labels(tmp_path, task, port):
    labels, margins = task
    for side in ("gpu", "npu"):
        folder = tmp_path / side
        folder.mkdir()
        results(folder / "test_results.tsv", margins)
        (folder / "labels.txt").write_text("label\n" + "".join(f"{label}\n" for label in labels))
        evaluation(folder / "eval.log", 0.9)
    ran = port("accept", "--source", tmp_path / "gpu", "--target", tmp_path / "npu", "-o", tmp_path / "report")
    assert ran.code == 1, ran.err
    values = json.loads((tmp_path / "report/report.json").read_text())
    assert {one["name"] for one in values["qualities"]} >= {"accuracy", "auc", "f1"}
    assert {row["path"].rpartition("/")[2] for row in values["source"]["inputs"]} == {
        "test_results.tsv",
        "labels.txt",
        "eval.log",
    }
    assert port("verify", tmp_path / "report").code == 0


def test_beside_a_capture_without_training(tmp_path, task):
    labels, margins = task
    sides = [[capture(tmp_path / n), lines(tmp_path / f"{n}.jsonl", labels, margins)] for n in "ab"]
    found = accept(*sides)
    assert found.source.kind == "capture"
    assert found.level(Level.TASK).compared
    assert found.level(Level.FORWARD).compared


def test_words_as_labels(tmp_path):
    rows = [{"gold_label": "entailment", "pred": word} for word in ("entailment", "neutral")] * 30
    (tmp_path / "a").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_answers(tmp_path / "a").metrics()
    assert set(found) == {"accuracy", "matthews"}
    assert found["accuracy"].value == 0.5
    assert found["matthews"].interval is None, "draws of one label tell nothing"


HEADED = '{"id": 1, "label": 0, "prediction": 1}\n'
BAD = {
    "a line that is none": (HEADED + "{", "line 2: is no JSON object"),
    "a key that is not there": (HEADED + '{"id": 2, "label": 0}', "line 2: has no prediction"),
    "an id twice": (HEADED * 2, "the id 1 stands there 2 times"),
    "no labels": ('{"prediction": 1}\n', "holds predictions and no labels; --labels FILE gives them"),
    "a ragged table": ("label,prediction\n1,1\n1\n", "line 3: wanted 2 cells, got 1"),
    "an empty cell": ("label\tprediction\n1\t\n", "line 2: has no prediction"),
    "a head alone": ("label,prediction\n", "holds no prediction"),
    "words for numbers": ("label,prediction\n1,yes\n0,no\n", "its labels are numbers and its predictions words"),
    "a label beyond all": ("label,prediction\n1e999,1\n", "example 0: its label is no finite number"),
    "a class beyond all": ("label,prediction\n1e300,1\n", "a class of that size is none"),
    "a label that is a list": ('{"label": [1], "prediction": 1}\n', "its label is neither a number nor a word"),
    "scores that are words": ('{"label": 1, "logits": ["a", "b"]}\n', "its scores are no numbers"),
    "scores of odd number": ('{"label": 1, "logits": [1, 2]}\n{"label": 1, "logits": [1]}\n', "not as many in every"),
    "two columns of labels": ("label,gold,prediction\n1,1,1\n", "has several columns of one kind: label, gold"),
    "a script for an id": (HEADED.replace("1,", '"<script>\\u001b[2J",', 1) * 2, "stands there 2 times"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(tmp_path, port, name):
    text, told = BAD[name]
    (tmp_path / "bad").write_text(text)
    ran = port("accept", "--source", tmp_path / "bad", "--target", tmp_path / "bad", "-o", tmp_path / "report")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
    assert told in ran.err
    assert "\x1b" not in ran.err
    assert not (tmp_path / "report").exists()


def test_bad_arrays_are_one_line(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.ones(3), predictions=np.ones(4))
    with pytest.raises(PortError, match=r"wanted an answer for each example, got labels \(3,\), found \(4,\)"):
        read_answers(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", labels=np.array([object()]), predictions=np.ones(1))
    with pytest.raises(PortError, match="is no file of arrays"):
        read_answers(tmp_path / "b.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PortError, match="is no file of arrays"):
        read_answers(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", weights=np.ones(3))
    assert read_answers(tmp_path / "d.npz") is None


def test_labels_that_do_not_fit(tmp_path, task):
    labels, margins = task
    file = results(tmp_path / "test_results.tsv", margins)
    (tmp_path / "few").write_text("1\n0\n")
    (tmp_path / "none").write_text("nothing of the kind\n")
    for name, told in (("few", "holds 2 labels for 300 predictions"), ("none", "wanted labels"), ("no", "no such")):
        with pytest.raises(PortError, match=told):
            read_answers(file, tmp_path / name)
    with pytest.raises(PortError, match="two files of predictions"):
        accept([lines(tmp_path / "a", labels, margins), lines(tmp_path / "b", labels, margins)], tmp_path / "a")


@pytest.mark.parametrize(
    "text", ["step,loss,label\n1,2.0,1\n", '{"step": 1, "loss": 2.0, "score": 1}\n', "", "hello\n"]
)
def test_what_is_none_of_predictions(tmp_path, text):
    (tmp_path / "a").write_text(text)
    assert read_answers(tmp_path / "a") is None


class TestTango:
    def test_it_has_a_width_where_nothing_differs(self):
        z = 1.6448536
        assert tango(0, 0, 50) == pytest.approx((-(z**2) / (50 + z**2), z**2 / (50 + z**2)))

    def test_it_is_as_wide_one_way_as_the_other(self):
        low, high = tango(12, 3, 100)
        assert tango(3, 12, 100) == pytest.approx((-high, -low))
        assert low < 0.09 < high

    @pytest.mark.parametrize(("one", "other"), [(0.02, 0.02), (0.1, 0.05)])
    def test_it_covers_as_often_as_it_says(self, one, other):
        random, count = np.random.default_rng(0), 200
        drawn = random.multinomial(count, [one, other, 1 - one - other], 400)
        inside = [low <= one - other <= high for low, high in (tango(int(a), int(b), count) for a, b, _ in drawn)]
        assert 0.86 <= np.mean(inside) <= 0.95


def test_draws_say_nothing_of_few_examples_or_one_label():
    labels = np.array([0, 1] * 4)
    assert drawn_measures(["f1"], labels, [{"f1": labels}]) is None
    assert drawn_measures(["f1"], np.ones(50, int), [{"f1": np.ones(50, int)}]) is None
    assert bounds(np.array([1.0, np.nan]), 0.9) is None
