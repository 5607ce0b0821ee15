"""Compiles porting/checkpoint/_strided.c when the package is built. Where that fails, the kit does it with numpy."""

from __future__ import annotations

import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

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
        try:
            compile_into(Path(self.root, BUILT), Path(self.root, SOURCE))
        except Exception as error:  # noqa: BLE001 - whatever a compiler that is not there leads to
            self.app.display_warning(f"{SOURCE} was not compiled, transposes will take longer: {error}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data |= {"pure_python": False, "tag": f"{OLDEST}-abi3-{platform}"}
        build_data["artifacts"].append(f"/{BUILT}")


def compile_into(built: Path, source: Path) -> None:
    """Raises: what setuptools raises."""
    from setuptools import Distribution, Extension

    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        extension = Extension(NAME, [str(source)], py_limited_api=True, extra_compile_args=["-O3"])
        command = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = folder
        command.ensure_finalized()
        command.run()
        os.replace(command.get_ext_fullpath(NAME), built)  # noqa: PTH105 - whole or not at all
