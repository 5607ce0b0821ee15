"""Definitions of nouns out of WordNet 3.0, each with the lexicographer file that it stands in: a data set like GLUE's.

    python definitions.py FOLDER [--data data.noun]

writes FOLDER/train.tsv and dev.tsv (columns `sentence` and `label`) and text.tsv (`sentence` only). The text and the
label are of one line of /usr/share/wordnet/data.noun, a file of the Debian package wordnet-base: its second field is
the number of the lexicographer file, what stands behind the bar is the definition with its examples. The names of the
numbers are those of lexnames(5WN), which is in the same package.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "wordnet-base"
DATA = Path("usr/share/wordnet/data.noun")

LABELS = (
    "act animal artifact attribute body cognition communication event feeling food group location motive object person"
    " phenomenon plant possession process quantity relation shape state substance time"
).split()
FIRST = 4
"""The number of noun.act. 03, noun.Tops, holds the 51 beginnings of the hierarchy and is left out."""

SHARES = {"dev": 0.05, "train": 0.20, "text": 0.40, "rest": 1.0}
"""Up to which part of the hashes a text belongs to a split. What is in no other is not used."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition without its examples. key: its words in lower case, by which texts are equal."""

    text: str
    key: str
    label: str


def definitions(lines: Iterable[str]) -> Iterator[Definition]:
    """Of the lines of a data file, as wndb(5WN) describes it; those of its licence begin with two spaces."""
    for line in lines:
        if line.startswith("  "):
            continue
        fields, _, gloss = line.partition(" | ")
        number = int(fields.split(" ", 2)[1]) - FIRST
        text = re.split(r'[;:] *"', gloss, maxsplit=1)[0].strip()
        key = " ".join(re.findall(r"\w+", text.lower()))
        if number >= 0 and key:
            yield Definition(text, key, LABELS[number])


def distinct(found: Iterable[Definition]) -> list[Definition]:
    """One of each text, in order. A text under two labels is left out: neither is right."""
    texts: dict[str, list[Definition]] = defaultdict(list)
    for one in found:
        texts[one.key].append(one)
    return [same[0] for same in texts.values() if len({one.label for one in same}) == 1]


def split_of(key: str) -> str:
    """Of the hash of a text alone: equal texts are never on two sides, whatever else the file holds."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return next(name for name, share in SHARES.items() if place < share)


def splits(lines: Iterable[str]) -> dict[str, list[Definition]]:
    """The definitions of each split."""
    parts: dict[str, list[Definition]] = {name: [] for name in SHARES}
    for one in distinct(definitions(lines)):
        parts[split_of(one.key)].append(one)
    return parts


def write(parts: Mapping[str, list[Definition]], folder: Path) -> None:
    """One TSV for each split. Those for training without labels are the unlabelled ones and the training set's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "dev"):
        rows = [f"{one.text}\t{one.label}\n" for one in parts[name]]
        (folder / f"{name}.tsv").write_text("".join(["sentence\tlabel\n", *rows]), encoding="utf-8")
    rows = [f"{one.text}\n" for one in (*parts["train"], *parts["text"])]
    (folder / "text.tsv").write_text("".join(["sentence\n", *rows]), encoding="utf-8")


def told(parts: Mapping[str, list[Definition]]) -> Iterator[str]:
    """Sizes, the texts that two splits share, the largest class."""
    for name, rows in parts.items():
        yield f"{name}: {len(rows)} definitions" + {"text": ", labels not used", "rest": ", not used"}.get(name, "")
    for one, two in (("dev", "train"), ("dev", "text"), ("train", "text")):
        both = {row.key for row in parts[one]} & {row.key for row in parts[two]}
        yield f"in {one} and {two}: {len(both)} texts"
    label, count = Counter(one.label for one in parts["dev"]).most_common(1)[0]
    yield f"dev: the largest of {len(LABELS)} classes is {label}, {count / len(parts['dev']):.4f} of it"


def found_data(folder: Path) -> Path | None:
    """data.noun where the package is installed; else out of the package, which apt-get download brings to `folder`.

    None where neither is there.
    """
    installed = Path("/") / DATA
    if installed.is_file():
        return installed
    place = (folder / PACKAGE).absolute()
    try:
        if not (place / DATA).is_file():
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["apt-get", "download", PACKAGE], cwd=place, check=True, capture_output=True, timeout=120)
            (package,) = place.glob(f"{PACKAGE}_*.deb")
            subprocess.run(["dpkg-deb", "-x", package, place], check=True, capture_output=True, timeout=120)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return place / DATA


def main() -> int:
    parser = argparse.ArgumentParser(description="WordNet's definitions of nouns as a data set like GLUE's.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, help=f"data.noun; default: of the package {PACKAGE}")
    asked = parser.parse_args()
    data = asked.data or found_data(asked.folder)
    if data is None:
        sys.stderr.write(f"{PACKAGE}: is not installed, and apt-get download did not bring it\n")
        return 2
    with data.open(encoding="ascii") as lines:
        parts = splits(lines)
    write(parts, asked.folder)
    print("\n".join(told(parts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
