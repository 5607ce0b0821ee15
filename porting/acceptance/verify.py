"""Holds a report against what it was made from: its own files, its inputs, its signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porting.acceptance.inputs import input_of
from porting.acceptance.signature import SUFFIX, Signed, check
from porting.acceptance.trajectory import Input
from porting.errors import FormatError
from porting.report.json import NAME, read_report


@dataclass(frozen=True, slots=True)
class Checked:
    """What was held against a report. compared: files whose bytes were read again. signed: what the signature shows,
    None where there is none. problems: empty if everything is as it was.
    """

    report: Path
    state: str
    compared: int
    signed: Signed | None
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Is everything as it was? It does not ask whether the report is a pass."""
        return not self.problems and self.compared > 0


def verify_report(
    path: str | Path,
    *,
    source: str | Path | None = None,
    target: str | Path | None = None,
    signers: str | Path | None = None,
) -> Checked:
    """Read all files of a report and all of its inputs again, and check the signature.

    path: report.json or its folder. source, target: where the inputs are now, if they were moved. signers: OpenSSH's
    file of allowed signers; with it a report that none of them signed does not hold.
    Raises: FormatError for a report that is none or was changed; UsageError for a file of signers that there is not.
    """
    place = Path(path)
    place = place / NAME if place.is_dir() else place
    values = read_report(place)
    problems = list(_files(place.parent, values["files"]))
    moved = {"source": source, "target": target}
    inputs = [(side, Input(**row)) for side in ("source", "target") for row in values[side]["inputs"]]
    for side, wanted in inputs:
        problems += _input(place.parent, side, wanted, values[side]["path"], moved[side])
    judged_by = {"criteria": values.get("rule_file"), "previous": (values["regression"] or {}).get("previous")}
    others = {name: Input(**row) for name, row in judged_by.items() if row}
    for name, wanted in others.items():
        problems += _input(place.parent, name, wanted, wanted.path, None)
    signed = None
    if values["sign_off"]["signed"] or place.with_name(NAME + SUFFIX).exists() or signers is not None:
        signed = _signed(place, Path(signers) if signers else None, values["sign_off"]["key"])
        problems += [signed.problem] if signed.problem else []
    return Checked(
        place, str(values["state"]), len(inputs) + len(others) + len(values["files"]), signed, tuple(problems)
    )


def _files(folder: Path, files: Mapping[str, Any]) -> Iterator[str]:
    for name, wanted in files.items():
        try:
            if input_of(folder / Path(name).name).hash != wanted:
                yield f"{name}: its bytes are not those that were written"
        except FormatError as error:
            yield f"{name}: {error.problem}"


def _input(folder: Path, side: str, wanted: Input, root: str, moved: str | Path | None) -> Iterator[str]:
    try:
        found = input_of(_where(folder, wanted.path, root, moved))
    except FormatError as error:
        yield f"{side}: {wanted.path}: {error.problem}"
        return
    if found.hash != wanted.hash:
        yield f"{side}: {wanted.path}: its bytes are not those that were judged"


def _where(folder: Path, path: str, root: str, moved: str | Path | None) -> Path:
    """Where an input is: as stated, below where its side is now, or beside the report, for what was moved with it."""
    if moved is not None:
        top = root.rpartition("#")[0] or root
        if path == top or path.startswith(f"{top}/"):
            return Path(moved) / path[len(top) + 1 :]
    stated = Path(path)
    return stated if stated.exists() or stated.is_absolute() else folder.parent / stated


def _signed(report: Path, signers: Path | None, stated: str) -> Signed:
    if not report.with_name(report.name + SUFFIX).is_file():
        return Signed(problem=f"{report.name}{SUFFIX} is missing: the report is not signed")
    found = check(report, signers)
    if not found.problem and found.key != stated:
        return Signed(
            found.key, found.who, f"signed with {found.key}, and the sign-off block names {stated or 'no key'}"
        )
    return found
