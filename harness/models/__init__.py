"""From a name to a loaded model with its tokenizer, chat template and adapters."""

from .loading import KnownModel, known_models, load
from .model import LanguageModel
from .shared import SharedModels
from .window import native_length

__all__ = ["KnownModel", "LanguageModel", "SharedModels", "known_models", "load", "native_length"]
