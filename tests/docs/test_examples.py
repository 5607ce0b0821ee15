"""The examples of the documentation and of docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import porting
import porting_converters
from porting.demo import demo

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FRAMEWORKS = tuple(f"porting.backends.{name}" for name in ("torch", "tensorflow", "mindspore", "onnxruntime"))
WITH_TORCH = {"porting.parity.own", "own_models.md"}


def modules() -> list[str]:
    packages = (porting, porting_converters)
    found = [info.name for p in packages for info in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    return sorted(n for n in found if not n.startswith(FRAMEWORKS) and not n.endswith((".cli", ".h5_index")))


@pytest.mark.parametrize("name", modules())
def test_docstrings(name: str) -> None:
    if name in WITH_TORCH:
        pytest.importorskip("torch")
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name in WITH_TORCH:
        pytest.importorskip("torch")
    text = page.read_text()
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if ">>>" in block]
    monkeypatch.chdir(tmp_path)
    if blocks:
        demo(tmp_path / "made")
        for file in (tmp_path / "made").glob("bert_*"):
            file.rename(tmp_path / file.name)
        for file in ("bert_pytorch.safetensors", "bert_mindspore.ckpt"):
            (tmp_path / file).unlink()
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    result = doctest.DocTestRunner().run(examples)
    assert result.failed == 0
    for link in re.findall(r"\]\(([^)#]+)\)", re.sub(r"`[^`\n]+`", "", text)):  # not in code: `[xla:0](100)`
        if not link.startswith("http"):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo(tmp_path / "made")
    for file in (tmp_path / "made").glob("bert_model*"):
        file.rename(tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "bert.safetensors").exists()
