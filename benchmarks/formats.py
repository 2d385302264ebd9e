"""Which pictures are read to the pixels of an independent reader, and which damage is seen.

Reads the pictures of `tests/fixtures/picture_matrix.py` as `pack` does, and writes the tables of
`docs/reference/formats-matrix.md`. No time is measured.

    python benchmarks/formats.py [--hits 200]
"""

import argparse
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from fastcell.dataset.decode import decode_levels
from fastcell.dataset.decoder_messages import DecoderMessages
from fastcell.dataset.tiff.contents import read_single
from fastcell.errors import BadCell

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fixtures.picture_matrix import damage, outcome, pictures  # noqa: E402

PAGE = ROOT / "docs" / "reference" / "formats-matrix.md"
HEAD = """\
# Pictures that are read

Written by `python benchmarks/formats.py` with {libraries}. Do not edit.

`pack` decodes a picture to grey levels of 8 or 16 bits, or puts it into the quarantine with a reason. It never stores
other pixels than the file holds. The table counts pictures that were written for this purpose in all combinations of

- TIFF: compression, predictor, depth, one strip, strips or tiles, samples side by side or in planes, kind of colour,
  byte order, classic TIFF and BigTIFF, orientation, channels as samples, and as pages of OME-TIFF, ImageJ and tifffile;
- PNG: colour type, depth, interlacing, `gAMA`, `sRGB`, `cHRM`, `iCCP` and `tRNS`;
- JPEG: colour, sampling, progression, restart markers and orientation.

*Right* means that the pixels equal those of an independent reader: tifffile for TIFF (with 0.299 R + 0.587 G + 0.114 B
for colours, inverted levels where white is zero, and the palette applied), Pillow for JPEG, and the values that were
written for PNG. Every other picture was refused with the reason in the last column.

| container | kind | pixels | pictures | right | wrong | refused with |
|---|---|---|---:|---:|---:|---|
"""
MIDDLE = """\

{total:,} pictures: {right:,} right, {wrong:,} wrong, {refused:,} refused.

# Damage that is seen

One byte inside of the compressed data was replaced, {hits} times for each file of 40 x 33 pixels. A codec with a
checksum sees every hit (Adler-32 of deflate missed 3 of 200,000). The other codecs cannot tell most hits from other
pixels: without compression, and for the literal bytes of PackBits, zstd and LZW, a hit byte is a valid byte. A hit that
changes the number of decoded bytes is always seen.

| codec | layout | depth | hits | refused | right | wrong | wrong, % |
|---|---|---:|---:|---:|---:|---:|---:|
"""


def read(data, channel):
    """Grey levels of a file as `pack` reads it, or the reason why it is refused."""
    try:
        with DecoderMessages() as messages:
            grey = read_single(data, channel)[0] if data[:2] in (b"II", b"MM") else decode_levels(data)[0]
            messages.check(data)
    except BadCell as bad:
        return bad.reason
    return grey


def matrix_lines(found):
    """Rows of the table of pictures."""
    for (container, kind, pixels), counts in found.items():
        right, wrong = counts["right"], counts["wrong"]
        reasons = "; ".join(reason for reason in counts if reason not in ("right", "wrong"))
        yield f"| {container} | {kind} | {pixels} | {counts.total()} | {right} | {wrong} | {reasons} |"


def damage_lines(found):
    """Rows of the table of damage."""
    for each in found:
        share = f"{100 * each.wrong / each.hits:.0f}"
        words = (each.codec, each.layout, each.depth, each.hits, each.refused, each.right, each.wrong, share)
        yield f"| {' | '.join(map(str, words))} |"


def main():
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hits", type=int, default=200, help="random hits for each file (%(default)s)")
    options = parser.parse_args()
    found = {}
    for picture in pictures():
        found.setdefault(picture.row, Counter())[outcome(picture, read)] += 1
    total = sum(found.values(), Counter())
    right, wrong = total["right"], total["wrong"]
    names = ("tifffile", "imagecodecs", "opencv-python-headless", "pillow", "numpy")
    head = HEAD.format(libraries=", ".join(f"{name} {version(name)}" for name in names))
    middle = MIDDLE.format(
        total=total.total(), right=right, wrong=wrong, refused=total.total() - right - wrong, hits=options.hits
    )
    lines = [*matrix_lines(found)]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(
        head + "\n".join(lines) + "\n" + middle + "\n".join(damage_lines([*damage(read, options.hits)])) + "\n"
    )
    print(f"wrote {PAGE}: {total.total():,} pictures, {wrong} wrong")


if __name__ == "__main__":
    main()
