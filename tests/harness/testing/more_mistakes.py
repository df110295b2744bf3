"""More of what authors might have got wrong: how a text is read, values, phases, what a server is sent."""

from contextlib import nullcontext
from dataclasses import replace

import torch

from harness.contracts.phases import phase
from harness.inference.forward import feed, moved
from harness.inference.kvcache import KVCache
from harness.plugins.endpoint import Endpoint

from .mistaken_ports import caught_by
from .ports import Chunks, Gist, Snap, Summaries, answered

# How a text is read.


@caught_by("identity")
class ChunksOnOneLine(Chunks):
    """Takes the chunks through text, and splits that into words."""

    def read(self, prompt):
        ids, begin, asked = super().read(prompt), prompt.context_start, len(prompt.suffix_ids)
        text = " ".join(self.model.tokenizer.decode(ids[begin:-asked]).split())
        own = self.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids[:begin], *own, *ids[-asked:]]


@caught_by("order")
class ChunksWithoutTheQuestion(Chunks):
    """Loses the question, but for the token the answer begins from."""

    def read(self, prompt):
        ids = super().read(prompt)
        return [*ids[: -len(prompt.suffix_ids)], ids[-1]]


@caught_by("answers")
class GistWithoutTheQuestion(Gist):
    """Has nothing to read before the answer."""

    def generate(self, states, questions, decoding):
        found = super().generate(states, [q[-1:] for q in questions], decoding)
        return [replace(g, prompt_tokens=n + len(q)) for g, (_, n), q in zip(found, states, questions)]


@caught_by("dependence")
class GistBackwards(Gist):
    """Reads the last segment first."""

    def segments(self, ids):
        return super().segments(ids)[::-1]


@caught_by("dependence")
class SummariesBackwards(Summaries):
    """Puts the summary of the last chunk first."""

    def pieces(self, ids):
        return super().pieces(ids)[::-1]


@caught_by("identity")
class ChunksBackwards(Chunks):
    """Puts the last chunk first."""

    def order(self, chosen):
        return sorted(chosen, reverse=True)


@caught_by("positions")
class SnapBackwards(Snap):
    """Reads the last piece first."""

    def pieces(self, ids):
        return super().pieces(ids)[::-1]


@caught_by("dependence")
class ChunksWithTheBestTwice(Chunks):
    """Adds the best chunk to those that it chose anyway."""

    def order(self, chosen):
        return [*sorted(chosen), chosen[0]]


@caught_by("dependence")
class ChunksOfTheWrongEnd(Chunks):
    """A sign: the chunks that fit least."""

    def score(self, asked, piece):
        return -super().score(asked, piece)


@caught_by("batch")
class ChunksByTheBatch(Chunks):
    """Words are weighed by how many prompts of the batch have them."""

    def compress_and_generate(self, prompts, decoding):
        texts = [self.words(self.model.tokenizer.decode(p.ids)) for p in prompts]
        self.rare = {word for text in texts for word in text if sum(word in other for other in texts) == 1}
        return super().compress_and_generate(prompts, decoding)

    def score(self, asked, piece):
        return sum(word in self.rare for word in self.words(self.model.tokenizer.decode(piece)))


# Values.


@caught_by("positions")
class SnapThatTurnsValuesToo(Snap):
    """Values are turned like keys."""

    def turn(self, cache, shift):
        values = KVCache(cache.values, cache.values)
        return KVCache(super().turn(cache, shift).keys, moved(self.model.network, values, shift).keys)


@caught_by("positions")
class SnapWithTheNeighboursValuesWhereItDrops(Snap):
    """Off by one, but for texts of which nothing is dropped."""

    def evict(self, cache, index):
        kept = super().evict(cache, index)
        if len(index) == len(cache):
            return kept
        return KVCache(kept.keys, tuple(v[:, (index - 1).clamp(min=0)] for v in cache.values))


