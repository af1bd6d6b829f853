"""Adds berth.v1, made from the repository's proto/, to what pyproject.toml describes."""

import os
from pathlib import Path

from grpc_tools import protoc
from setuptools import setup
from setuptools.command.build_py import build_py

PROTO = Path(__file__).resolve().parents[2] / "proto"
MODULES = ["generation", "inference", "model", "session"]


class BuildWithStubs(build_py):
    def run(self) -> None:
        super().run()
        # An editable install imports from the sources.
        out = Path(__file__).resolve().parent if self.editable_mode else Path(self.build_lib)
        (out / "berth" / "v1").mkdir(parents=True, exist_ok=True)
        (out / "berth" / "v1" / "__init__.py").touch()
        well_known = Path(protoc.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}"]
        files = [os.path.join("berth", "v1", f"{name}.proto") for name in MODULES]
        if protoc.main(arguments + files) != 0:
            raise RuntimeError(f"protoc failed over {PROTO}")


setup(cmdclass={"build_py": BuildWithStubs})
