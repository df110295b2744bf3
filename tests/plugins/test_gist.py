"""`gist` against another implementation of it, and what a fit of it learns, keeps and refuses."""

import pytest
import torch

from harness import Decoding, Prompt, UsageError
from harness.contracts.fit import Example, Schedule
from harness.plugins.gist import Gist
from harness.plugins.gist_memory import GistTraining, Memory
from harness.prompts import tokenize

SEGMENT, MEMORY, RANK = 24, 4, 3


class Data(list):
    """The same few tokens again and again, in each example others."""

    @property
    def facts(self):
        return {}

    def __init__(self, examples, tokens):
        source = torch.Generator().manual_seed(0)
        for _ in range(examples):
            few = torch.randint(20, 120, (8,), generator=source).tolist()
            ids = (few * tokens)[:tokens]
            self.append(Example(ids, list(ids)))

    @property
    def lengths(self):
        return [len(example.input_ids) for example in self]


def asked(model):
    text = "the sky is blue and the sun is yellow and the grass is green " * 8
    return tokenize(Prompt("Read. ", text, " Where is it?", "Where is it?"), model)


def learned(model, seed=0):
    """Weights that do something."""
    torch.manual_seed(seed)
    weights = Memory(model, MEMORY, RANK)
    with torch.no_grad():
        weights.tokens.copy_(0.3 * torch.randn_like(weights.tokens))
        for parameter in weights.lora.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return weights


def with_weights(model, weights):
    method = Gist(model, Gist.Options.parse({"segment": SEGMENT, "memory": MEMORY}, "it"))
    method.__dict__["weights"] = weights
    return method


def turned(keys, by, config):
    """Keys ``[1, heads, entries, size]`` at positions `by` further, as complex numbers."""
    half = keys.shape[-1] // 2
    theta = getattr(config, "rope_parameters", {}).get("rope_theta", 10_000.0)
    angles = by * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    pairs = torch.complex(keys[..., :half].double(), keys[..., half:].double())
    spun = pairs * torch.polar(torch.ones(half).double(), angles)
    return torch.cat((spun.real, spun.imag), -1).float()


def reference(model, weights, prompt, new):
    """Greedy answer by peft and plain caches of transformers: nothing of the method's or the engine's own is used."""
    import copy

    from peft import LoraConfig, get_peft_model
    from transformers import DynamicCache

    network = copy.deepcopy(model.network)
    network.config._attn_implementation = "eager"
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    peft = get_peft_model(
        network, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=names, lora_dropout=0.0)
    )
    state = {n: p for n, p in peft.named_parameters() if "lora_" in n}
    with torch.no_grad():
        for name, tensor in weights.lora.tensors().items():
            place, side, _ = name.rsplit(".", 2)
            [mine] = [p for n, p in state.items() if f"{place}.{side}." in n]
            mine.copy_(tensor)
    embed, kept = network.get_input_embeddings(), None
    head, ids = prompt.head_ids, list(prompt.head_ids.context_ids)

    def read(embedded, cache):
        past, had = DynamicCache(), 0
        for layer, (key, value) in enumerate(cache or ()):
            past.update(key, value, layer)
            had = key.shape[2]
        size = embedded.shape[1]
        out = peft.base_model.model(
            inputs_embeds=embedded, past_key_values=past, position_ids=torch.arange(had, had + size)[None]
        )
        return [(layer.keys, layer.values) for layer in past.layers], out.logits

    with torch.no_grad():
        with peft.disable_adapter():
            kept, _ = read(embed(torch.tensor([list(head.prefix_ids)])), None)
        while len(ids) >= SEGMENT:
            segment, ids = ids[:SEGMENT], ids[SEGMENT:]
            both = torch.cat((embed(torch.tensor([segment])), weights.tokens[None]), 1)
            after, _ = read(both, kept)
            written = [
                (turned(k[:, :, -MEMORY:], -SEGMENT, model.config), v[:, :, -MEMORY:]) for k, v in after
            ]
            kept = [tuple(torch.cat(pair, 2) for pair in zip(old, new)) for old, new in zip(kept, written)]
        with peft.disable_adapter():
            held, found = kept, []
            tokens = [*ids, *prompt.suffix_ids]
            for _ in range(new):
                held, logits = read(embed(torch.tensor([tokens])), held)
                found.append(int(logits[0, -1].argmax()))
                tokens = found[-1:]
                if found[-1] in model.end_ids:
                    break
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_are_those_of_peft_and_plain_caches(tiny, seed):
    prompt, weights = asked(tiny), learned(tiny, seed)
    [found] = with_weights(tiny, weights).compress_and_generate([prompt], Decoding(8))
    assert found.token_ids == reference(tiny, weights, prompt, 8)
    segments, rest = divmod(len(prompt.head_ids.context_ids), SEGMENT)
    assert found.details["segments"] == segments >= 3
    assert (
        found.kv_tokens
        == len(prompt.head_ids.prefix_ids) + segments * MEMORY + rest + len(prompt.suffix_ids) - 1
    )


def test_a_fit_lowers_the_cost_and_its_adapter_answers_alike(tiny, tmp_path):
    method = Gist(tiny, Gist.Options.parse({"segment": 16, "memory": 4}, "it"))
    data = Data(8, 64)
    options = Gist.FitOptions.parse({"rank": 4}, "fit")
    report = method.fit(
        data, Schedule(tmp_path / "fit", batch_size=2, learning_rate=2e-2, max_steps=12), options
    )
    first = [row["loss"] for row in report.curve[:3]]
    assert report.steps == 12 and report.loss < sum(first) / 3
    method.save(tmp_path / "made", {})
    [mine] = method.compress_and_generate([asked(tiny)], Decoding(5))
    other = Gist(tiny, Gist.Options())
    other.load(tmp_path / "made")
    [theirs] = other.compress_and_generate([asked(tiny)], Decoding(5))
    assert theirs.token_ids == mine.token_ids and other.facts()["warning"] is None
    for options, words in (({"segment": 32}, "segments of 16"), ({"memory": 8}, "has 4 memory tokens")):
        with pytest.raises(UsageError, match=words):
            Gist(tiny, Gist.Options.parse(options, "it")).load(tmp_path / "made")


def test_gradients_reach_every_weight_through_later_segments(tiny):
    weights = learned(tiny).requires_grad_(True)
    ids = torch.arange(5, 5 + 3 * SEGMENT)
    GistTraining(tiny.network, weights, SEGMENT, nested=False)(ids, ids).backward()
    last = f"layers/{tiny.config.num_hidden_layers - 1}/self_attn"  # only keys and values of the last layer are kept
    idle = {n for n, p in weights.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert idle == {f"lora.{side}.{last}/{name}_proj" for side in "ab" for name in "qo"}


def test_what_cannot_be_is_refused_in_a_line(tiny, tmp_path):
    for options in ({"segment": 150}, {"segment": 16, "memory": 16}):
        with pytest.raises(UsageError, match="does not fit the window"):
            Gist(tiny, Gist.Options.parse(options, "it")).context_limit()
    method = Gist(tiny, Gist.Options.parse({"segment": 64, "memory": 4}, "it"))
    with pytest.raises(UsageError, match="nothing to learn"):
        method.fit(Data(2, 40), Schedule(tmp_path), Gist.FitOptions())
    with pytest.raises(UsageError, match="nothing was fitted"):
        method.save(tmp_path, {})
    assert "untrained" in method.facts()["warning"]
