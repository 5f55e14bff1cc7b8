"""The parts of training that do not depend on network or data: experiments, the loop, metrics, strategies, optimizers."""
