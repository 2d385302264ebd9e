"""Silence of libraries: only what is meant to be silent is; and memory that malloc keeps."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fastcell.system import library_settings, resources

REPO_DIR = Path(__file__).resolve().parents[2]
NOISE = (
    b"Failed to load nvjpeg library! Please install CUDA toolkit or so.\n"
    b"\x1b[0;31m[ERROR] \x1b[0m[nvjpeg-ext] Failed to load nvJPEG library or retrieve version.\n"
    b"Failed to load nvjpeg2k library! Please install nvJPEG2000 (see there).\n"
    b"Note: If using nvImageCodec's Python distribution, it is enough to install the nvJPEG2000 wheel\n"
    b"\x1b[0;31m[ERROR] \x1b[0m[nvjpeg2k_ext] Failed to load nvJPEG2000 library or retrieve version.\n"
    b"\x1b[0;31m[ERROR] \x1b[0m[nvtiff_ext] Failed to load nvTIFF library or retrieve version.\n"
    b"dlopen libcuda.so failed. Please install GPU driver."
)


def test_quiet_dali_drops_its_noise_and_keeps_the_rest(capfd):
    with library_settings.quiet_dali():
        os.write(2, b"before\n" + NOISE)
        os.write(2, b"\x1b[0;31m[ERROR] \x1b[0m[libjpeg_turbo_decoder] Could not decode\nafter\n")
        print("by Python", file=sys.__stderr__)
    os.write(2, NOISE[:30] + b"\n")
    err = capfd.readouterr().err
    inside, outside = err.split("by Python\n")
    assert inside == "before\n\x1b[0;31m[ERROR] \x1b[0m[libjpeg_turbo_decoder] Could not decode\nafter\n"
    assert outside == NOISE[:30].decode() + "\n"  # only what is written inside is touched


def test_quiet_dali_keeps_the_rest_when_the_build_fails(capfd):
    def build():
        with library_settings.quiet_dali(), library_settings.quiet_dali():
            os.write(2, NOISE + b"a real message\n")
            raise RuntimeError("no such operator")

    with pytest.raises(RuntimeError, match="no such operator"):
        build()
    assert capfd.readouterr().err == "a real message\n"


def test_quiet_dali_works_with_stderr_closed():
    code = (
        "import os\nfrom fastcell.system.library_settings import quiet_dali\n"
        "os.close(2)\nwith quiet_dali():\n    print('in')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_DIR, stdout=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "in\n")


def test_quiet_silences_remarks_and_keeps_warnings(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        library_settings.quiet()
        warnings.warn("The 'val_dataloader' does not have many workers which may be a bottleneck. Tip", stacklevel=1)
        warnings.warn_explicit("old name", DeprecationWarning, "x.py", 1, module="torch.utils.data")
        warnings.warn_explicit("old name", FutureWarning, "x.py", 1, module="nvidia.dali.pipeline")
        assert [str(w.message) for w in seen] == []
        warnings.warn("class 'PBMC' has 3 cells", stacklevel=1)
        warnings.warn_explicit("old name", DeprecationWarning, "x.py", 1, module="torchlike")
        warnings.warn_explicit("lossy cast", UserWarning, "x.py", 1, module="torch.utils.data")
    assert [str(w.message) for w in seen] == ["class 'PBMC' has 3 cells", "old name", "lossy cast"]


def test_quiet_obeys_the_users_own_warning_options(monkeypatch):
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        library_settings.quiet()
        warnings.warn_explicit("old name", DeprecationWarning, "x.py", 1, module="torch.utils.data")
    assert len(seen) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the page faults are those of glibc on Linux")
def test_malloc_keeps_freed_memory():
    """After the call, allocating and freeing the same 64 MiB again costs no page faults."""
    code = """
import ctypes, resource, threading
from fastcell.system import library_settings
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.malloc.argtypes = [ctypes.c_size_t]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(faults()))
    thread.start()
    thread.join()
    return found[0]
faults()
default = faults()
done = library_settings.raise_malloc_thresholds()
faults()
print(done, default, faults(), max(in_a_thread() for _ in range(3)))
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=REPO_DIR, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    done, default, raised, in_threads = run.stdout.split()
    if done == "False":
        pytest.skip("the C library is not glibc")
    assert int(raised) < 100
    if resources.num_cpus() <= 8:  # one arena for all threads
        assert int(in_threads) < 100
    assert int(default) == 0 or int(raised) < int(default)


def test_malloc_elsewhere_is_left_alone(monkeypatch):
    class OtherLibrary:
        pass

    monkeypatch.setattr(resources.ctypes, "CDLL", lambda name: OtherLibrary())
    assert library_settings.raise_malloc_thresholds.__wrapped__() is False
