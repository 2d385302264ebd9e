"""Simulated cells of the four classes of Meng et al. 2019, and data sets of them."""
