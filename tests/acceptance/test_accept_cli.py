"""`port accept` and `port verify` as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.resources import files

import jsonschema
import pytest
from accept_support import FIELD, capture, descent, estimator

from porting.acceptance.signature import NAMESPACE

NAMES = {"report.html", "report.md", "report.json", "junit.xml"}


@pytest.fixture
def sides(tmp_path):
    a = estimator(tmp_path / "gpu.log", descent(40, noise=1e-4))
    b = estimator(tmp_path / "npu.log", descent(40, noise=1e-4, seed=1))
    return a, b


@pytest.fixture
def accept(port, sides, tmp_path):
    """`port accept` of two logs into DIR/report."""

    def run(*words, output="report"):
        return port("accept", "--source", sides[0], "--target", sides[1], "-o", tmp_path / output, *words)

    return run


@pytest.fixture
def key(tmp_path):
    """An OpenSSH key without a passphrase, and the file of allowed signers that names it."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed (Debian: apt-get install openssh-client)")
    path = tmp_path / "keys" / "id"
    path.parent.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice@example.org", "-f", path], check=True)
    public = path.with_suffix(".pub").read_text()
    (path.parent / "signers").write_text(f'alice@example.org namespaces="{NAMESPACE}" {public}')
    return path


def test_a_report_is_four_files_and_the_exit_code_the_verdict(accept, tmp_path):
    ran = accept()
    assert ran.code == 1
    assert ran.out.startswith("CONDITIONAL  gpu.log → npu.log\n")
    assert ran.err == ""
    assert {path.name for path in (tmp_path / "report").iterdir()} == NAMES
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    schema = json.loads(files("porting.report").joinpath("schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8")), schema)


def test_json_on_the_terminal_is_the_file(accept, tmp_path):
    ran = accept("--json")
    told = json.loads(ran.out)
    assert told["state"] == "CONDITIONAL"
    assert told == {k: v for k, v in json.loads((tmp_path / "report/report.json").read_text()).items() if k != "hash"}


