"""Operations on the CPU: compiled loops, one cell at a time, and the checks of what is handed to them."""
