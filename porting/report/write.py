"""Writes a report: a folder that appears whole, or not at all.

DIR/report.html, report.md, junit.xml       what people and machines read
DIR/report.json                              everything, with the hashes of the others and the sign-off block
DIR/report.json.sig                          the signature, where a key was given
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from porting.acceptance.acceptance import Acceptance
from porting.acceptance.signature import NAMESPACE, SUFFIX, Key, key_of, sign
from porting.errors import FormatError, UsageError
from porting.parity.layout import hashed
from porting.report.html import html
from porting.report.json import NAME, report_json, report_text
from porting.report.junit import junit
from porting.report.markdown import markdown
from porting.report.words import Words

HTML, MARKDOWN, JUNIT = "report.html", "report.md", "junit.xml"

MADE = {HTML, MARKDOWN, JUNIT, NAME, NAME + SUFFIX}


def write_report(
    found: Acceptance,
    folder: str | Path,
    *,
    words: Words | None = None,
    key: Key | str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write all files of a report, and sign it if a key is given.

    Raises: UsageError for a folder that is in use, a key that cannot sign, and a library that is not installed;
    FormatError if the system refuses.
    """
    place, texts = Path(folder).absolute(), words or Words()
    free(place, overwrite=overwrite)
    signer = key_of(key) if isinstance(key, (str, Path)) else key
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _files(found, part, texts, signer)
        _moved(part, place)
    except OSError as error:
        raise FormatError(place, "", f"cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def free(place: Path, *, overwrite: bool) -> None:
    """Whether a report may be written there; asked before anything is judged.

    Raises: UsageError if something is there that is no report, or a report that may not be replaced.
    """
    if place.exists() and not place.is_dir():
        raise UsageError(f"{place}: wanted a folder, got something else")
    inside = {path.name for path in place.iterdir()} if place.is_dir() else set()
    if others := inside - MADE:
        raise UsageError(f"{place}: is a folder with other things in it ({min(others)})")
    if inside and not overwrite:
        raise UsageError(f"{place}: exists already; --overwrite replaces it")


def _files(found: Acceptance, folder: Path, words: Words, key: Key | None) -> None:
    signer = words("sign_off_signed", key=key.fingerprint, by=key.by) if key else ""
    texts = {
        HTML: html(found, words, signer=signer),
        MARKDOWN: markdown(found, words, signer=signer),
        JUNIT: junit(found),
    }
    hashes = {}
    for name, text in texts.items():
        data = text.encode()
        (folder / name).write_bytes(data)
        hashes[name] = hashed(data)
    values = {**report_json(found), "files": hashes, "sign_off": _sign_off(found, key)}
    (folder / NAME).write_bytes(report_text(values).encode())
    if key is not None:
        sign(folder / NAME, key)


def _sign_off(found: Acceptance, key: Key | None) -> dict[str, object]:
    """What a signature states."""
    statement = f"{found.source.name} -> {found.target.name}: {found.state}{', EMULATED' if found.emulated else ''}"
    named = (
        {"key": key.fingerprint, "by": key.by, "namespace": NAMESPACE}
        if key
        else {"key": "", "by": "", "namespace": ""}
    )
    return {"signed": key is not None, **named, "statement": statement}


def _moved(part: Path, place: Path) -> None:
    """Put the folder where it belongs; what was there goes when the new one stands, and comes back if it cannot."""
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    if place.exists():
        place.rename(old)
    try:
        part.rename(place)
    except OSError:
        with suppress(OSError):
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)
