"""The networks and the layers that they share."""