def test_chinese(accept, tmp_path):
    assert accept("--lang", "zh").out.startswith("有条件通过")
    assert 'lang="zh"' in (tmp_path / "report/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lang", "fr"], "--lang fr: wanted one of en, zh"),
        (["--criteria", "wishes"], "criteria wishes: not known"),
        (["--source-step-ms", "-1"], "--source-step-ms -1.0: wanted a number above 0"),
        (["--margin", "nan"], "--margin nan: wanted a number above 0"),
        (["--max-ratio", "-2"], "--max-ratio -2.0: wanted a number above 0"),
        (["--labels", "no-such-labels"], "--labels no-such-labels: no predictions without labels were given"),
        (["--sign", "no-such-key"], "--sign no-such-key: is no key"),
        (["--against", "no-such-report"], "no-such-report: cannot be read"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(accept, tmp_path, words, told):
    ran = accept(*words)
    assert ran.code == 2
    assert told in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (tmp_path / "report").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_report_is_replaced_only_when_asked_and_other_things_never(accept, tmp_path):
    accept()
    old = (tmp_path / "report/report.md").read_bytes()
    ran = accept("--lang", "zh")
    assert (ran.code, "--overwrite replaces it" in ran.err) == (2, True)
    assert (tmp_path / "report/report.md").read_bytes() == old
    assert accept("--lang", "zh", "--overwrite").code == 1
    assert (tmp_path / "report/report.md").read_bytes() != old
    (tmp_path / "report/mine.txt").write_text("x")
    ran = accept("--overwrite")
    assert (ran.code, "with other things in it (mine.txt)" in ran.err) == (2, True)


def test_a_write_that_fails_leaves_the_old_report(accept, tmp_path, monkeypatch):
    accept()
    before = {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("porting.report.write.junit", full)
    ran = accept("--overwrite")
    assert (ran.code, "No space left on device" in ran.err) == (2, True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "report").iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_verify_reads_everything_again(accept, port, sides, tmp_path):
    accept()
    for place in ("report", "report/report.json"):
        ran = port("verify", tmp_path / place)
        assert (ran.code, "holds: 5 files read again" in ran.out) == (0, True)
        assert "not signed" in ran.out
    with sides[1].open("a") as file:
        file.write("INFO:tensorflow:loss = 0.0, step = 41\n")
    ran = port("verify", tmp_path / "report")
    assert ran.code == 1
    assert f"target: {sides[1]}: its bytes are not those that were judged" in ran.out


@pytest.mark.parametrize("name", ["report.html", "report.md", "junit.xml"])
def test_verify_sees_a_changed_file_of_the_report(accept, port, tmp_path, name):
    accept()
    file = tmp_path / "report" / name
    file.write_text(file.read_text(encoding="utf-8").replace("CONDITIONAL", "PASS"), encoding="utf-8")
    ran = port("verify", tmp_path / "report")
    assert (ran.code, f"{name}: its bytes are not those that were written" in ran.out) == (1, True)
    file.unlink()
    assert port("verify", tmp_path / "report").code == 1


def test_verify_refuses_a_changed_report_json(accept, port, tmp_path):
    accept()
    file = tmp_path / "report/report.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"CONDITIONAL"', '"PASS"', 1), encoding="utf-8")
    ran = port("verify", tmp_path / "report")
    assert (ran.code, "was changed after it was written" in ran.err) == (2, True)


def test_verify_finds_inputs_that_were_moved(port, tmp_path):
    capture(tmp_path / "a")
    capture(tmp_path / "b", scale=1 + 1e-7)
    port("accept", "--source", tmp_path / "a", "--target", tmp_path / "b", "-o", tmp_path / "report")
    (tmp_path / "a").rename(tmp_path / "c")
    assert port("verify", tmp_path / "report").code == 1
    assert port("verify", tmp_path / "report", "--source", tmp_path / "c").code == 0
    assert port("verify", tmp_path / "report", "--source", tmp_path / "b").code == 1, "other bytes at that place"


def test_relative_inputs_are_found_beside_the_report(port, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("a", "b"):
        estimator(work / f"{name}.log", descent(40))
    port("accept", "--source", "a.log", "--target", "b.log", "-o", "report")
    monkeypatch.chdir(tmp_path)
    work.rename(tmp_path / "elsewhere")
    assert port("verify", tmp_path / "elsewhere/report").code == 0


def test_a_signature_holds_and_names_its_signer(accept, port, key, tmp_path):
    assert accept("--sign", key).code == 1
    assert (tmp_path / "report/report.json.sig").exists()
    assert "alice@example.org" in (tmp_path / "report/report.html").read_text(encoding="utf-8")
    ran = port("verify", tmp_path / "report")
    assert (ran.code, "whose it is, --signers FILE tells" in ran.out) == (0, True)
    ran = port("verify", tmp_path / "report", "--signers", key.parent / "signers")
    assert (ran.code, "by alice@example.org" in ran.out) == (0, True)


def forged(folder):
    """The report with another verdict, every hash in it made right again: what a hash cannot tell."""
    from porting.parity.layout import SELF, hashed
    from porting.report.json import report_text

    page = folder / "report.md"
    page.write_text(page.read_text(encoding="utf-8").replace("CONDITIONAL", "PASS"), encoding="utf-8")
    values = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    del values[SELF]
    values["state"], values["files"]["report.md"] = "PASS", hashed(page.read_bytes())
    (folder / "report.json").write_text(report_text(values), encoding="utf-8")


def test_a_forger_is_told_by_the_signature_alone(accept, port, key, tmp_path):
    accept(output="plain")
    forged(tmp_path / "plain")
    assert port("verify", tmp_path / "plain").code == 0, "hashes tell an accident"
    accept("--sign", key)
    forged(tmp_path / "report")
    ran = port("verify", tmp_path / "report")
    assert (ran.code, "the signature does not hold" in ran.out) == (1, True)


def test_a_signature_that_was_taken_away_is_missed(accept, port, key, tmp_path):
    accept("--sign", key)
    (tmp_path / "report/report.json.sig").unlink()
    ran = port("verify", tmp_path / "report")
    assert (ran.code, "report.json.sig is missing" in ran.out) == (1, True)


def test_an_unsigned_report_does_not_hold_where_a_signer_is_wanted(accept, port, key, tmp_path):
    accept()
    assert port("verify", tmp_path / "report", "--signers", key.parent / "signers").code == 1


def test_a_stranger_signs_in_vain(accept, port, key, tmp_path):
    other = key.with_name("other")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mallory", "-f", other], check=True)
    accept("--sign", other)
    assert port("verify", tmp_path / "report").code == 0
    ran = port("verify", tmp_path / "report", "--signers", key.parent / "signers")
    assert (ran.code, "none of the signers" in ran.out) == (1, True)
    subprocess.run(  # over the same report by a key that is allowed, for another purpose
        ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "git", "report.json"],
        check=True, cwd=tmp_path / "report", input=b"y\n",
    )  # fmt: skip
    assert port("verify", tmp_path / "report", "--signers", key.parent / "signers").code == 1


def test_what_it_was_judged_by_is_an_input_too(accept, port, tmp_path):
    rule = tmp_path / "ours.toml"
    text = '[[check]]\non = "loss"\nsource = "our own"\nany = [{ measure = "mean rel", limit = 1e-9 }]\n'
    rule.write_text(text)
    accept(output="before")
    accept("--criteria", rule, "--against", tmp_path / "before")
    assert port("verify", tmp_path / "report").code == 0
    rule.write_text(text.replace("1e-9", "1.0"))
    ran = port("verify", tmp_path / "report")
    assert (ran.code, f"criteria: {rule}: its bytes are not those that were judged" in ran.out) == (1, True)
    rule.write_text(text)
    shutil.rmtree(tmp_path / "before")
    assert "previous: " in port("verify", tmp_path / "report").out


@pytest.fixture
def protected(key):
    """A key with the passphrase `secret`."""
    path = key.with_name("protected")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-C", "bob", "-f", path], check=True)
    return path


TYPED = r"""
import os, pty, sys
answers = [b"secret\n", b"wrong\n"]
def read(fd):
    data = os.read(fd, 1024)
    if b"passphrase" in data:
        os.write(fd, answers.pop() if answers else b"\n")
    return data
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read)))
"""
"""Types a wrong passphrase and then the right one, whenever a terminal is asked for one."""


def alone(*words, **options):
    """`port` without a terminal, and with a standard input that never ends; no agent, no askpass."""
    known = {name: value for name, value in os.environ.items() if name not in ("SSH_ASKPASS", "SSH_AUTH_SOCK")}
    environment = {**known, **options}
    ran = subprocess.Popen(
        [sys.executable, "-m", "porting.cli", *map(str, words)], env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        code = ran.wait(60)
    finally:
        ran.kill()
    out, err = ran.communicate()
    return code, out, err


def test_a_passphrase_without_a_terminal_is_one_line(protected, sides, tmp_path):
    words = ("accept", "--source", sides[0], "--target", sides[1], "-o", tmp_path / "report", "--sign", protected)
    code, _, err = alone(*words)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert f"--sign {protected}: has a passphrase, and there is no terminal to ask for it: ssh-add" in err
    assert not (tmp_path / "report").exists()
    code, _, err = alone(*words[:-1], protected.with_suffix(".pub"))
    assert (code, "is a public key, and no ssh-agent holds its other half" in err) == (2, True)
    protected.chmod(0o644)
    protected.with_suffix(".pub").unlink()
    code, _, err = alone(*words)
    assert (code, len(err.splitlines())) == (2, 1), err


def test_a_passphrase_is_asked_for_on_the_terminal(protected, sides, tmp_path, port):
    words = ["accept", "--source", sides[0], "--target", sides[1], "-o", tmp_path / "report", "--sign", protected]
    environment = {name: value for name, value in os.environ.items() if name not in ("SSH_ASKPASS", "SSH_AUTH_SOCK")}
    ran = subprocess.run(
        [sys.executable, "-c", TYPED, sys.executable, "-m", "porting.cli", *map(str, words)],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout
    assert port("verify", tmp_path / "report").code == 0
    assert (tmp_path / "report/report.json.sig").exists()


def test_an_agent_signs_for_a_key_with_a_passphrase(protected, sides, tmp_path, port):
    if shutil.which("ssh-agent") is None or shutil.which("ssh-add") is None:
        pytest.skip("ssh-agent is not installed (Debian: apt-get install openssh-client)")
    asks = tmp_path / "asks"
    asks.write_text("#!/bin/sh\necho secret\n")
    asks.chmod(0o700)
    folder = tempfile.mkdtemp(prefix="s")  # a socket's path is short
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", f"{folder}/a"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if os.path.exists(f"{folder}/a"):  # noqa: PTH110 - a socket
                break
            time.sleep(0.05)
        environment = {**os.environ, "SSH_AUTH_SOCK": f"{folder}/a", "SSH_ASKPASS": str(asks)}
        environment["SSH_ASKPASS_REQUIRE"] = "force"
        subprocess.run(["ssh-add", "-q", protected], env=environment, check=True, stdin=subprocess.DEVNULL)
        words = ("accept", "--source", sides[0], "--target", sides[1], "-o", tmp_path / "report", "--sign", protected)
        code, _, err = alone(*words, SSH_AUTH_SOCK=f"{folder}/a")
        assert (code, err) == (1, "")
        assert port("verify", tmp_path / "report").code == 0
    finally:
        agent.terminate()
        agent.wait()
        shutil.rmtree(folder)


def test_signers_are_for_reports(port, tmp_path):
    ran = port("verify", tmp_path / "x.json", "--signers", tmp_path / "signers")
    assert (ran.code, "only the report of an acceptance is" in ran.err) == (2, True)


def test_against_a_previous_report(accept, port, tmp_path):
    accept(output="before")
    ran = accept("--against", tmp_path / "before")
    assert ran.code == 1
    values = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    assert values["regression"]["changes"] == []
    worse = estimator(tmp_path / "worse.log", descent(40, gap=0.5))
    ran = port(
        "accept", "--source", tmp_path / "gpu.log", "--target", worse, "-o", tmp_path / "after",
        "--against", tmp_path / "before/report.json",
    )  # fmt: skip
    changes = json.loads((tmp_path / "after/report.json").read_text(encoding="utf-8"))["regression"]["changes"]
    assert {"what": "verdict", "before": "CONDITIONAL", "after": "FAIL", "direction": "worse"} in changes
    assert {"what": "L5", "before": "CONDITIONAL", "after": "FAIL", "direction": "worse"} in changes
    assert "Worse than in the previous report" in ran.out
    back = accept("--against", tmp_path / "after", output="again")
    assert "worse" not in back.out.lower()


@pytest.mark.parametrize("side", ["xlnet_loss_table.csv#gpu", "xlnet_gpu_estimator.log"])
def test_field_cases_as_they_are_typed(port, tmp_path, side):
    target = side.replace("gpu", "npu")
    ran = port(
        "accept", "--source", FIELD / side, "--target", FIELD / target, "-o", tmp_path / "report",
        "--source-step-ms", "54.181", "--target-step-ms", "17516.945",
    )  # fmt: skip
    assert ran.code == 1
    assert "323.3" in ran.out
    assert port("verify", tmp_path / "report").code == 0
