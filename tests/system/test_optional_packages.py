"""Optional packages: imported where they are there, the command of this very environment where they are not."""

import ast
import importlib.metadata
import importlib.util
import json.decoder
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastcell
from fastcell.errors import FastcellError
from fastcell.system import optional_packages
from fastcell.system.optional_packages import install_command, install_hint_of, require

PACKAGE_DIR = Path(fastcell.__file__).parent
NEEDED = [
    "numpy>=1.26",
    "onnx>=1.17; extra == 'onnx'",
    'onnxruntime>=1.20; extra == "onnx"',
    "mkl; (platform_machine == 'x86_64') and extra == 'bench'",
]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment of its own that fastcell is installed in, with pip and without uv."""
    found = {"pip": "there"}
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: NEEDED)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found.get(name))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "check out" / ".venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "check out" / ".venv" / "bin" / "python"))
    (tmp_path / "check out" / ".venv").mkdir(parents=True)
    return tmp_path / "check out"


def set_up_by_run(checkout, extras):
    (checkout / "run").touch()
    (checkout / ".venv" / ".fastcell-setup").write_text(f"{checkout} 123\n{extras}\n")


def test_a_package_that_is_there_is_imported():
    assert require("json.decoder", "formats") is json.decoder


@pytest.mark.parametrize("name", ["no_such_package", "no_such_package.part"])
def test_a_missing_one_says_how_to_install_it(name):
    with pytest.raises(FastcellError) as caught:
        require(name, "onnx")
    assert str(caught.value) == f"the package {name} is not installed. Install it: {install_command(extra='onnx')}"


def test_a_package_that_itself_lacks_another_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        require("half_installed", "formats")


@pytest.mark.parametrize(("asked", "found"), [(None, "1"), ("0", "0")])
def test_onnx_runtime_reports_nothing_unless_it_is_asked_to(tmp_path, asked, found):
    pytest.importorskip("onnxruntime")
    code = "import os; from fastcell.system.optional_packages import require; require('onnxruntime', 'onnx'); "
    code += "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    given = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    given |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)} | (
        {} if asked is None else {"ORT_DISABLE_TELEMETRY": asked}
    )
    given.pop("XDG_CACHE_HOME", None)
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found]
    assert asked or list(tmp_path.iterdir()) == []


def test_pip_of_this_python_installs_the_packages_of_an_extra(environment):
    python = shlex.quote(sys.executable)
    assert python.startswith("'")
    assert install_command(extra="onnx") == f"{python} -m pip install 'onnx>=1.17' 'onnxruntime>=1.20'"
    assert install_command(extra="bench") == f"{python} -m pip install mkl"
    assert install_command("timm") == f"{python} -m pip install timm"


def test_an_active_environment_is_named_shortly(environment, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable if name == "python" else None)
    assert install_command("timm") == "python -m pip install timm"


def test_uv_installs_where_there_is_no_pip(environment, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    python = shlex.quote(sys.executable)
    assert install_command("timm") == f"{python} -m ensurepip && {python} -m pip install timm"
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/uv" if name == "uv" else None)
    assert install_command(extra="onnx") == f"uv pip install --python {python} 'onnx>=1.17' 'onnxruntime>=1.20'"


def test_what_the_script_has_set_up_the_script_adds_to(environment, monkeypatch):
    set_up_by_run(environment, "cpu,dev")
    assert install_command(extra="onnx") == f"FASTCELL_EXTRA=onnx {shlex.quote(str(environment / 'run'))} doctor"
    monkeypatch.chdir(environment)
    assert install_command(extra="onnx") == "FASTCELL_EXTRA=onnx ./run doctor"
    assert install_command("timm").endswith(" -m pip install timm")


def test_an_extra_that_lost_a_package_is_installed_by_its_names(environment):
    set_up_by_run(environment, "cpu,onnx")
    assert install_command(extra="onnx").endswith(" -m pip install 'onnx>=1.17' 'onnxruntime>=1.20'")


def test_without_an_installation_the_extra_is_named(environment, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert install_command(extra="onnx").endswith(" -m pip install 'fastcell[onnx]'")


def test_extras_are_those_of_the_project():
    text = (PACKAGE_DIR.parent / "pyproject.toml").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z0-9-]+) = \[", text.split("[project.optional-dependencies]")[1], re.MULTILINE))
    assert set(optional_packages._EXTRAS.values()) <= known


@pytest.mark.parametrize(
    ("cuda", "module", "extra"),
    [
        (None, "nvidia.dali", "cpu"),
        ((12, 4), "nvidia.dali", "cu12"),
        ((13, 0), "cupy", "cu13"),
        (None, "cupy.cuda", "cu13"),
    ],
)
def test_the_driver_decides_on_the_build(cuda, module, extra, monkeypatch):
    monkeypatch.setattr(optional_packages.resources, "driver_cuda_version", lambda: cuda)
    assert install_hint_of(module) == f"Install it: {install_command(extra=extra)}"


def test_a_module_of_nobody_has_no_hint():
    assert install_hint_of("fastcell.nothing") is None


def imported_modules():
    """Return the modules of other projects that any module of fastcell imports, on use included."""
    found = set()
    for path in PACKAGE_DIR.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found.update(re.findall(r'\brequire\("([\w.]+)"', text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module or "")
    return {name.partition(".")[0] for name in found} - {"fastcell", *sys.stdlib_module_names}


def test_every_module_that_is_imported_has_a_command():
    found = imported_modules()
    assert {"torch", "cupy", "distributed", "torchmetrics", "starlette"} <= found
    assert sorted(name for name in found if install_hint_of(name) is None) == []


def test_no_other_module_writes_such_commands():
    command = re.compile(r"pip install (?!-U '\(\[)|fastcell\[")  # slips.py reads such a message of Lightning
    others = [path for path in PACKAGE_DIR.rglob("*.py") if path.name != "optional_packages.py"]
    assert [str(path) for path in others if command.search(path.read_text(encoding="utf-8"))] == []
