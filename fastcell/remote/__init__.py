"""Data sets in object stores and on web servers: addresses, a cache of whole shards, prefetch, reads of ranges."""
