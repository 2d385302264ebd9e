"""Index files for DALI's own `readers.webdataset`, which the contestants that read by it need."""

import numpy as np


def write_dali_index(manifest, index_dir):
    """Write one index (format of wds2idx, version 1.2) per shard over all its cells.

    Args:
        manifest: of a data set in the cell layout.
        index_dir: folder for the files, made where missing.

    Returns:
        The arguments `paths` and `index_paths` of the reader, and in its order the cells are the manifest's rows.
    """
    index_dir.mkdir(parents=True, exist_ok=True)
    offsets, sizes = manifest.column("offset"), manifest.column("bytes")
    files = {"paths": [], "index_paths": []}
    for number in range(len(manifest.info.shards)):
        path = manifest.shard_path(number)
        rows = np.flatnonzero(manifest.shard_index == number)
        pairs = zip(offsets[rows].tolist(), sizes[rows].tolist(), rows.tolist(), strict=True)
        lines = "".join(f"img {offset} {size} {row:012d}\n" for offset, size, row in pairs)
        index_path = index_dir / f"{path.stem}.idx"
        index_path.write_text(f"v1.2 {len(rows)}\n{lines}")
        files["paths"].append(str(path))
        files["index_paths"].append(str(index_path))
    return files
