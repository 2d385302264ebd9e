"""Networks, losses, metrics and the Lightning module that trains them."""
