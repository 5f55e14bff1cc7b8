"""Networks on images: data sets, batches on the device, training, and what the networks look at (attribution)."""
