"""From a name to a loaded model with its tokenizer, chat template and adapters."""

from .loading import KnownModel, known_models, load
from .model import LanguageModel, native_length
from .shared import SharedModels

__all__ = ["KnownModel", "LanguageModel", "SharedModels", "known_models", "load", "native_length"]
