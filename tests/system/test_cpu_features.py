"""Instruction sets as /proc/cpuinfo lists them."""

from fastcell.system.cpu_features import NAMES, cpu_features, features_in


def test_only_what_every_core_has_counts():
    text = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_vnni amx_tile\n\nflags\t\t: avx512_vnni avx2\n"
    assert features_in(text) == ("avx2", "avx512_vnni")
    assert features_in("Features\t: fp asimd asimddp bf16\n") == ("asimddp", "bf16")
    assert features_in("") == ()
    assert features_in("flags\t: avx512_bf16x\n") == ()


def test_this_machine_has_known_names():
    assert set(cpu_features()) <= set(NAMES)
