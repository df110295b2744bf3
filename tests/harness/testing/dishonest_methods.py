"""Methods that pretend: each answers from more than it declares, or with what the model did not choose.

The first four were found in the wild of this project; the others are of other kinds.
"""

import copy
import sys

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

import harness
from harness.contracts import phase
from harness.inference import KVCache, decode, end_token_ids, feed, stop_reason

KEPT = 4


class Pretender(harness.Method):
    """Declares four entries, whatever it does."""

    def context_limit(self):
        return None

    def compress_and_generate(self, prompts, decoding):
        found = []
        for prompt in prompts:
            with torch.no_grad():
                tokens = self.answer(list(prompt.ids), decoding)
            text = self.model.tokenizer.decode(tokens, skip_special_tokens=True)
            why = stop_reason(self.model, decoding, tokens)
            found.append(harness.Generation(text, tokens, why, len(prompt), KEPT))
        return found

    def full(self, ids):
        with phase("compress"):
            return feed(self.model.network, [KVCache()], [ids])[0][0]

    def decode(self, cache, last, decoding):
        return decode(self.model, [cache], [last], decoding)[1][0]


class DecoyFirst(Pretender):
    """Answers from the full cache, then feeds its own answer over four entries for show."""

    def answer(self, ids, decoding):
        full = self.full(ids[:-1])
        with phase("compress"):
            tokens = self.decode(full, ids[-1], decoding)
        cache = full.slice(0, KEPT)
        with phase("decode"):
            for token in [ids[-1], *tokens[:-1]]:
                [cache], _ = feed(self.model.network, [cache], [[token]])
        return tokens


class AfterTheHook(Pretender):
    """Only its first pass, which used to be the measured one, is over four entries."""

    def answer(self, ids, decoding):
        full = self.full(ids[:-1])
        with phase("decode"):
            feed(self.model.network, [full.slice(0, KEPT)], [[ids[-1]]])
            tokens = self.decode(full, ids[-1], decoding)
            feed(self.model.network, [full.slice(0, KEPT)], [[ids[-1]]])
        return tokens


class HidingLayer(DynamicLayer):
    """Says it holds what it shows, and gives attention the rest besides."""

    stash = None

    def update(self, keys, values, *args, **kwargs):
        keys, values = super().update(keys, values, *args, **kwargs)
        if self.stash is None:
            return keys, values
        return torch.cat((self.stash[0], keys), 2), torch.cat((self.stash[1], values), 2)


class HiddenEntries(Pretender):
    """A cache object that lies about itself."""

    def answer(self, ids, decoding):
        network, cache, tokens, last = self.model.network, DynamicCache(), [], ids[-1]
        with phase("compress"):
            network.model(input_ids=torch.tensor([ids[:-1]]), past_key_values=cache, use_cache=True)
        layers = []
        for layer in cache.layers:
            shown = HidingLayer()
            shown.update(layer.keys[:, :, -KEPT:], layer.values[:, :, -KEPT:])
            shown.stash = (layer.keys[:, :, :-KEPT], layer.values[:, :, :-KEPT])
            layers.append(shown)
        cache.layers = layers
        ends = end_token_ids(self.model, decoding)
        with phase("decode"):
            while len(tokens) < decoding.max_new_tokens and last not in ends:
                at = len(ids) - 1 + len(tokens)
                hidden = network.model(
                    input_ids=torch.tensor([[last]]),
                    position_ids=torch.tensor([[at]]),
                    attention_mask=torch.zeros(1, 1, 1, at + 1),
                    past_key_values=cache,
                ).last_hidden_state
                last = int(network.lm_head(hidden)[0, -1].argmax())
                tokens.append(last)
        return tokens


class ReadsReferences(Pretender):
    """Takes the accepted answer from whatever frame holds a sample, and answers with it."""

    looted = 0

    def answer(self, ids, decoding):
        [cache], _ = feed(self.model.network, [KVCache()], [ids[:KEPT]])
        with phase("decode"):
            tokens = self.decode(cache, ids[-1], decoding)
        references = self.stolen()
        if references:
            tokens = self.model.tokenizer(references[0], add_special_tokens=False)["input_ids"]
        return tokens[: decoding.max_new_tokens]

    def stolen(self):
        found = stolen_references()
        type(self).looted += len(found)
        return found


class KnowsReferences(ReadsReferences):
    """Had the data file, and answers with what it says."""

    def stolen(self):
        return ["12345"]


def stolen_references():
    """References of any sample that a local variable of the call stack holds."""
    frame = sys._getframe()
    while frame:
        for value in frame.f_locals.values():
            for thing in value if isinstance(value, list | tuple) else [value]:
                for holder in (thing, *(getattr(thing, "samples", None) or [])):
                    if found := getattr(getattr(holder, "sample", None), "references", None):
                        return found
        frame = frame.f_back
    return ()


