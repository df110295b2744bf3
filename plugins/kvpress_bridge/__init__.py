"""The presses of kvpress as methods."""
