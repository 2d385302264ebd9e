"""Programs that run a trained network: images in, logits and features out."""
