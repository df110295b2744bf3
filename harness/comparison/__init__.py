"""Whether a run is better or worse than another, sample by sample."""
