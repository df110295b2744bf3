"""Files, hashes, entry points and the environment: what every package may need. Nothing here is public."""

__all__: list[str] = []
