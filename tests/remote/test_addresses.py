import pytest

from fastcell.errors import ArgumentError
from fastcell.remote.addresses import check_address, join_address, scheme_of


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("s3://bucket/cells", "s3"),
        ("HTTPS://host/cells", "https"),
        ("git+ssh://host/x", "git+ssh"),
        ("file:///data/cells", None),
        ("/data/cells", None),
        ("s3:/bucket/cells", None),
        ("C:\\cells", None),
        ("cells", None),
        ("://x", None),
    ],
)
def test_scheme(text, scheme):
    assert scheme_of(text) == scheme


@pytest.mark.parametrize("text", ["s3://bucket/a::b", "zip://cells::s3://bucket/a.zip"])
def test_chains_are_refused(text):
    with pytest.raises(ArgumentError, match=f"DATA must be an address without ::, got '{text}'"):
        check_address("DATA", text)


def test_a_scheme_in_upper_case():
    assert check_address("DATA", "S3://Bucket/Cells") == "s3://Bucket/Cells"


def test_slash_at_the_end_is_no_part_of_an_address():
    assert check_address("DATA", "s3://bucket/cells//") == "s3://bucket/cells"
    assert (
        check_address("DATA", "abfs://box@account.dfs.core.windows.net/x")
        == "abfs://box@account.dfs.core.windows.net/x"
    )


@pytest.mark.parametrize(
    "text",
    ["https://me:secret@host/cells", "https://secret@host/cells", "ftp://me:secret@host", "https://host/c?t=secret"],
)
def test_a_password_is_refused_and_not_repeated(text):
    with pytest.raises(ArgumentError, match="credentials") as error:
        check_address("DATA", text)
    assert "secret" not in str(error.value)


def test_control_characters_are_refused():
    with pytest.raises(ArgumentError, match="printable"):
        check_address("DATA", "s3://bucket/a\nb")


@pytest.mark.parametrize(
    ("name", "joined"),
    [
        ("shard.tar", "s3://bucket/a/cells/shard.tar"),
        ("splits/default.parquet", "s3://bucket/a/cells/splits/default.parquet"),
        ("../shard.tar", "s3://bucket/a/shard.tar"),
        ("../../../../shard.tar", "s3://bucket/shard.tar"),
        ("https://host/shard.tar", "https://host/shard.tar"),
    ],
)
def test_object_below_an_address(name, joined):
    assert join_address("s3://bucket/a/cells", name) == joined


def test_object_below_a_host():
    assert join_address("http://host:80", "x.tar") == "http://host:80/x.tar"
