"""The predictions of the theory, and their conditions. NumPy, SciPy and tables only: nothing here trains."""
