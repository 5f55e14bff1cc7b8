"""What the theory predicts, and under which conditions. NumPy, SciPy and tables only: nothing here trains."""
