"""Studies that compare methods over data volume, loss and image size, and that measure the effect of leakage."""
