"""The wheel: built without network, unpacked elsewhere, complete."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO_DIR = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from this checkout."""
    out_dir = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out_dir)],
        cwd=REPO_DIR,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (path,) = out_dir.glob("fastcell-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like site-packages that holds the wheel's contents and nothing else."""
    target = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run_installed(code: str, installed: Path, cwd: Path) -> str:
    """Run ``code`` where ``fastcell`` is the installed one and the checkout is out of reach."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_installation_reads_every_kernel(installed: Path, tmp_path: Path) -> None:
    kernels = sorted(p for p in (REPO_DIR / "kernels").iterdir() if p.suffix in (".cu", ".cuh"))
    assert "normalize.cu" in [path.name for path in kernels]
    code = """
import sys
import fastcell
from fastcell.ops.cuda_kernels import kernel_dir, kernel_source
print(fastcell.__file__)
print(kernel_dir())
for name in sys.stdin.read().split():
    print(name, hash(kernel_source(name)))
""".replace("sys.stdin.read().split()", repr([path.name for path in kernels]))
    code = code.replace("hash(kernel_source(name))", "kernel_source(name).encode().hex()")
    package, directory, *sources = run_installed(code, installed, tmp_path).splitlines()
    assert Path(package) == installed / "fastcell" / "__init__.py"
    assert Path(directory) == installed / "fastcell" / "_kernels"
    assert sources == [f"{path.name} {path.read_bytes().hex()}" for path in kernels]


def test_installation_carries_presets_types_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        version = wheel.name.split("-")[1]
        metadata = archive.read(f"fastcell-{version}.dist-info/METADATA").decode()
        entry_points = archive.read(f"fastcell-{version}.dist-info/entry_points.txt").decode()
    presets = {f"fastcell/presets/{path.name}" for path in (REPO_DIR / "fastcell" / "presets").glob("*.yaml")}
    assert {"fastcell/presets/demo.yaml", "fastcell/presets/paper.yaml", "fastcell/presets/fast.yaml"} <= presets
    assert presets | {"fastcell/py.typed", f"fastcell-{version}.dist-info/licenses/LICENSE"} <= names
    assert {name.split("/")[0] for name in names} == {"fastcell", f"fastcell-{version}.dist-info"}
    assert "fastcell = fastcell.cli.main:main" in entry_points
    assert "License-Expression: Apache-2.0" in metadata
    for extra in ("cpu", "cu12", "cu13", "dev", "bench"):
        assert f"Provides-Extra: {extra}" in metadata


def test_extras_take_one_dali_build_each(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(metadata).decode().splitlines()
    needs = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    dali = {extra: [n for n in needs if "dali" in n and f"'{extra}'" in n] for extra in ("cpu", "cu12", "cu13")}
    assert {extra: [n.split(">")[0] for n in found] for extra, found in dali.items()} == {
        "cpu": ["nvidia-dali-cuda130"],
        "cu12": ["nvidia-dali-cuda120"],
        "cu13": ["nvidia-dali-cuda130"],
    }
    assert not [n for n in needs if "dali" in n and "extra" not in n]


def test_version_is_the_modules(installed: Path, tmp_path: Path) -> None:
    import fastcell

    code = "import fastcell, importlib.metadata as m; print(fastcell.__version__, m.version('fastcell'))"
    assert run_installed(code, installed, tmp_path).split() == [fastcell.__version__] * 2
