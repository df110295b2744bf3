"""What the tests of fits share: a text worth learning, the command line, and what the tiny model learns with."""

import json

import torch
from safetensors.torch import load_file

from harness.contracts.fit import Example

WORDS = "grass green sky blue sun yellow passkey remember answer question".split()
INTERVAL = 32


def repeating(path, count=24, words=12, times=6):
    """Texts that say a few random words again and again: whoever remembers them can predict the rest."""
    generator = torch.Generator().manual_seed(0)
    with path.open("w") as file:
        for _ in range(count):
            picks = torch.randint(len(WORDS), (words,), generator=generator).tolist()
            file.write(json.dumps({"text": " ".join([WORDS[i] for i in picks] * times)}) + "\n")
    return path


def fit_words(model, data, out, *more, method="beacon"):
    """The words of a small fit; those in `more` count if they say otherwise."""
    chosen = {"-m": method, "--out": out, "--model": model, "--device": "cpu", "--interval": INTERVAL}
    if data is not None:
        chosen |= {"--data": data, "--min-length": 20, "--max-length": 128}
    if method != "two_pass":
        chosen |= {"--train-ratios": "2,4,8", "--batch-size": 2, "--max-steps": 4, "--save-every": 2}
        chosen |= {"--learning-rate": 0.01}
    said = {str(word).partition("=")[0] for word in more} - {"--data"}  # which may be given more than once
    words = [word for flag, value in chosen.items() if flag not in said for word in (flag, value)]
    return [str(word) for word in ("fit", *words, *more)]


def tensors(folder):
    """Everything an adapter has learned, by file and name."""
    files = sorted(p for p in folder.rglob("*.safetensors") if "training" not in p.parts)
    return {f"{p.relative_to(folder)} {n}": t for p in files for n, t in load_file(p).items()}


def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


class Listed(list):
    """Examples in a list, as training data."""

    facts = {"sources": []}  # noqa: RUF012

    @property
    def lengths(self):
        return [len(e.input_ids) for e in self]


def random_examples(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = [torch.randint(4, 250, (n,), generator=generator).tolist() for n in lengths]
    return Listed(Example(i, list(i)) for i in ids)
