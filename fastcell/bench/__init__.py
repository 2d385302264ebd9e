"""Measure the throughput of each step of the work on this machine, and find the step that limits it."""
