"""The one catalogue of a report's texts, in English and Chinese. What is data is never translated."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from porting.errors import UsageError, readable
from porting.report.reasons import said

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """Every text: key -> language -> text."""
    return tomllib.loads(files("porting.report").joinpath("words.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language."""

    language: Language = "en"

    def __call__(self, key: str, /, **values: object) -> str:
        """A text, with what its braces name filled in. Raises: KeyError for a key or a value that there is not."""
        text = catalogue()[key][self.language]
        return re.sub(r"{(\w+)}", lambda field: str(values[field[1]]), text)  # once: braces in data are data

    def reason(self, text: str) -> str:
        """What a judge or a reader said, in this language, as one readable line; as it is where no template fits."""
        return readable(text) if self.language == "en" else said(text)

    def name(self, text: str) -> str:
        """What a finding is called: the judges' own names in this language, those of the data as they are."""
        return readable(text) if self.language == "en" else said(text, "name")


def words_in(language: str) -> Words:
    """The texts of a language. Raises: UsageError for one that there is not."""
    for known in LANGUAGES:
        if known == language:
            return Words(known)
    raise UsageError(f"--lang {language}: wanted one of {', '.join(LANGUAGES)}")
