"""Studies: methods compared over data volume, losses, resolutions, and what leakage adds."""
