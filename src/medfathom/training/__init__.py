"""One trial's training: features, batches, the fit loop, metrics."""
