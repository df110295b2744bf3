"""Long training data that a model writes: what `harness synth` does."""
