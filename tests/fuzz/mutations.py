"""From a healthy image or tar to a hostile one: its bytes, blindly, and the fields of its format."""

import re
import struct
import zlib

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
WIDE_EXTREMES = (*EXTREMES, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def mutate_bytes(rng, data, other):
    """Some blind changes: bits, bytes, fields, cuts, copies, and pieces of `other`."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            break
        rng.choice(_BLIND)(rng, out, other)
    return bytes(out)


def _place(rng, out):
    return rng.randrange(min(len(out), rng.choice((16, 64, 512, len(out)))))


def _flip(rng, out, other):
    out[_place(rng, out)] ^= 1 << rng.randrange(8)


def _set_field(rng, out, other):
    size, place = rng.choice((1, 2, 4, 8)), _place(rng, out)
    value = rng.choice(WIDE_EXTREMES) % (1 << (8 * size))
    out[place : place + size] = value.to_bytes(size, rng.choice(("little", "big")))


def _cut(rng, out, other):
    del out[rng.randrange(len(out)) :]


def _remove(rng, out, other):
    place = _place(rng, out)
    del out[place : place + rng.choice((1, 4, 64, 512))]


def _repeat(rng, out, other):
    place, size = _place(rng, out), rng.choice((1, 12, 64, 512, 2048))
    piece = bytes(out[place : place + size]) * rng.choice((1, 2, 50))
    out[place:place] = piece


def _splice(rng, out, other):
    place, start = _place(rng, out), rng.randrange(max(1, len(other)))
    out[place : place + rng.choice((0, 64))] = other[start : start + rng.choice((8, 64, 1024))]


def _noise(rng, out, other):
    place = _place(rng, out)
    noise = rng.randbytes(rng.choice((1, 4, 32)))
    out[place : place + len(noise)] = noise


def _digits(rng, out, other):
    runs = list(re.finditer(rb"\d+", out))
    if runs:
        run = rng.choice(runs[:200])
        numbers = (b"-1", b"0", b"4294967296", b"99999999999999999999", b"1e999", b"-", b"9" * 5000, b"00000000000")
        out[run.start() : run.end()] = rng.choice(numbers)


_BLIND = (_flip, _flip, _set_field, _set_field, _cut, _remove, _repeat, _splice, _noise, _digits)


def mutate_image(rng, name, data, other):
    """By the format's own rules half of the time: what a checksum or a marker would catch at once is mended."""
    if rng.random() < 0.6:
        by_rule = {"jpg": _jpg, "png": _png, "tif": _tif}.get(name[-3:])
        if by_rule is not None:
            data = by_rule(rng, data)
            if rng.random() < 0.7:
                return data
    data = mutate_bytes(rng, data, other)
    return _mend_png(data) if name.endswith("png") and rng.random() < 0.7 else data


def _png_chunks(data):
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def _png_join(chunks):
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _mend_png(data):
    return _png_join(_png_chunks(data)) if data[:8] == b"\x89PNG\r\n\x1a\n" else data


def _png(rng, data):
    chunks = _png_chunks(data)
    place = rng.randrange(len(chunks))
    kind, body = chunks[place]
    what = rng.randrange(6)
    if what == 0:
        head = bytearray(chunks[0][1])
        struct.pack_into(">I", head, rng.choice((0, 4)), rng.choice((*EXTREMES, 22, 34, 8192)))
        chunks[0] = (b"IHDR", bytes(head))
    elif what == 1:
        head = bytearray(chunks[0][1])
        head[rng.randrange(8, 13)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[0] = (b"IHDR", bytes(head))
    elif what == 2:
        chunks.insert(place, (kind, body))
    elif what == 3:
        del chunks[place]
    elif what == 4:
        kind = rng.choice(
            (b"eXIf", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"tRNS", b"PLTE", b"gAMA", b"IDAT", b"IHDR", b"zTXt")
        )
        sizes = struct.pack(">IIIII", 0, rng.choice(EXTREMES), rng.choice(EXTREMES), 0, 0) + bytes(6)
        orientation = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + struct.pack("<I", rng.randrange(10)) + bytes(4)
        bomb = b"icc\0\0" + zlib.compress(bytes(1 << 16))
        chunks.insert(max(1, place), (kind, rng.choice((sizes, orientation, bomb, rng.randbytes(26), b"", body))))
    else:
        chunks[place] = (kind, mutate_bytes(rng, body, data))
    return _png_join(chunks)


def _jpg(rng, data):
    starts = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    place = rng.choice(starts)
    out = bytearray(data)
    what = rng.randrange(5)
    if what == 0:
        frame = next((s for s in starts if data[s + 1] in (0xC0, 0xC1, 0xC2)), place)
        struct.pack_into(">H", out, frame + rng.choice((5, 7)), rng.choice((0, 1, 8, 33, 300, 1024, 8192, 0xFFFF)))
    elif what == 1:
        end = starts[min(starts.index(place) + 1, len(starts) - 1)]
        out[place:place] = data[place:end] * rng.choice((1, 2, 200))
    elif what == 2:
        order = rng.choice((b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0%c\0\0\0\0\0\0\0",))
        body = b"Exif\0\0" + order % rng.randrange(10)
        out[2:2] = b"\xff\xe1" + struct.pack(">H", rng.choice((len(body) + 2, 2, 1, 0, 0xFFFF))) + body
    elif what == 3:
        frame = next((s for s in starts if data[s + 1] in (0xC0, 0xC1, 0xC2)), place)
        out[frame + rng.randrange(4, 12)] = rng.choice((0, 1, 2, 3, 4, 8, 12, 0x11, 0x22, 0x41, 0xFF))
    else:
        struct.pack_into(">H", out, min(place + 2, len(out) - 2), rng.choice((0, 1, 2, 3, 17, 0xFFFF)))
    return bytes(out)


def _tif(rng, data):
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (num,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    first, step = (start + 8, 20) if big else (start + 2, 12)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        place = first + step * rng.randrange(num)
        what = rng.randrange(5)
        if what == 0:
            tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 339)
            struct.pack_into(order + "H", out, place, rng.choice(tags))
        elif what == 1:
            struct.pack_into(order + "H", out, place + 2, rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 16, 17, 99)))
        elif what == 2:
            struct.pack_into(order + "I", out, place + 4, rng.choice(EXTREMES))
        else:
            value = place + (12 if big else 8)
            form, size = rng.choice((("H", 16), ("I", 32)))
            struct.pack_into(order + form, out, value, rng.choice((*EXTREMES, 2, 3, 7, 8, 16, 32, 50000)) % (1 << size))
    return bytes(out)


def mutate_tar(rng, data, other):
    """Header fields with the checksum mended, headers put in, and blind changes."""
    if rng.random() < 0.25:
        return mutate_bytes(rng, data, other)
    out = bytearray(data)
    heads = [place for place in range(0, len(out), 512) if out[place + 257 : place + 262] == b"ustar"]
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.choice(heads)
        if rng.random() < 0.25:
            piece = bytearray(out[place : place + 512])
            piece[156:157] = rng.choice((b"x", b"g", b"L", b"K", b"S", b"1", b"2"))
            body = rng.choice((_pax(rng), b"../../../x\0", b"/" * 600, b"n" * 5000, b"./" * 400 + b"a.png"))
            piece[124:136] = b"%011o\0" % len(body)
            _sign(piece)
            out[place:place] = bytes(piece) + body + bytes(-len(body) % 512)
            heads = [head + (len(out) - len(data) if head >= place else 0) for head in heads]
            break
        field = rng.choice(_TAR_FIELDS)
        field(rng, out, place)
        _sign(memoryview(out)[place : place + 512])
    if rng.random() < 0.1:
        del out[rng.randrange(len(out)) :]
    return bytes(out)


def _pax(rng):
    key = rng.choice((b"size", b"path", b"GNU.sparse.name", b"GNU.sparse.major", b"comment", b"linkpath"))
    value = rng.choice(
        (b"-1", b"0", b"99999999999999999999", b"9" * 5000, b"../../x", b"a/b.png", b"", b"1 2", b"\xff\xfe")
    )
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body) + 2))
    return b"%d" % rng.choice((length, length, length, 0, 5, 10**9)) + body


