"""``./run``: what it installs, when, and what it hands on. Python, pip, uv and nvidia-smi are stand-ins that log."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

REPO_DIR = Path(__file__).resolve().parent.parent
TOOLS = ["sh", "cat", "chmod", "cksum", "cp", "dirname", "grep", "head", "mkdir", "rm", "sed", "tr", "touch"]

# The virtual environment's python is a copy. What is installed is an empty folder.
PYTHON = """#!/bin/sh
site=$(dirname "$0")/../lib/python3.11/site-packages
case "$*" in
"-c import torch"*) [ -d "$site/torch" ]; exit ;;
-c*) exit 0 ;;
*"pip config get global.find-links") printf '%s\\n' "$FAKE_LINKS"; exit ;;
esac
printf 'python %s\\n' "$*" >>"$LOG"
case "$*" in
"-m venv "*) mkdir -p "$3/bin" "$3/lib/python3.11/site-packages" && cp "$0" "$3/bin/python" ;;
*"$FAKE_FAILS"*) exit 1 ;;
*--editable*)
    mkdir -p "$site/torch" "$site/nvidia/dali" "$site/pytorch_lightning"
    printf '#!/bin/sh\\nprintf "<%%s>" "$@"\\nexit 5\\n' >"$(dirname "$0")/fastcell"
    chmod +x "$(dirname "$0")/fastcell" ;;
esac
"""

UV = """#!/bin/sh
printf 'uv %s links=%s\\n' "$*" "$UV_FIND_LINKS" >>"$LOG"
venv=$(dirname "$LOG")/checkout/.venv
case "$*" in
venv*) mkdir -p "$venv/bin" && cp "$(dirname "$0")/python3" "$venv/bin/python" ;;
*"$FAKE_FAILS"*) exit 1 ;;
*--editable*) LOG=/dev/null "$venv/bin/python" -m pip install --editable x ;;
esac
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def checkout(tmp_path):
    path = tmp_path / "checkout"
    path.mkdir()
    shutil.copy(REPO_DIR / "run", path / "run")
    shutil.copy(REPO_DIR / "pyproject.toml", path / "pyproject.toml")
    return path


@pytest.fixture
def bin_dir(tmp_path):
    """All programs that the script can find: the system's small tools and the stand-in for Python."""
    path = tmp_path / "bin"
    path.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (path / tool).symlink_to(found)
    add_program(path, "python3", PYTHON)
    return path


def add_program(bin_dir, name, text):
    (bin_dir / name).write_text(text)
    (bin_dir / name).chmod(0o755)


