"""JSON with a hash of its values: read back, and not read once a bit has flipped."""

from fastcell.storage.checked_json import read_checked_json, write_checked_json

VALUES = {"temperature": 1.5, "classes": ["a", "ß", "\x1b"], "chosen": ("torch", "fp32"), "inner": {"b": None, "a": -2}}


def test_what_is_written_is_read_as_json_has_it(tmp_path):
    write_checked_json(tmp_path / "x.json", VALUES)
    assert read_checked_json(tmp_path / "x.json") == {**VALUES, "chosen": ["torch", "fp32"]}
    assert read_checked_json(tmp_path / "none.json") is None


def test_no_flipped_bit_changes_a_value(tmp_path):
    path = tmp_path / "x.json"
    write_checked_json(path, VALUES)
    whole, content = path.read_bytes(), read_checked_json(path)
    refused = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        found = read_checked_json(path)
        assert found in (None, content), bit  # a space may become a tab
        refused += found is None
    assert refused > 7 * len(whole)


def test_values_that_are_not_an_object_are_not_read(tmp_path):
    for text in ("[]", "{}", '"x"', '{"a": 1}', '{"a": 1, "blake2b": 5}'):
        (tmp_path / "x.json").write_text(text)
        assert read_checked_json(tmp_path / "x.json") is None, text
