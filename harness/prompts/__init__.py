"""Rendering, tokenising and truncating prompts."""
