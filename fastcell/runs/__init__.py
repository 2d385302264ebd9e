"""The folder of a training run: its content, reading a finished run, and checkpoints."""