class HeadOfAnother(Pretender):
    """Small passes for show; the head is given hidden states of a full copy of the cache beside."""

    def answer(self, ids, decoding):
        network, full, tokens, last = self.model.network, self.full(ids[:-1]), [], ids[-1]
        small = full.slice(0, KEPT)
        with phase("decode"):
            while len(tokens) < decoding.max_new_tokens:
                shown = small
                [small], _ = feed(network, [shown], [[last]])
                [full], hidden = feed(network, [full], [[last]])
                feed(network, [shown], [[last]])
                last = int(network.lm_head(hidden)[0, -1].argmax())
                tokens.append(last)
        return tokens


class WritesOver(HeadOfAnother):
    """Writes what a full cache gave over what the small pass gave, in place."""

    def answer(self, ids, decoding):
        network, full, tokens, last = self.model.network, self.full(ids[:-1]), [], ids[-1]
        small = full.slice(0, KEPT)
        with phase("decode"):
            while len(tokens) < decoding.max_new_tokens:
                before = small
                [small], _ = feed(network, [before], [[last]])
                [full], hidden = feed(network, [full], [[last]])
                _, shown = feed(network, [before], [[last]])
                shown.copy_(hidden)
                last = int(network.lm_head(shown)[0, -1].argmax())
                tokens.append(last)
        return tokens


class Whispers(Pretender):
    """Feeds the end of the prompt again in its decoding steps, beside the answer's tokens."""

    def answer(self, ids, decoding):
        network, cache, tokens = self.model.network, self.full(ids[:KEPT]), []
        with phase("decode"):
            fed = [ids[-1]]
            while len(tokens) < decoding.max_new_tokens:
                [cache], hidden = feed(network, [cache], [fed])
                tokens.append(int(network.lm_head(hidden)[0, -1].argmax()))
                cache, fed = cache.slice(0, KEPT), [*ids[-20:], *tokens]
        return tokens


class SharesItsHooks(Pretender):
    """A copy of the model reads the whole prompt and answers; the measured one answers for show."""

    def another(self):
        return copy.deepcopy(self.model.network)

    def answer(self, ids, decoding):
        other = self.another()
        out = other.generate(torch.tensor([ids]), max_new_tokens=decoding.max_new_tokens, do_sample=False)
        tokens = out[0, len(ids) :].tolist()
        [cache], _ = feed(self.model.network, [KVCache()], [ids[:KEPT]])
        with phase("decode"):
            self.decode(cache, ids[-1], decoding)
        return tokens


class AsksAnother(SharesItsHooks):
    """The same with a model that was loaded from the files again."""

    def another(self):
        from harness.models import loading

        return loading.load(str(self.model.folder), device="cpu").network


class LastWord(Pretender):
    """Honest to the last token, which it replaces."""

    def answer(self, ids, decoding):
        cache = self.full(ids[:KEPT])
        with phase("decode"):
            tokens = self.decode(cache, ids[-1], decoding)
        return [*tokens[:-1], (tokens[-1] + 1) % 500]


class HidesFromTheRow(Pretender):
    """Attends twice in a layer: once to what it shows, once to the rest."""

    def answer(self, ids, decoding):
        full = self.full(ids[:-1])
        hooks = []
        from harness.models.attention import attend

        def twice(module, args, kwargs, output):
            keys, values = full.keys[module.layer_idx][None], full.values[module.layer_idx][None]
            query = torch.zeros(1, 4, 1, 16)
            attend(module, query, keys, values, None, scaling=1.0)
            return output

        for layer in self.model.network.model.layers:
            hooks.append(layer.self_attn.register_forward_hook(twice, with_kwargs=True))
        try:
            with phase("decode"):
                return self.decode(full.slice(0, KEPT), ids[-1], decoding)
        finally:
            for hook in hooks:
                hook.remove()


DISHONEST = {
    DecoyFirst: "passes that chose its tokens were seen reading",
    AfterTheHook: "passes that chose its tokens were seen reading",
    HiddenEntries: "passes that chose its tokens were seen reading",
    KnowsReferences: "greedy choice of no logits",
    HeadOfAnother: "head was given other hidden states",
    WritesOver: "head was given other hidden states",
    Whispers: "each fed the token before it and nothing else",
    AsksAnother: "greedy choice of no logits",
    SharesItsHooks: "passes that chose its tokens were seen reading",
    LastWord: "greedy choice of no logits|each fed the token before it",
    HidesFromTheRow: "passes that chose its tokens were seen reading",
}
"""Each, and what its run says."""