@pytest.fixture
def run(checkout, bin_dir, tmp_path):
    """Call ``./run`` from another folder; ``fails`` names the installation that is to fail."""

    def call(*arguments, extra="cpu", fails="nothing-fails", links=""):
        environment = {"PATH": str(bin_dir), "LOG": str(tmp_path / "log"), "FAKE_FAILS": fails, "FAKE_LINKS": links}
        if extra is not None:
            environment["FASTCELL_EXTRA"] = extra
        (tmp_path / "log").write_text("")
        return subprocess.run(
            [str(checkout / "run"), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return call


def log(checkout):
    text = (checkout.parent / "log").read_text().replace(str(checkout), "ROOT")
    return text.splitlines()


@pytest.mark.parametrize("shell", ["sh", "dash", "bash --posix", "busybox sh"])
def test_syntax(shell):
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([*shell.split(), "-n", "run"], cwd=REPO_DIR, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_first_call_sets_up_then_hands_over(run, checkout):
    done = run("pack", "a folder", "--pattern={class}/{name}", "")
    assert (done.returncode, done.stdout) == (5, "<pack><a folder><--pattern={class}/{name}><>"), done.stderr
    assert log(checkout) == [
        "python -m venv ROOT/.venv",
        "python -m pip install --quiet --no-index --no-deps torch>=2.11",
        "python -m pip install --quiet --editable ROOT[cpu]",
    ]


def test_later_calls_install_nothing(run, checkout):
    run("fit")
    start = time.perf_counter()
    done = run("fit", "--help")
    print(f"{time.perf_counter() - start:.3f} s for a call once set up")
    assert (done.returncode, done.stdout, done.stderr) == (5, "<fit><--help>", "")
    assert log(checkout) == []


def test_tests_bring_the_dev_extra_and_keep_it(run, checkout):
    run("fit")
    assert run("test", "-k", "a or b").returncode == 0
    assert log(checkout) == [
        "python -m pip install --quiet --editable ROOT[cpu,dev]",
        "python -m pytest -k a or b",
    ]
    run("test")
    (command,) = log(checkout)
    assert command.startswith("python -m pytest --numprocesses logical --maxprocesses 2 --dist loadfile ")
    (checkout / "pyproject.toml").open("a").write("# changed")
    assert run("fit").returncode == 5
    assert log(checkout) == ["python -m pip install --quiet --editable ROOT[cpu,dev]"]


def test_further_extras_are_added_and_stay(run, checkout):
    run("fit")
    assert run("fit", extra="formats,onnx").returncode == 5
    assert log(checkout) == ["python -m pip install --quiet --editable ROOT[cpu,formats,onnx]"]
    for extra in (None, "cpu", "onnx", "onnx,cpu"):
        run("fit", extra=extra)
        assert log(checkout) == []
    run("test", extra="serve")
    assert log(checkout)[0] == "python -m pip install --quiet --editable ROOT[cpu,serve,dev,formats,onnx]"
    (checkout / "pyproject.toml").open("a").write("\n# changed\n")
    run("fit", extra=None)
    assert log(checkout) == ["python -m pip install --quiet --editable ROOT[cpu,serve,dev,formats,onnx]"]


def test_the_manual_is_built_with_its_extra(run, checkout):
    run("fit")
    assert run("docs").returncode == 0
    assert log(checkout) == [
        "python -m pip install --quiet --editable ROOT[cpu,docs]",
        "python -m sphinx -q -W --keep-going -c docs -d ROOT/.venv/doctrees . site",
    ]


def test_the_tests_bring_what_the_manual_needs(run, checkout):
    run("test")
    run("docs")
    assert log(checkout) == ["python -m sphinx -q -W --keep-going -c docs -d ROOT/.venv/doctrees . site"]


def test_a_moved_checkout_is_set_up_again(run, checkout):
    run("fit")
    stamp = checkout / ".venv" / ".fastcell-setup"
    stamp.write_text(stamp.read_text().replace(str(checkout), "/elsewhere"))
    assert run("fit").returncode == 5
    assert log(checkout) == ["python -m pip install --quiet --editable ROOT[cpu]"]


@pytest.mark.parametrize("failing", ["--editable", "torch>=2.11"])
def test_an_unfinished_set_up_is_made_anew(failing, run, checkout):
    first = run("fit", fails=failing)
    assert first.returncode == 2
    assert "Run this again afterwards." in first.stderr
    second = run("fit")
    assert second.returncode == 5
    assert "replacing it" in second.stderr
    assert log(checkout)[0] == "python -m venv ROOT/.venv"


@pytest.mark.parametrize("lost", ["bin/python", "bin/fastcell", "lib/python3.11/site-packages/torch"])
def test_a_damaged_set_up_is_mended(lost, run, checkout):
    run("fit")
    path = checkout / ".venv" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert run("fit").returncode == 5
    assert "python -m pip install --quiet --editable ROOT[cpu]" in log(checkout)
    run("fit")
    assert log(checkout) == []


@pytest.mark.parametrize("dev", [False, True])
def test_another_extra_never_joins_the_first(dev, run, checkout):
    run("test" if dev else "fit")
    run("fit", extra="cu13")
    installs = log(checkout)
    assert installs[0] == "python -m venv ROOT/.venv"
    assert installs[-1] == "python -m pip install --quiet --editable ROOT[cu13]"
    assert run("fit", extra=None).returncode == 5  # what is set up stays, whatever the machine
    assert log(checkout) == []


DF = """#!/bin/sh
echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
echo "/dev/vda1 263174212 53478272 {} 51% /some place"
"""


def test_a_disk_that_is_too_full_is_named_before_anything_is_installed(run, checkout, bin_dir):
    add_program(bin_dir, "df", DF.format(4_000_000))
    done = run("test")
    assert done.returncode == 2
    assert "about 6 GB of disk space, 4 GB free" in done.stderr
    assert "the installation needs about 6 GB of disk space, got 4 GB in" in done.stderr
    assert (log(checkout), (checkout / ".venv").exists()) == ([], False)
    done = run("fit")
    assert (done.returncode, "about 4 GB of disk space, 4 GB free" in done.stderr) == (5, True)
    add_program(bin_dir, "df", DF.format(1_000_000))
    (checkout / "pyproject.toml").open("a").write("# changed")
    assert run("fit").returncode == 5  # an update
    done = run("test")
    assert (done.returncode, "about 2 GB of disk space, got 1 GB in" in done.stderr) == (2, True)


SMI = "#!/bin/sh\necho '| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: {}     |'\n"


@pytest.mark.parametrize(("cuda", "extra"), [("13.0", "cu13"), ("14.1", "cu13"), ("12.8", "cu12"), ("11.8", "cpu")])
def test_the_drivers_cuda_picks_the_extra(cuda, extra, run, checkout, bin_dir):
    add_program(bin_dir, "nvidia-smi", SMI.format(cuda))
    assert run("fit", extra=None).returncode == 5
    assert log(checkout)[-1] == f"python -m pip install --quiet --editable ROOT[{extra}]"


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("smi", [None, "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n"])
def test_no_driver_means_cpu(smi, run, checkout, bin_dir):
    if smi is not None:
        add_program(bin_dir, "nvidia-smi", smi)
    assert run("fit", extra=None).returncode == 5
    assert log(checkout)[-1] == "python -m pip install --quiet --editable ROOT[cpu]"


@pytest.mark.parametrize(("extra", "asks_uv"), [("cpu", True), ("cu12", True), ("cu13", False)])
def test_torch_comes_from_the_smallest_place_that_has_it(extra, asks_uv, run, checkout):
    done = run("fit", extra=extra, fails="--no-deps")  # no folder of wheels has it
    assert done.returncode == 5
    installs = [line.removeprefix("python -m pip install --quiet ") for line in log(checkout)[1:]]
    assert installs[0] == "--no-index --no-deps torch>=2.11"
    assert installs[1:] == [*(["uv"] if asks_uv else []), "torch>=2.11", f"--editable ROOT[{extra}]"]


@pytest.mark.parametrize(("extra", "backend"), [("cpu", "cpu"), ("cu12", "auto")])
def test_pip_lets_uv_fetch_torch(extra, backend, run, checkout, tmp_path):
    """The package uv, which pip installs, knows PyTorch's builds; what follows goes through pip again."""
    add_program(tmp_path, "uv", UV)
    add_program(
        checkout.parent / "bin",
        "python3",
        PYTHON.replace(
            "*--editable*)", '*"quiet uv") cp "$(dirname "$LOG")/uv" "$(dirname "$0")/uv" ;;\n*--editable*)'
        ),
    )
    assert run("fit", extra=extra, fails="--no-deps").returncode == 5
    lines = log(checkout)
    assert lines[-2].startswith(f"uv pip install --python ROOT/.venv/bin/python --torch-backend {backend} torch>=2.11")
    assert lines[-1] == f"python -m pip install --quiet --editable ROOT[{extra}]"


def test_uv_serves_where_it_is(run, checkout, bin_dir):
    add_program(bin_dir, "uv", UV)
    assert run("fit", links="/wheels /more").returncode == 5
    python = "ROOT/.venv/bin/python"
    assert log(checkout) == [
        "uv venv --quiet --python python3 ROOT/.venv links=/wheels,/more",
        f"uv pip install --python {python} --no-index --no-deps torch>=2.11 links=/wheels,/more",
        f"uv pip install --python {python} --editable ROOT[cpu] links=/wheels,/more",
    ]


@pytest.mark.parametrize(("extra", "backend"), [("cpu", "cpu"), ("cu12", "auto"), ("cu13", "auto")])
def test_uv_picks_torchs_backend(extra, backend, run, checkout, bin_dir):
    add_program(bin_dir, "uv", UV)
    assert run("fit", extra=extra, fails="--no-index").returncode == 5
    assert log(checkout)[-2].endswith(f"--torch-backend {backend} torch>=2.11 links=")


def test_errors_say_the_way_out(run, checkout, bin_dir):
    done = run("fit", extra="cuda")
    assert done.returncode == 2
    assert "FASTCELL_EXTRA must be names of cpu cu12 cu13 formats" in done.stderr
    assert "with commas between, got 'cuda'. Correct it." in done.stderr
    done = run("fit", extra="cpu,cu13")
    assert done.returncode == 2
    assert "FASTCELL_EXTRA must have one of cpu, cu12 and cu13, got 'cpu,cu13'. Name one." in done.stderr
    (bin_dir / "python3").unlink()
    done = run("fit")
    assert done.returncode == 2
    assert "Python must be 3.10 or newer, got none." in done.stderr
    assert not (checkout / ".venv").exists()


def test_a_checkpoint_is_tested_by_fastcell(run):
    done = run("test", "--ckpt_path", "best.ckpt")
    assert (done.returncode, done.stdout) == (5, "<test><--ckpt_path><best.ckpt>")


def test_a_run_is_tested_by_fastcell(run, tmp_path):
    folder = tmp_path / "some run"
    folder.mkdir()
    (folder / "config.yaml").touch()
    (folder / "last.ckpt").touch()
    for place in (folder, folder / "last.ckpt"):
        done = run("test", str(place), "cells")
        assert (done.returncode, done.stdout) == (5, f"<test><{place}><cells>")
