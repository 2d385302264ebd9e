"""How text tables are written: each dialect is recognised from its bytes alone."""

import pytest

from fastcell.dataset.tables.dialect import encoding_of_text, read_dialect, read_lines, read_rows, whole_text
from fastcell.errors import DataError

KNOWN = ("path", "label")


@pytest.mark.parametrize(
    ("data", "delimiter", "names", "num_skipped"),
    [
        (b"path,label\nx,A\n", ",", ["path", "label"], 1),
        (b"path;label;area, um2\nx;A;0,5\ny;B;1,5\n", ";", ["path", "label", "area, um2"], 1),
        (b"path\tlabel\r\nx\tA, B\r\n", "\t", ["path", "label"], 1),
        (b"path|label\rx|A\r", "|", ["path", "label"], 1),
        (b"\xef\xbb\xbfpath,label\nx,A\n", ",", ["path", "label"], 1),
        ("path\tlabel\nx\tGröße\n".encode("utf-16"), "\t", ["path", "label"], 1),
        (b"\xfe\xff" + "path\tlabel\nx\tA\n".encode("utf-16-be"), "\t", ["path", "label"], 1),
        (b"sep=;\r\npath;label\r\nx;A,B\r\n", ";", ["path", "label"], 2),
        (b'"sep=\t"\npath\tlabel\nx\tA\n', "\t", ["path", "label"], 2),
        (b"\n# made by hand, in May\n\npath,label\nx,A\n", ",", ["path", "label"], 4),
        (b"#path,label\nx,A\n", ",", ["path", "label"], 1),
        (b" path , label \n x , A \n", ",", ["path", "label"], 1),
        (b"path,label,\nx,A,\n", ",", ["path", "label", ""], 1),
        (b"path,label\nx,A,\n", ",", ["path", "label", ""], 1),
        (b"path,label,,\nx,A\n", ",", ["path", "label"], 1),
        (b'"path" "label"\n"1" "a b.png" "A"\n', " ", ["", "path", "label"], 1),
        (b"path label\n1 x A\n", " ", ["", "path", "label"], 1),
        (b'"","path","label"\n"1","x","A"\n', ",", ["", "path", "label"], 1),
        (b"path\nmy cell.png\n", ",", ["path"], 1),
        (b'path,"two\nlines"\nx,A\n', ",", ["path", "two\nlines"], 2),
        (b"path,label", ",", ["path", "label"], 1),
    ],
)
def test_dialects(tmp_path, data, delimiter, names, num_skipped):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    found = read_dialect(path, KNOWN)
    assert (found.delimiter, found.names, found.num_skipped, list(found.types)) == (delimiter, names, num_skipped, [])


def test_types_below_the_header(tmp_path):
    path = tmp_path / "ecotaxa.tsv"
    path.write_text("img_file_name\tobject_area\n[t]\t[f]\nx.png\t1.5\n")
    found = read_dialect(path)
    assert (found.names, found.num_skipped, found.types) == (["img_file_name", "object_area"], 2, ["t", "f"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04\0\0", r"got an Excel workbook\. Save it as CSV UTF-8"),
        (b"", "must have a header line with names of columns, got an empty file"),
        (b"\n\n# only this\n", "got an empty file"),
        ("path,label\nx,y\n".encode("utf-16-le"), "must be UTF-8 text, got zero bytes"),
        ("path,label\n".encode("utf-32"), "must be UTF-8 text, got UTF-32"),
        (
            "päth,label\nx,A\n".encode("latin-1"),
            r"must be UTF-8 text, got byte 0xe4 in line 1 \(in Latin-1: 'päth,label'\)",
        ),
        ("path,label\nx,Größe\n".encode("latin-1"), "got byte 0xf6 in line 2 .*Save it as UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, message):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_dialect(path)


def test_a_letter_cut_by_the_end_of_the_looked_at_bytes_is_no_fault(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"path,label\n" + b"x,A\n" * 262_141 + "éé".encode())
    assert read_dialect(path).names == ["path", "label"]
    path.write_bytes(b"path,label\nx" + b"," * ((1 << 20) - 13) + "é\n".encode())
    assert read_dialect(path).names == ["path", "label"]


def test_rows_and_lines_keep_what_fields_hold(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('sep=;\r\na;"b\u2028c\nd"\r\n\r\n;;\r\n'.encode())
    assert read_rows(path) == [["a", "b\u2028c\nd"], []]
    path.write_bytes("é\x85x\nb".encode("utf-16"))
    assert read_lines(path) == ["é\x85x\n", "b"]
    assert encoding_of_text(path, b"a") == "utf-8"


@pytest.mark.parametrize(
    ("text", "whole"),
    [("1.0", "1"), ("-3.000", "-3"), ("1,0", "1"), ("1,000", "1,000"), ("1.5", "1.5"), ("v1.0", "v1.0"), ("01", "01")],
)
def test_whole_numbers(text, whole):
    assert whole_text(text) == whole
