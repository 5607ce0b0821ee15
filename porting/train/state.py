"""Training states on disk, from which a run that was killed goes on to the same trajectory.

A state is one safetensors file, `state-STEPS.safetensors`: the parameters and both moments of Adam as tensors
(`weights.NAME`, `m.NAME`, `v.NAME`, in the names of the framework that trained), and in its metadata one JSON object
with all else. It appears under its name whole or not at all, and older states are removed after that only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from porting.backends.feed import ROLES
from porting.backends.protocol import Array, Counters, Session
from porting.checkpoint.entry import Checkpoint
from porting.checkpoint.output import make_folder
from porting.errors import FormatError, UsageError
from porting.parity.prepare import content_hash

KEY = "porting.train.state"
"""Of the JSON object in the metadata."""
VERSION = 1
_NAME = re.compile(r"state-([0-9]{8,})\.safetensors")


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the data the next batch begins. epoch: from 0. batch: of that epoch, from 0."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """All of a state but its tensors.

    run: what the run is, as JSON values (recipe, data, seed): a state goes on in an equal run only.
    """

    counters: Counters
    position: Position
    run: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """A training state. weights and slots: as `Session.weights` and `Session.slots` give them."""

    mark: Mark
    weights: Mapping[str, Array]
    slots: Mapping[str, Mapping[str, Array]]

    @classmethod
    def of(cls, session: Session, position: Position, run: Mapping[str, Any]) -> State:
        """Where a session stands. Raises: UsageError if it was opened without a recipe."""
        return cls(Mark(session.counters(), position, run), session.weights(), session.slots())

    def restore(self, session: Session) -> None:
        """Make a session stand here. Raises: MismatchError, before anything is changed, if it is another model."""
        before = session.weights()
        session.load(self.weights)
        try:
            session.resume(self.mark.counters, self.slots)
        except BaseException:
            session.load(before)
            raise


def save(folder: Path, state: State, *, keep: int = 1) -> Path:
    """Write a state, then remove all but the newest `keep`. Returns its file.

    Raises: UsageError for a `keep` below 1; FormatError if the system refuses to write: then nothing is removed.
    """
    from porting.checkpoint.write import write

    if keep < 1:
        raise UsageError(f"max_ckpt_num: wanted at least 1, got {keep}")
    tensors = _tensors(state)
    said = {"version": VERSION, **asdict(state.mark), "hash": content_hash(tensors)}
    said["self"] = _text_hash(said)
    path = state_path(folder, state.mark.counters.steps)
    make_folder(folder)
    write(path, tensors, format="safetensors", overwrite=True, metadata={KEY: json.dumps(said, sort_keys=True)})
    for old in states(folder)[:-keep]:
        if old != path:  # of a run that was wound back: what was written last stays whatever its number
            old.unlink(missing_ok=True)
    return path


def state_path(folder: Path, steps: int) -> Path:
    """The file of the state after so many steps."""
    return folder / f"state-{steps:08d}.safetensors"


def states(folder: Path) -> list[Path]:
    """The states of a folder, the one of most steps last; none if there is no folder."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def read_state(path: Path) -> State:
    """A state, its hashes checked.

    Raises: FormatError for a file that is no state, is damaged, or is of another version of the format.
    """
    from porting.checkpoint.registry import read

    checkpoint = read(path, format="safetensors")
    mark, wanted = _marked(path, checkpoint)
    tensors = {name: np.array(entry.read()) for name, entry in checkpoint.items()}
    if (got := content_hash(tensors)) != wanted:
        raise FormatError(path, "tensors", f"are damaged: wanted hash {wanted}, got {got}")
    return State(mark, _part("weights", tensors), {role: _part(role, tensors) for role in ROLES})


def read_mark(path: Path) -> Mark:
    """All of a state but its tensors, which are not read. Raises: FormatError."""
    from porting.checkpoint.registry import read

    return _marked(path, read(path, format="safetensors"))[0]


def _marked(path: Path, checkpoint: Checkpoint) -> tuple[Mark, str]:
    """The mark, and the hash of the tensors as it stands beside it. Raises: FormatError."""
    try:
        said = json.loads(checkpoint.metadata[KEY])
        version, own, wanted = said["version"], said.pop("self"), said["hash"]
    except (KeyError, ValueError, TypeError, AttributeError):
        raise FormatError(path, "", "wanted a training state, got another safetensors file") from None
    if version != VERSION:
        raise FormatError(path, "version", f"wanted {VERSION}, got {version}")
    if own != _text_hash(said):
        raise FormatError(path, KEY, "is damaged: its hash is another")
    return Mark(Counters(**said["counters"]), Position(**said["position"]), said["run"]), wanted


def check_run(path: Path, mark: Mark, run: Mapping[str, Any]) -> None:
    """Raises: UsageError naming what differs, if a state is of another run."""
    wanted = json.loads(json.dumps(run))
    differing = sorted(key for key in {*mark.run, *wanted} if mark.run.get(key) != wanted.get(key))
    if differing:
        lines = ", ".join(f"{key}: {mark.run.get(key)} there, {wanted.get(key)} here" for key in differing)
        raise UsageError(f"{path}: is of another run: {lines}")


def _tensors(state: State) -> dict[str, Array]:
    parts = {"weights": state.weights, **state.slots}
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def _part(part: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def _text_hash(said: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
