"""Cell stores of a run: cells are streamed from the shards or kept in memory."""
