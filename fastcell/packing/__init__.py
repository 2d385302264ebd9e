"""Write a data set: pack, index, verify, quarantine, shards."""
