"""The methods inside other harnesses."""

from .lm_eval_model import HarnessLM, register

__all__ = ["HarnessLM", "register"]
