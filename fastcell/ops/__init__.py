"""Operations on batches of cells. Each operation has one contract; GPU kernels have a CPU twin of the same name."""
