"""Detached signatures by OpenSSH: `ssh-keygen -Y` signs report.json, and with it the hashes of all other files.

A signature says that the holder of a key stated something; whose key it is only a file of allowed signers tells
(`man ssh-keygen`, ALLOWED SIGNERS), a line each: `alice@example.org ssh-ed25519 AAAA…`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from porting.errors import UsageError

NAMESPACE = "port-acceptance"
"""What the signature is for: one made for something else does not count."""

SUFFIX = ".sig"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is named in a sign-off. fingerprint: `SHA256:…`; by: the key's comment."""

    path: Path
    fingerprint: str
    by: str


def key_of(path: str | Path) -> Key:
    """A key's fingerprint and comment. Raises: UsageError for what is no key."""
    ran = _keygen("-l", "-f", str(path))
    words = ran.stdout.split()
    if ran.returncode or len(words) < 3:
        raise UsageError(f"--sign {path}: is no key: {_last(ran)}")
    return Key(Path(path), words[1], " ".join(words[2:-1]))


def sign(file: Path, key: Key) -> Path:
    """Sign a file; the signature lies beside it. A passphrase is asked for on the terminal.

    Raises: UsageError if the key cannot sign.
    """
    ran = _keygen("-Y", "sign", "-f", str(key.path), "-n", NAMESPACE, str(file), ask=True)
    made = file.with_name(file.name + SUFFIX)
    if ran.returncode or not made.is_file():
        raise UsageError(f"--sign {key.path}: does not sign: {_last(ran)}")
    return made


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature shows. key: fingerprint of the key that made it; who: an allowed signer, where one was asked."""

    key: str = ""
    who: str = ""
    problem: str = ""


def check(file: Path, signers: Path | None = None) -> Signed:
    """Whether the signature beside a file is one of its bytes. signers: the file of allowed signers, who it must be of.

    Raises: UsageError for a file of signers that there is not.
    """
    made = file.with_name(file.name + SUFFIX)
    if signers is None:
        ran = _keygen("-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(made), given=file)
        return _result(ran, "")
    if not signers.is_file():
        raise UsageError(f"--signers {signers}: there is no such file")
    found = _keygen("-Y", "find-principals", "-s", str(made), "-f", str(signers))
    names = found.stdout.split()
    if found.returncode or not names:
        return Signed(problem=f"the key of the signature is none of the signers in {signers}")
    who = names[0].split(",")[0]
    ran = _keygen("-Y", "verify", "-f", str(signers), "-I", who, "-n", NAMESPACE, "-s", str(made), given=file)
    return _result(ran, who)


def _result(ran: subprocess.CompletedProcess[str], who: str) -> Signed:
    if ran.returncode:
        return Signed(problem=f"the signature does not hold: {_last(ran)}")
    key = next((word for word in ran.stdout.split() if word.startswith("SHA256:")), "")
    return Signed(key, who)


def _keygen(*words: str, given: Path | None = None, ask: bool = False) -> subprocess.CompletedProcess[str]:
    """Run ssh-keygen. given: a file on its standard input. ask: whether it may ask on the terminal."""
    binary = which("ssh-keygen")
    if binary is None:
        raise UsageError("ssh-keygen is not installed; it comes with OpenSSH 8.1 or later")
    command: Sequence[str] = (binary, *words)
    data = given.read_text(encoding="utf-8") if given else None
    if ask:
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - words of our own
    return subprocess.run(command, input=data or "", capture_output=True, text=True, check=False)  # noqa: S603 - likewise


def _last(ran: subprocess.CompletedProcess[str]) -> str:
    lines = (ran.stderr or ran.stdout).strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen ended with {ran.returncode}"
