"""From a name to a loaded model with its tokenizer, chat template and adapters."""
