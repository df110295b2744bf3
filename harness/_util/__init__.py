"""Files, hashes, entry points and the environment: what every package may need."""
