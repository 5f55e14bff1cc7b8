"""The two-layer CNN on signal-noise data: the exact reduction (span_engine) and plain PyTorch (autograd_engine)."""