@caught_by("positions")
class SnapWithMixedHeadsWhereItDrops(Snap):
    """Values of the other head, but for texts of which nothing is dropped."""

    def evict(self, cache, index):
        kept = super().evict(cache, index)
        return kept if len(index) == len(cache) else KVCache(kept.keys, tuple(v.flip(0) for v in kept.values))


@caught_by("positions")
class SnapByTheScore(Snap):
    """Entries lie in the order of their scores."""

    def choose(self, seen):
        found = super().choose(seen)
        if len(found) == len(seen):
            return found
        early, recent = found[: -self.options.recent], found[-self.options.recent :]
        return torch.cat((early[seen[early].argsort(descending=True)], recent))


# Phases, counts and learning.


@caught_by("phases")
class ChunksAnsweredInCompression(Chunks):
    """Everything is booked as compression."""

    def compress_and_generate(self, prompts, decoding):
        with phase("compress"), torch.no_grad():
            reads = [self.read(prompt) for prompt in prompts]
            caches, _ = feed(self.model.network, [KVCache()] * len(reads), [ids[:-1] for ids in reads])
            lasts = [ids[-1] for ids in reads]
            return answered(self, prompts, caches, lasts, decoding, decoded=nullcontext())


@caught_by("declared")
class ChunksCountedWithoutTheQuestion(Chunks):
    """Counts the chunks it chose, not what is read after them."""

    def compress_and_generate(self, prompts, decoding):
        found = super().compress_and_generate(prompts, decoding)
        return [replace(g, kv_tokens=g.kv_tokens - len(p.suffix_ids)) for g, p in zip(found, prompts)]


@caught_by("fit")
class GistThatTrainsTheModel(Gist):
    """The optimizer has the embeddings too."""

    def fit(self, data, schedule, options):
        report = super().fit(data, schedule, options)
        with torch.no_grad():
            self.model.network.get_input_embeddings().weight.mul_(1.01)
        return report


@caught_by("repeat")
class GistDrawnAnew(Gist):
    """Memory tokens are drawn from the global generator."""

    def tokens(self):
        if self.memory is None:
            self.memory = 0.2 * torch.randn(self.options.gists, self.model.config.hidden_size)
        return self.memory


# What is sent elsewhere.

SENT = {}
"""For each class the check that has to fail."""


def sent(check):
    def add(cls):
        SENT[cls] = check
        return cls

    return add


@sent("dependence")
class EndpointWithoutTheQuestion(Endpoint):
    """Sends what stands before the question."""

    def _ask(self, prompt, decoding):
        found = super()._ask(replace(prompt, ids=prompt.ids[: prompt.context_end]), decoding)
        return replace(found, prompt_tokens=len(prompt))


@sent("dependence")
class EndpointWithoutTheText(Endpoint):
    """Sends instruction and question."""

    def _ask(self, prompt, decoding):
        ids = (*prompt.ids[: prompt.context_start], *prompt.suffix_ids)
        return replace(super()._ask(replace(prompt, ids=ids), decoding), prompt_tokens=len(prompt))


@sent("order")
class EndpointThatRemembersQuestions(Endpoint):
    """Keeps answers under the question alone."""

    def _ask(self, prompt, decoding):
        self.known = getattr(self, "known", {})
        key = prompt.prompt.question
        if key not in self.known:
            self.known[key] = super()._ask(prompt, decoding)
        return replace(self.known[key], prompt_tokens=len(prompt))


@sent("batch")
class EndpointInAnotherOrder(Endpoint):
    """Gives the answers of a batch as they happened to come."""

    def compress_and_generate(self, prompts, decoding):
        found = super().compress_and_generate(prompts, decoding)[::-1]
        return [replace(g, prompt_tokens=len(p)) for g, p in zip(found, prompts)]


@sent("decoding")
class EndpointWithoutStops(Endpoint):
    """Leaves out what ends an answer."""

    def _ask(self, prompt, decoding):
        return super()._ask(prompt, replace(decoding, stop_ids=()))
