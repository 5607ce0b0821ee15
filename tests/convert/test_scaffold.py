import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from porting.convert import scaffold
from porting.convert.scaffold import new_family
from porting.errors import FormatError, UsageError


def test_the_package_installs_and_its_tests_pass(tmp_path):
    """In an environment of its own that sees this one's packages, as a user would type it."""
    pytest.importorskip("hatchling")
    folder = new_family("my_model", tmp_path)
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")}))
    (packages / "kit.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "-e", folder], check=True)
    tests = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    assert "passed" in tests.stdout


def test_nothing_of_the_template_is_left(tmp_path):
    folder = new_family("tiny", tmp_path)
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert files == [
        "README.md",
        "pyproject.toml",
        "src/porting_tiny/__init__.py",
        "src/porting_tiny/family.py",
        "tests/test_family.py",
    ]
    assert not [file for file in files if "@" in (folder / file).read_text()]
    assert folder.stat().st_mode & 0o777 == 0o777 & ~scaffold._umask()


@pytest.mark.parametrize(
    "name", ["", "Model", "my-model", "1model", "a/b", "../up", "model_", "a__b", "x" * 41, "modèle"]
)
def test_bad_names_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="wanted small letters"):
        new_family(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "why"), [("class", "a word of Python"), ("bert", "there already"), ("converters", "installed already")]
)
def test_taken_names_are_refused(tmp_path, name, why):
    with pytest.raises(UsageError, match=why):
        new_family(name, tmp_path)


def test_an_existing_folder_is_kept(tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/mine").write_text("x")
    with pytest.raises(UsageError, match="exists already"):
        new_family("tiny", tmp_path)
    assert (tmp_path / "tiny/mine").read_text() == "x"
    with pytest.raises(UsageError, match="there is no folder"):
        new_family("tiny", tmp_path / "nowhere")


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scaffold, "_fill", full)
    with pytest.raises(FormatError, match="No space left"):
        new_family("tiny", tmp_path)
    assert list(tmp_path.iterdir()) == []
