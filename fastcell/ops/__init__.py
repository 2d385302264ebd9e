"""Operations on batches of cells; each has one contract and, where a GPU kernel exists, a CPU twin of the same name."""
