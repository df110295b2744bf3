"""The methods that ship with the harness; each is one file, found through entry points."""
