"""What the tests of methods share: prompts of any length, and asking under the runner's eyes."""

import torch

from harness import Decoding, Prompt
from harness.inference.meter import observe
from harness.inference.verification import check
from harness.prompts.rendering import tokenize


def prompt(model, words, seed=0):
    """A prompt whose context has so many words, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    pick = torch.randint(0, 10, (words,), generator=generator).tolist()
    return tokenize(Prompt("Read.\n", " ".join(f"word{n}" for n in pick), "\nWhat is word3?"), model)


def ask(method, prompts, new_tokens=6):
    """The answers to a batch, each held against what the model was seen doing; and the bytes of its cache."""
    decoding = Decoding(new_tokens, min_new_tokens=new_tokens)
    with observe(method.model.network, "cpu", len(prompts)) as meter:
        answers = method.compress_and_generate(prompts, decoding)
    for row, (answer, one) in enumerate(zip(answers, prompts)):
        assert answer.prompt_tokens == len(one)
        assert check(answer, meter, row, len(one)).verified
    return answers, meter.kv_bytes


def fingerprint(network):
    """Everything that hangs on the modules of a model, except the values of its weights."""
    found = {}
    for name, module in network.named_modules():
        tables = {
            key: sorted(map(str, value)) for key, value in vars(module).items() if isinstance(value, dict)
        }
        found[name] = (type(module), id(module), sorted(vars(module)), tables)
    return found