def _tar_size(rng, out, place):
    numbers = (
        b"-0000001000\0",
        b"-0000000777\0",
        b"-0000000001\0",
        b"+0000000017\0",
        b"77777777777\0",
        b"00000000000\0",
        b"8888888888 \0",
    )
    wide = bytes((0x80,)) + rng.choice(WIDE_EXTREMES).to_bytes(11, "big")
    out[place + 124 : place + 136] = rng.choice((*numbers, wide, b"\xff" * 12, b"\0" * 12, b"1_0\0\0\0\0\0\0\0\0\0"))


def _tar_type(rng, out, place):
    out[place + 156] = rng.choice(b"0123457SxgLKVMDN\0\xff")


def _tar_name(rng, out, place):
    names = (
        b"/etc/x.png",
        b"../../../x.png",
        b"a\xff\xfe.png",
        b".png",
        b"a/",
        b"",
        b"a.b.c.png",
        b"a\nb\x1b.png",
        b"./" * 49,
    )
    name = rng.choice(names)
    out[place : place + 100] = name.ljust(100, b"\0")


def _tar_prefix(rng, out, place):
    out[place + 345 : place + 500] = rng.choice((b"../" * 40, b"/" * 155, b"p", b"\xff" * 155)).ljust(155, b"\0")


_TAR_FIELDS = (_tar_size, _tar_size, _tar_type, _tar_name, _tar_prefix)


def _sign(header):
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(bytes(header))
