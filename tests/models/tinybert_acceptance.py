"""The acceptance table of models/tinybert/README.md, from what the golden tests recorded.

python -m pytest tests/models/test_tinybert_golden.py --junitxml=golden.xml
python tests/models/tinybert_acceptance.py golden.xml
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from tinybert_support import FRAMEWORKS

README = Path(__file__).parents[2] / "models/tinybert/README.md"
START, END = "<!-- acceptance: tests/models/tinybert_acceptance.py -->", "<!-- end of acceptance -->"

# A row: whose, what, its limit, the names under which tests record it.
_HUAWEI = ("huaweis_losses", "huaweis_states", "bert_adam")
ROWS = (
    ("ModelZoo", "hidden states, pooled", "3e-6", ("states", "pooled")),
    ("ModelZoo", "attention scores", "3e-6", ("scores",)),
    ("ModelZoo", "attention scores where masked", "1e-3", ("masked scores",)),
    ("ModelZoo", "losses", "2e-6", ("loss", "attention_loss", "representation_loss")),
    ("ModelZoo", "logits", "3e-6", ("logits",)),
    ("ModelZoo", "log_probs", "4e-6", ("log_probs",)),
    ("ModelZoo", "gradients", "1.5e-5", ("gradients",)),
    ("ModelZoo", "losses of 10 steps", "1e-5", ("trajectory",)),
    ("ModelZoo", "weights after 10 steps", "1e-5", ("weights",)),
    ("ModelZoo", "moments after 10 steps", "1e-5", ("m", "v")),
    ("Huawei", "hidden states, pooled, fit_dense", "3e-6", ("states", "pooled", "fits")),
    ("Huawei", "losses", "2e-6", ("loss", "attention_loss", "representation_loss")),
    ("Huawei", "logits", "3e-6", ("logits",)),
    ("Huawei", "gradients", "1.5e-5", ("gradients",)),
    ("Huawei", "losses of 10 steps", "1e-5", ("trajectory",)),
    ("Huawei", "weights after 10 steps", "1e-5", ("weights",)),
)


def recorded(path: Path) -> Iterator[tuple[str, str, str, float]]:
    """Original, framework, what, deviation. Raises: SystemExit if a test did not pass."""
    for case in ET.parse(path).iter("testcase"):
        name = case.get("name", "")
        if any(case.find(kind) is not None for kind in ("failure", "error", "skipped")):
            raise SystemExit(f"{name}: did not pass")
        framework = next((one for one in FRAMEWORKS if one in name.partition("[")[2]), "")
        original = "Huawei" if any(part in name for part in _HUAWEI) else "ModelZoo"
        for found in case.iter("property"):
            what = found.get("name", "").removeprefix("student ").removeprefix("teacher ")
            yield original, framework, what, float(found.get("value", "inf"))


def table(paths: list[Path]) -> str:
    """Rows of what, columns of frameworks, the greatest deviation of both modes in each."""
    worst: dict[tuple[str, str, str], float] = defaultdict(float)
    for path in paths:
        for original, framework, what, value in recorded(path):
            row = next(name for whose, name, _, whats in ROWS if whose == original and what in whats)
            worst[original, row, framework] = max(worst[original, row, framework], value)
    lines = ["| original | what | PyTorch | TensorFlow | MindSpore | limit |", "|---|---|---|---|---|---|"]
    for original, row, limit, _ in ROWS:
        cells = " | ".join(f"{worst[original, row, framework]:.1e}" for framework in FRAMEWORKS)
        lines.append(f"| {original} | {row} | {cells} | {limit} |")
    return "\n".join(lines)


def main() -> None:
    """Write the table into the port card."""
    before, rest = README.read_text().split(START)
    after = rest.split(END)[1]
    README.write_text(f"{before}{START}\n\n{table([Path(name) for name in sys.argv[1:]])}\n\n{END}{after}")


if __name__ == "__main__":
    main()
