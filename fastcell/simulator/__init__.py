"""Simulate cells of the four classes of Meng et al. 2019, and make data sets of them."""
