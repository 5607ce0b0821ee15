"""L7: metrics, their intervals, equivalence in both directions."""

from __future__ import annotations

import numpy as np
import pytest

from porting.acceptance.matched import Matched
from porting.acceptance.predictions import metric
from porting.acceptance.task import MARGIN, difference, fisher, interval, judge_task, wilson
from porting.acceptance.trajectory import Metric
from porting.errors import UsageError
from porting.metrics import MEASURES
from porting.parity.presets import RULES
from porting.parity.state import Level, State


def judged(source, target, **options):
    verdict = judge_task({"accuracy": source}, {"accuracy": target}, **options)
    return verdict, verdict.findings[0]


class TestVerdict:
    def test_within_the_margin_and_enough_examples_is_a_pass(self):
        verdict, found = judged(Metric(0.9086, 200_000), Metric(0.9080, 200_000))
        assert verdict.level is Level.TASK
        assert verdict.state is State.PASS
        assert found.limit == MARGIN

    def test_too_few_examples_show_nothing(self):
        verdict, found = judged(Metric(0.9086, 872), Metric(0.9086, 872))
        assert verdict.state is State.CONDITIONAL
        assert "too few examples" in found.reason

    def test_better_is_as_far_off_as_worse(self):
        for value in (0.88, 0.94):
            verdict, found = judged(Metric(0.91, 100_000), Metric(value, 100_000))
            assert verdict.state is State.FAIL
            assert "beyond the margin" in found.reason

    def test_the_margin_is_the_users(self):
        assert judged(Metric(0.91, 100_000), Metric(0.88, 100_000), margin=0.05)[0].state is State.PASS

    def test_without_a_count_there_is_no_interval(self):
        verdict, found = judged(Metric(0.9086), Metric(0.9086))
        assert verdict.state is State.CONDITIONAL
        assert "no interval" in found.reason

    def test_paired_predictions_narrow_it(self):
        known = Matched({"accuracy": (-0.001, 0.002)}, paired=True, findings=())
        assert judged(Metric(0.9086, 872), Metric(0.9090, 872), answers=known)[0].state is State.PASS

    def test_what_is_printed_too_coarsely_does_not_pass(self):
        source = Metric(0.91, 10**7, 0.01)
        assert judged(source, Metric(0.91, 10**7, 0.01))[0].state is State.CONDITIONAL
        assert judged(source, Metric(0.92, 10**7, 0.01))[0].state is State.CONDITIONAL
        assert judged(source, Metric(0.95, 10**7, 0.01))[0].state is State.FAIL

    def test_a_metric_of_one_side_is_unmatched(self):
        verdict = judge_task({"accuracy": Metric(0.9, 100)}, {"f1": Metric(0.9, 100)})
        assert verdict.state is State.UNMATCHED
        assert [one.reason for one in verdict.findings] == ["the target has none", "the source has none"]

    def test_nothing_is_not_run(self):
        assert judge_task({}, {}).state is State.NOT_RUN

    def test_nan_fails(self):
        assert judged(Metric(0.9, 100), Metric(float("nan"), 100))[0].state is State.FAIL

    def test_the_published_field_cases(self):
        """BERT-large against RoBERTa-3-large on an NPU, and TinyBERT on two machines."""
        verdict, found = judged(Metric(0.9895), Metric(0.9635))
        assert verdict.state is State.FAIL
        assert "-0.026" in found.reason
        assert judged(Metric(0.9039), Metric(0.90367))[0].state is State.CONDITIONAL

    def test_modelzoos_rule_stands_beside(self):
        rule = RULES["modelzoo"]
        good = judge_task({"accuracy": Metric(0.9, 10**6)}, {"accuracy": Metric(0.897, 10**6)}, rule=rule)
        bad = judge_task({"accuracy": Metric(0.9, 10**6)}, {"accuracy": Metric(0.88, 10**6)}, rule=rule)
        assert good.findings[1].state is State.PASS
        assert bad.findings[1].state is State.FAIL
        assert bad.findings[1].source.startswith("ModelZoo")
        silent = judge_task({"final_loss": Metric(1.0)}, {"final_loss": Metric(1.0)}, rule=rule)
        assert silent.findings[1].state is State.NOT_RUN


