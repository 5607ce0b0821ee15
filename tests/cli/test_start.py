"""What starting costs: no framework, and for help not even numpy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from typer.testing import CliRunner

from porting.checkpoint import strided
from porting.cli import PARTS, _spelled_out, app_for, word_of
from porting.testing.formats import HEAVY

Port = Callable[..., Any]
APP = app_for()
COMMANDS = [[word_of(command)] for command in APP.registered_commands] + [
    [group.name, word_of(command)]
    for group in APP.registered_groups
    if group.typer_instance and group.name
    for command in group.typer_instance.registered_commands
]


def imported(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter has after running the code."""
    end = "\nimport sys; print('MODULES', *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code + end], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in ran.stdout.rpartition("MODULES ")[2].split()}


def imported_by(*words: str) -> set[str]:
    """The same after `port` was run in it, with success."""
    code = (
        f"import sys; sys.argv = ['port', *{words!r}]\n"
        "from porting.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    modules = imported(code)
    assert "porting" in modules
    return modules


@pytest.mark.parametrize("words", [[], ["convert"], ["families"]], ids=str)
def test_help_imports_neither_numpy_nor_a_framework(words: list[str]) -> None:
    unwanted = {*HEAVY, "numpy", "ml_dtypes", "h5py", "rich", "xxhash", "google_crc32c", "isal"}
    assert not imported_by(*words, "--help") & unwanted


def test_the_package_imports_nothing_heavier_than_numpy() -> None:
    assert not imported("import porting") & {*HEAVY, "ml_dtypes", "h5py", "rich", "typer"}
    code = "import porting\nfor name in porting.__all__: getattr(porting, name)"
    assert not imported(code) & {*HEAVY, "h5py", "rich", "typer"}


def test_a_conversion_imports_no_framework(tmp_path: Any) -> None:
    from made import google_bert, save

    source = save(tmp_path / "a.npz", google_bert(), "npz")
    assert not imported_by("convert", "tf2pt", str(source), "--format", "torch") & {*HEAVY, "rich"}


needs_kernel = pytest.mark.skipif(strided.kernel is None, reason="installed without a C compiler")


@pytest.mark.parametrize("options", [[], ["--no-verify", "--hash", "none"]], ids=["verified", "bare"])
@pytest.mark.parametrize(
    ("kind", "to", "target"),
    [
        ("torch", "modelzoo", "mindspore-ckpt"),
        ("torch", "hf", "safetensors"),
        ("safetensors", "hf", "torch"),
        ("mindspore-ckpt", "hf", "mindspore-safetensors"),
        pytest.param("tf-bundle", "modelzoo", "mindspore-ckpt", marks=needs_kernel),  # these transpose
        pytest.param("npz", "hf", "torch", marks=needs_kernel),
        pytest.param("mindspore-ckpt", "google", "npz", marks=needs_kernel),
        pytest.param("torch", "google", "tf-bundle", marks=needs_kernel),
        pytest.param("safetensors", "google", "tf-bundle", marks=needs_kernel),
    ],
)
def test_a_conversion_does_not_import_numpy(tmp_path: Any, kind: str, to: str, target: str, options: list[str]) -> None:
    """It takes longer to import than many conversions to plan."""
    from made import as_hf, as_modelzoo, google_bert, save

    made = {"mindspore-ckpt": as_modelzoo, "torch": as_hf, "safetensors": as_hf}.get(kind, dict)
    source = save(tmp_path / "a", made(google_bert()), kind)
    words = ["convert", "any", str(source), "--to", to, "--format", target, "-o", str(tmp_path / "out"), *options]
    assert not imported_by(*words) & {*HEAVY, "numpy", "ml_dtypes"}
    assert (tmp_path / ("out.index" if target == "tf-bundle" else "out")).stat().st_size


def test_there_are_the_commands_that_are_promised() -> None:
    promised = [["convert"], ["verify"], ["inspect"], ["diff"], ["families", "new"], ["families", "suggest"]]
    assert all(words in COMMANDS for words in promised)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.app)
def test_a_part_lists_the_commands_that_it_has(part):
    module, _, name = part.app.partition(":")
    commands = getattr(import_module(module), name).registered_commands
    assert bool(part.group) != bool(part.words)
    assert part.group or part.words == tuple(map(word_of, commands))


@pytest.mark.parametrize("words", [["--help"], []], ids=str)
def test_help_lists_what_there_is_as_if_all_of_it_were_mounted(words: list[str]) -> None:
    shown = [CliRunner().invoke(app, words, prog_name="port") for app in (app_for(words), APP)]
    assert shown[0].output == shown[1].output
    assert shown[0].exit_code == shown[1].exit_code
    assert all(f"\n  {word[0]} " in shown[0].output for word in COMMANDS)


def test_a_command_that_is_not_there_is_refused(port: Port) -> None:
    ran = port("convrt", "tf2ms", "x")
    assert (ran.code, ran.out) == (2, "")
    assert "No such command 'convrt'" in ran.err
    assert "convert" in ran.err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_only_what_is_asked_for_is_mounted(words: list[str]) -> None:
    app = app_for(words)
    groups = [group.name for group in app.registered_groups]
    assert [*map(word_of, app.registered_commands), *groups] == words[:1]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(words: list[str], port: Port) -> None:
    ran = port(*words, "--help")
    assert ran.code == 0
    assert "Usage: port " + " ".join(words) in ran.out
    assert ran.err == ""
    shown = [line for line in ran.out.splitlines() if line.strip().startswith("--") and line.strip() != "--help"]
    assert all(len(line.split()) > 1 for line in shown)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["bench", "--models", "bert-tiny"], ["bench", "run", "--models", "bert-tiny"]),
        (["bench", "-o", "matrix"], ["bench", "run", "-o", "matrix"]),
        (["bench", "compare", "a", "b"], ["bench", "compare", "a", "b"]),
        (["bench", "--help"], ["bench", "--help"]),
        (["bench"], ["bench"]),
        (["diff", "--json"], ["diff", "--json"]),
        (["--", "diff", "a"], ["diff", "a"]),
        (["--", "--", "diff"], ["diff"]),
    ],
)
def test_bench_without_a_command_runs(words, meant):
    assert _spelled_out(words) == meant


def test_ctrl_c_while_modules_are_imported_is_one_line() -> None:
    code = """
import sys
class Interrupts:
    def find_spec(self, name, *rest):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from porting.cli import main
main()
"""
    ran = subprocess.run([sys.executable, "-c", code, "inspect", "x"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr == "port: error: interrupted; nothing was left behind\n"
