"""The folder of a training run: what it holds, how it is opened, its checkpoints."""
