"""Rendering, tokenising and truncating prompts."""

from .rendering import render, tokenize
from .tokenization import encode, token_ids
from .truncation import RULES, truncate

__all__ = ["RULES", "encode", "render", "token_ids", "tokenize", "truncate"]
