"""Wheel and sources: built without network, whole, and usable without the checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO_DIR = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
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
def installed(wheel, tmp_path_factory):
    """A folder like site-packages that holds the wheel's contents and nothing else."""
    target = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run_installed(code, installed, cwd):
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


def test_installation_reads_every_kernel(installed, tmp_path):
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


def test_installation_carries_presets_types_and_licence(wheel):
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


def test_extras_take_one_dali_build_each(wheel):
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


def test_version_is_the_modules(installed, tmp_path):
    import fastcell

    code = "import fastcell, importlib.metadata as m; print(fastcell.__version__, m.version('fastcell'))"
    assert run_installed(code, installed, tmp_path).split() == [fastcell.__version__] * 2


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The project's source distribution, built from this checkout."""
    out_dir = tmp_path_factory.mktemp("sdist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(out_dir)]
    subprocess.run(command, cwd=REPO_DIR, capture_output=True, text=True, timeout=120, check=True)
    (path,) = out_dir.glob("fastcell-*.tar.gz")
    return path


@pytest.mark.slow
def test_the_index_takes_both_distributions(wheel, sdist):
    pytest.importorskip("twine", reason="twine is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


@pytest.mark.slow
def test_the_sources_make_the_same_wheel(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    for name in (
        "run",
        "docs/index.md",
        "examples/plain_loop.py",
        "CONTRIBUTING.md",
        "CITATION.cff",
        "tests/test_manual.py",
    ):
        assert (folder / name).is_file(), name
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "made")]
    subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    (made,) = (tmp_path / "made").iterdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(made) as other:
        assert {entry.filename: entry.CRC for entry in one.infolist()} == {
            entry.filename: entry.CRC for entry in other.infolist()
        }


@pytest.mark.slow
@pytest.mark.timeout(900)  # the first start compiles loops
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_a_clean_environment_without_the_checkout_works(kind, request, tmp_path):
    """The dependencies are those of this environment: they alone have 2.5 GB."""
    python = tmp_path / "clean" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "clean")], check=True, timeout=120)
    (site,) = (tmp_path / "clean" / "lib").glob("python3*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{sysconfig.get_paths()['platlib']}\n")
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--ignore-installed",
    ]
    path = str(request.getfixturevalue(kind))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words):
        done = subprocess.run(words, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call(python, *install, path)
    assert str(site) in call(python, "-c", "import fastcell; print(fastcell.__file__)")
    program = python.parent / "fastcell"
    call(program, "synth", "cells", "--cells", "400", "--jobs", "1")
    settings = ["--trainer.max_steps=2", "--trainer.max_epochs=-1", "--data.image_size=16", "--data.threads=1"]
    call(program, "fit", "cells", "--preset", "fast", *settings)
    (run,) = (tmp_path / "runs").iterdir()
    call(program, "predict", run, "cells", "--out", "answers.csv")
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 401


def test_version_is_the_one_to_cite_and_the_newest_of_the_changes():
    import fastcell

    assert f"\nversion: {fastcell.__version__}\n" in (REPO_DIR / "CITATION.cff").read_text(encoding="utf-8")
    changes = (REPO_DIR / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{fastcell.__version__}]" in changes
