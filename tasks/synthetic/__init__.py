"""Synthetic data: the recipes that make it, and the task that asks it."""
