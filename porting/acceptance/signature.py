"""Detached signatures by OpenSSH: `ssh-keygen -Y` signs report.json, and with it the hashes of all other files.

A signature says that the holder of a key stated something; whose key it is only a file of allowed signers tells
(`man ssh-keygen`, ALLOWED SIGNERS), a line each: `alice@example.org ssh-ed25519 AAAA…`.

A key with a passphrase signs through ssh-agent, or ssh-keygen asks for it on the terminal (or by SSH_ASKPASS). Where it
can do neither, that is said before anything is judged.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from porting.errors import UsageError

NAMESPACE = "port-acceptance"
"""What the signature is for: one made for something else does not count."""

SUFFIX = ".sig"

PUBLIC = (b"ssh-", b"ecdsa-", b"sk-")
"""What a file with a public key begins with."""

TRIES = 3
"""To type a passphrase."""

AGENT = 10
"""Seconds that an agent may take to say which keys it holds."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is named in a sign-off. fingerprint: `SHA256:…`; by: the key's comment."""

    path: Path
    fingerprint: str
    by: str


def key_of(path: str | Path) -> Key:
    """A key's fingerprint and comment. Raises: UsageError for what is no key, or one that cannot sign here."""
    ran = _keygen("-l", "-f", str(path))
    words = ran.stdout.split()
    if ran.returncode or len(words) < 3:
        raise UsageError(f"--sign {path}: is no key: {_last(ran)}")
    found = Key(Path(path), words[1], " ".join(words[2:-1]))
    problem = _problem(found)
    if problem:
        raise UsageError(f"--sign {path}: {problem}")
    return found


def _problem(key: Key) -> str:
    """Why a key cannot sign here; empty if it can, or if whoever holds its passphrase can be asked."""
    ran = _keygen("-y", "-P", "", "-f", str(key.path))
    if not ran.returncode or _in_agent(key):
        return ""
    if key.path.read_bytes()[:64].startswith(PUBLIC):
        return "is a public key, and no ssh-agent holds its other half: name the private key, or ssh-add it"
    if "passphrase" not in ran.stderr:
        return f"does not sign: {_last(ran)}"
    if _can_ask():
        return ""
    return f"has a passphrase, and there is no terminal to ask for it: ssh-add {key.path} beforehand, in ssh-agent"


def _in_agent(key: Key) -> bool:
    """Whether ssh-agent holds a key."""
    binary = which("ssh-add")
    if binary is None:
        return False
    try:
        ran = subprocess.run(  # noqa: S603 - words of our own
            [binary, "-l"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=AGENT
        )
    except subprocess.TimeoutExpired:
        return False
    return key.fingerprint in ran.stdout.split()


def _can_ask() -> bool:
    """Whether ssh-keygen can ask for a passphrase: on the terminal, or by the program that OpenSSH is told of."""
    if os.environ.get("SSH_ASKPASS"):
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def sign(file: Path, key: Key) -> Path:
    """Sign a file; the signature lies beside it. A passphrase is asked for, three times at most.

    Raises: UsageError if the key cannot sign.
    """
    made = file.with_name(file.name + SUFFIX)
    for _ in range(TRIES):
        ran = _keygen("-Y", "sign", "-f", str(key.path), "-n", NAMESPACE, str(file), ask=True)
        if not ran.returncode or "incorrect passphrase" not in ran.stderr:
            break
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
    if ask:  # on the terminal, which is not its standard input: that may be a pipe that never ends
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603 - words of our own
    return subprocess.run(command, input=data or "", capture_output=True, text=True, check=False)  # noqa: S603 - likewise


def _last(ran: subprocess.CompletedProcess[str]) -> str:
    lines = (ran.stderr or ran.stdout).strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen ended with {ran.returncode}"