class TestIntervals:
    @pytest.mark.parametrize(("share", "count"), [(0.5, 100), (0.9, 872), (1.0, 30), (0.0, 30)])
    def test_wilson_covers_as_often_as_it_says(self, share, count):
        drawn = np.random.default_rng(0).binomial(count, share, 400) / count
        inside = [low - 1e-12 <= share <= high + 1e-12 for low, high in (wilson(float(one), count) for one in drawn)]
        assert np.mean(inside) >= 0.92

    def test_newcombes_own_example(self):
        """56 of 70 against 48 of 80 (Statistics in Medicine 17, 1998, table II a, method 10): 0.0524 to 0.3339."""
        found = difference("accuracy", Metric(48 / 80, 80), Metric(56 / 70, 70), level=0.95)
        assert found == pytest.approx((0.0524, 0.3339), abs=1e-4)

    def test_fisher(self):
        assert fisher(0.5, 103) == pytest.approx((0.3393, 0.6323), abs=1e-4)
        assert fisher(0.5, 3) is None
        assert fisher(1.5, 100) is None
        assert fisher(1.0, 100)[1] <= 1

    def test_a_metric_without_one(self):
        assert interval("f1", Metric(0.9, 100)) is None
        assert interval("accuracy", Metric(0.9)) is None
        assert interval("accuracy", Metric(float("nan"), 10)) is None
        assert difference("f1", Metric(0.9, 100), Metric(0.9, 100)) is None


class TestPredictions:
    @staticmethod
    def answers():
        """Labels, predictions, scores with ties."""
        random = np.random.default_rng(3)
        labels = random.integers(0, 2, 400)
        found = np.where(random.random(400) < 0.85, labels, 1 - labels)
        scores = np.round(labels + random.normal(0, 0.8, 400), 1)
        return labels, found, scores

    def test_they_are_sklearns_and_scipys(self):
        metrics = pytest.importorskip("sklearn.metrics")
        stats = pytest.importorskip("scipy.stats")
        labels, found, scores = self.answers()
        wanted = {
            "accuracy": metrics.accuracy_score(labels, found),
            "f1": metrics.f1_score(labels, found),
            "matthews": metrics.matthews_corrcoef(labels, found),
            "auc": metrics.roc_auc_score(labels, scores),
            "pearson": stats.pearsonr(labels, scores).statistic,
            "spearman": stats.spearmanr(labels, scores).statistic,
        }
        for name, value in wanted.items():
            given = scores if name in ("auc", "pearson", "spearman") else found
            assert metric(name, labels, given).value == pytest.approx(value), name

    def test_matthews_of_several_classes(self):
        metrics = pytest.importorskip("sklearn.metrics")
        random = np.random.default_rng(4)
        labels, found = random.integers(0, 4, 200), random.integers(0, 5, 200)
        assert MEASURES["matthews"](labels, found) == pytest.approx(metrics.matthews_corrcoef(labels, found))

    @pytest.mark.parametrize("name", MEASURES)
    def test_nothing_to_tell_is_a_number(self, name):
        same = np.ones(5, int)
        assert np.isfinite(MEASURES[name](same, same))
        assert np.isfinite(MEASURES[name](np.zeros(5, int), np.zeros(5, int)))

    def test_what_is_no_number_is_told(self):
        labels, _, scores = self.answers()
        scores[3] = np.inf
        assert all(np.isnan(metric(name, labels, scores).value) for name in ("auc", "pearson", "spearman"))

    def test_what_is_asked_wrongly(self):
        labels, found, _ = self.answers()
        with pytest.raises(UsageError, match="not known"):
            metric("bleu", labels, found)
        with pytest.raises(UsageError, match="a prediction for each label"):
            metric("f1", labels, found[:-1])
