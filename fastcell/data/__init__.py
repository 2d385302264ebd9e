"""From image files to batches: pack, manifest, view, stream, batch."""
