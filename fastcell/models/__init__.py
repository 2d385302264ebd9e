"""Networks, their registry, and the Lightning module that trains them."""
