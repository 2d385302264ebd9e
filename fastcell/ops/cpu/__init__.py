"""Operations on the CPU: compiled loops that process one cell at a time, and the checks of their arguments."""
