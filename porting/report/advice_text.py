"""What to look at next, in words."""

from __future__ import annotations

from porting.acceptance.acceptance import Advice
from porting.report.words import Words

EVENTS = ("recompilations", "cpu_fallbacks", "overflows")


def advice_text(words: Words, advice: Advice) -> str:
    """One piece of advice in the catalogue's language, with what it names from the data."""
    values = {name: words.reason(value) for name, value in advice.values.items()}
    if "side" in values:
        values["side"] = words(values["side"])
    if "how" in values:
        values["how"] = " ".join(words(f"how_{key}") for key in values["how"].split())
    counted = [f"{words(name)}: {values[name]}" for name in EVENTS if name in values]
    values["counted"] = f" {'; '.join(counted)}." if counted else ""
    return words(f"advice_{advice.key}", **values)
