"""What all training shares, whatever the network and the data: experiments, the loop, metrics, strategies, optimizers."""
