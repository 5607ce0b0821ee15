"""The recorder: a user's own model in another interpreter, which has numpy and no kit."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from porting.backends.names import BackendName
from porting.backends.process import call
from porting.backends.recorder import recorder
from porting.errors import UsageError

LONG = 60.0
SOURCE = Path(recorder.__file__).read_text()


@pytest.fixture(scope="session")
def other():
    """The oldest interpreter of another version on this machine that has numpy, or None."""
    for minor in (7, 8, 9, 10, 12, 13):
        program = shutil.which(f"python3.{minor}")
        if (
            program
            and subprocess.run([program, "-c", "import numpy"], capture_output=True, check=False).returncode == 0
        ):
            return program
    return None


@pytest.fixture(params=["isolated", "other"])
def python(request, tmp_path, other):
    """An interpreter without the kit: this one with nothing but numpy, and another version if there is one."""
    if request.param == "other":
        if other is None:
            pytest.skip(
                "no other version of Python with numpy on this machine: the recorder was tried in this one only"
            )
        return other
    (tmp_path / "site").mkdir()
    for folder in (Path(np.__file__).parent, Path(np.__file__).parent.with_name("numpy.libs")):
        if folder.exists():
            (tmp_path / "site" / folder.name).symlink_to(folder)
    path = tmp_path / "python"
    place = f"sys.path.append({str(tmp_path / 'site')!r})"
    start = f"import runpy, sys; sys.argv = sys.argv[1:]; {place}; runpy.run_path(sys.argv[0], run_name='__main__')"
    # Of what the kit passes (-u -X faulthandler FILE FD) the last two words count.
    path.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} -S -E -u -c "{start}" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def record(python, tmp_path):
    """Records an entry written as text; the answer and the folder."""

    def run(text, *, function="run", timeout=LONG, beside="", **changes):
        (tmp_path / "model.py").write_text(text)
        (tmp_path / "helper.py").write_text(beside)
        np.savez(tmp_path / "batch.npz", x=np.arange(6, dtype=np.float32).reshape(2, 3), ids=np.array([1, 2], np.int32))
        job = {
            "verb": "record",
            "entry": f"{tmp_path / 'model.py'}:{function}",
            "batch": str(tmp_path / "batch.npz"),
            "folder": str(tmp_path / "taps"),
            **changes,
        }
        backend = BackendName.parse(f"torch:cpu@{python}")
        return call(backend, job, timeout=timeout, folder=tmp_path / "scratch"), tmp_path / "taps"

    return run


def test_the_recorder_is_python_3_7():
    tree = ast.parse(SOURCE, feature_version=(3, 7))
    assert isinstance(tree.body[1], ast.ImportFrom)
    assert tree.body[1].module == "__future__"  # so that annotations are not evaluated
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {"removeprefix", "removesuffix", "is_relative_to", "readlink", "cache"}  # of 3.9
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {"numpy", "__future__"}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names | own
    assert "porting" not in {name.partition(".")[0] for name in imported}


def test_hello_tells_versions(python, tmp_path):
    outcome = call(BackendName.parse(f"torch:cpu@{python}"), {"verb": "hello"}, timeout=LONG, folder=tmp_path / "s")
    assert outcome.state == "done"
    version = subprocess.run(
        [python, "-u", "-X", "faulthandler", "--version"], capture_output=True, text=True, check=False
    )
    assert outcome.result["framework"] == ""
    assert outcome.result["devices"] == []
    assert outcome.result["numpy"].count(".") == 2
    if version.returncode == 0:
        assert f"Python {outcome.result['python']}" in version.stdout


def test_hello_of_a_framework_that_is_not_there_is_a_crash_with_its_text(python, tmp_path):
    job = {"verb": "hello", "framework": "no_such_framework"}
    outcome = call(BackendName.parse(f"torch:cpu@{python}"), job, timeout=LONG, folder=tmp_path / "s")
    assert (outcome.state, outcome.reason) == (
        "crashed",
        "ModuleNotFoundError: No module named 'no_such_framework'",
    )


def test_taps_are_written_in_order_with_an_index(record):
    outcome, folder = record(
        "import numpy as np\n"
        "from helper import twice\n"
        "def run(batch):\n"
        "    yield 'b', twice(batch['x'])\n"
        "    yield 'a', batch['ids']\n"
        "    yield 'half', batch['x'].astype(np.float16)\n"
        "    yield 'scalar', 3.5\n"
        "    yield 'flag', batch['x'] > 2\n",
        beside="def twice(x): return 2 * x\n",
    )
    assert outcome.state == "done"
    index = json.loads((folder / "index.json").read_text())
    assert index == outcome.result
    assert [(tap["name"], tap["shape"], tap["dtype"]) for tap in index["taps"]] == [
        ("b", [2, 3], "float32"),
        ("a", [2], "int32"),
        ("half", [2, 3], "float16"),
        ("scalar", [], "float64"),
        ("flag", [2, 3], "bool"),
    ]
    assert (np.load(folder / index["taps"][0]["file"]) == 2 * np.arange(6).reshape(2, 3)).all()
    assert sorted(path.name for path in folder.iterdir()) == [f"{i:05d}.npy" for i in range(5)] + ["index.json"]


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("{}", "returned no tap"),
        ("None", "wanted a dict, or pairs, of name and array, got NoneType"),
        ("[1, 2]", "wanted pairs of name and array, got int"),
        ("[('a', 1), ('a', 2)]", "gave the tap a twice"),
        ("{'a': 'text'}", "tap a: wanted numbers, got str of dtype"),
        ("{'a': [object()]}", "tap a: wanted numbers, got list of dtype object"),
        ("{3: [1]}", "wanted pairs of name and array, got tuple"),
    ],
)
def test_what_is_no_capture_is_refused_and_leaves_no_index(returned, problem, record):
    with pytest.raises(UsageError) as refused:
        record(f"def run(batch):\n    return {returned}\n")
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"entry": "/no/such.py:run"}, "wanted FILE.py:FUNCTION, and there is no file /no/such.py"),
        ({"entry": "run"}, "wanted FILE.py:FUNCTION, and there is no file run"),
        ({"function": "walk"}, "there is no function walk in"),
    ],
)
def test_an_entry_that_is_none_is_refused(changes, problem, record):
    with pytest.raises(UsageError) as refused:
        record("def run(batch):\n    return {}\n", **changes)
    assert problem in str(refused.value)


def test_an_exception_of_the_model_is_a_crash_with_its_traceback(record):
    outcome, folder = record("def run(batch):\n    yield 'a', [1.0]\n    raise KeyError('no such layer')\n")
    assert (outcome.state, outcome.reason) == ("crashed", "KeyError: 'no such layer'")
    assert any("model.py" in line and "in run" in line for line in outcome.tail)
    assert not (folder / "index.json").exists()


def test_a_crash_of_the_model_is_told(record):
    outcome, _ = record("import os\ndef run(batch):\n    os.abort()\n")
    assert outcome.reason.startswith("killed by SIGABRT")


def test_a_hang_of_the_model_is_told_with_its_place(record):
    outcome, _ = record("import time\ndef run(batch):\n    time.sleep(600)\n", timeout=4)
    assert outcome.reason == "did not end within 4 s and was killed"
    assert any("model.py" in line and "in run" in line for line in outcome.tail)


def test_a_folder_that_is_there_is_not_written_into(record, tmp_path):
    (tmp_path / "taps").mkdir()
    outcome, _ = record("def run(batch):\n    return {'a': [1.0]}\n")
    assert outcome.reason.startswith("FileExistsError")


@pytest.mark.torch
def test_tensors_of_torch_are_taken(tmp_path):
    pytest.importorskip("torch")
    text = (
        "import torch\n"
        "def run(batch):\n"
        "    x = torch.from_numpy(batch['x']).requires_grad_()\n"
        "    return {'x': x, 'brain': x.bfloat16(), 'half': x.half()}\n"
    )
    (tmp_path / "model.py").write_text(text)
    np.savez(tmp_path / "batch.npz", x=np.ones((2, 3), np.float32))
    job = {"verb": "record", "entry": f"{tmp_path / 'model.py'}:run", "batch": str(tmp_path / "batch.npz")}
    backend = BackendName.parse(f"torch:cpu@{sys.executable}")
    outcome = call(backend, {**job, "folder": str(tmp_path / "taps")}, timeout=LONG, folder=tmp_path / "scratch")
    assert outcome.state == "done"
    assert [tap["dtype"] for tap in outcome.result["taps"]] == ["float32", "float32", "float16"]
    assert outcome.result["framework"] == "torch"
