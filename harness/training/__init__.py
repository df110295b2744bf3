"""From data sources to an adapter folder: what `harness fit` does."""
