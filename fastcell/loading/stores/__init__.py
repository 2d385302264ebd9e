"""Where the cells of a run are kept: streamed from the shards or in memory."""
