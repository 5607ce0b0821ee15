"""Compiles porting/checkpoint/_strided.c when the package is built. Where that fails, the kit does it with numpy."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

NAME = "porting.checkpoint._strided"
SOURCE = "porting/checkpoint/_strided.c"
BUILT = "porting/checkpoint/_strided.abi3.so"
OLDEST = "cp311"
"""The Python whose stable interface it is compiled for: it serves all later ones."""


class Kernel(BuildHookInterface[Any]):
    """Puts the compiled module beside its source, where an editable installation finds it, and into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Wheels only; a source distribution has the source."""
        if self.target_name != "wheel":
            return
        built = Path(self.root, BUILT)
        try:
            tag = wheel_tag()
            compile_into(built, Path(self.root, SOURCE))
        except Exception as error:  # noqa: BLE001 - whatever a compiler that is not there leads to
            built.unlink(missing_ok=True)  # an older one may be of another source
            self.app.display_warning(f"{SOURCE} was not compiled, transposes will take longer: {error}")
            return
        build_data |= {"pure_python": False, "tag": tag}
        build_data["artifacts"].append(f"/{BUILT}")


def wheel_tag() -> str:
    """The tag of a wheel for this very system, which pip accepts. Raises: LookupError where there is none."""
    for tag in sys_tags():
        portable = tag.platform.startswith(("manylinux", "musllinux"))  # which nobody here has checked
        if (tag.interpreter, tag.abi) == (OLDEST, "abi3") and not portable:
            return str(tag)
    raise LookupError(f"this Python takes no modules of {OLDEST}'s stable interface")


def compile_into(built: Path, source: Path) -> None:
    """Raises: what setuptools raises."""
    from setuptools import Distribution, Extension

    part = built.with_suffix(f".{os.getpid()}.part")
    with tempfile.TemporaryDirectory() as folder:
        extension = Extension(NAME, [str(source)], py_limited_api=True, extra_compile_args=["-O3"])
        command = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = folder
        command.ensure_finalized()
        command.run()
        try:
            shutil.copyfile(command.get_ext_fullpath(NAME), part)
            part.replace(built)
        finally:
            part.unlink(missing_ok=True)
