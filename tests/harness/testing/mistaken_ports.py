"""What the authors of `ports` might have got wrong: one mistake a class, and `MISTAKEN` says what catches it."""

from dataclasses import replace

import torch

from harness.inference.decoding import decode
from harness.inference.forward import moved
from harness.inference.kvcache import KVCache
from harness.models import adapters

from .ports import Chunks, Gist, Snap, Summaries

MISTAKEN = {}
"""For each class the checks one of which has to fail."""


def caught_by(*checks):
    def add(cls):
        MISTAKEN[cls] = checks
        return cls

    return add


# Tokens that are never read.


@caught_by("dependence")
class ChunksWithoutTheLast(Chunks):
    """Leaves out the last chunk."""

    def pieces(self, ids):
        return super().pieces(ids)[:-1] or [ids]


@caught_by("dependence")
class ChunksThatEndTooSoon(Chunks):
    """Loses the last token of each chunk."""

    def pieces(self, ids):
        return [piece[:-1] or piece for piece in super().pieces(ids)]


@caught_by("dependence")
class ChunksFromTheSecondToken(Chunks):
    """Loses the first token."""

    def pieces(self, ids):
        return super().pieces(ids[1:])


@caught_by("dependence")
class ChunksOfAFullSizeOnly(Chunks):
    """Loses what is left over at the end."""

    def pieces(self, ids):
        return [p for p in super().pieces(ids) if len(p) == self.options.size] or [ids]


@caught_by("dependence", "positions")
class SnapThatSkips(Snap):
    """Loses a token between pieces."""

    def pieces(self, ids):
        return [piece[:-1] or piece for piece in super().pieces(ids)]


@caught_by("dependence")
class SnapWithoutTheMiddle(Snap):
    """Forgets every second piece."""

    def pieces(self, ids):
        found = super().pieces(ids)
        return [*found[:-1:2], found[-1]] if len(found) > 1 else found


@caught_by("dependence")
class GistWithoutTheRest(Gist):
    """Loses the last segment if it is not full."""

    def segments(self, ids):
        return [s for s in super().segments(ids) if len(s) == self.options.segment]


@caught_by("dependence")
class GistThatEndsTooSoon(Gist):
    """Loses the last token of each segment."""

    def segments(self, ids):
        return [segment[:-1] or segment for segment in super().segments(ids)]


@caught_by("dependence")
class SummariesWithoutTheLast(Summaries):
    """Leaves out the last chunk."""

    def pieces(self, ids):
        return super().pieces(ids)[:-1]


@caught_by("dependence")
class SummariesThatEndTooSoon(Summaries):
    """Loses the last token of each chunk."""

    def pieces(self, ids):
        return [piece[:-1] or piece for piece in super().pieces(ids)]


@caught_by("dependence")
class ChunksCutToTheWindow(Chunks):
    """Looks at what the window holds, and says that it reads anything."""

    def pieces(self, ids):
        return super().pieces(ids[: self.model.context_length])


@caught_by("dependence")
class ChunksWithoutTheInstruction(Chunks):
    """Loses what stands before the context."""

    def read(self, prompt):
        return super().read(prompt)[prompt.context_start :]


@caught_by("dependence")
class ChunksUnderTwoTemplates(Chunks):
    """Puts the template's beginning before what begins with it."""

    def read(self, prompt):
        return [*prompt.ids[: prompt.context_start], *super().read(prompt)]


@caught_by("identity")
class ChunksInLowerCase(Chunks):
    """Puts the words that it compared into the prompt, not those of the text."""

    def read(self, prompt):
        ids, begin, asked = super().read(prompt), prompt.context_start, len(prompt.suffix_ids)
        text = self.model.tokenizer.decode(ids[begin:-asked]).lower()
        own = self.model.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids[:begin], *own, *ids[-asked:]]


@caught_by("dependence")
class SummariesOfTheFirstChunk(Summaries):
    """Every summary is that of the first chunk."""

    def note(self, piece):
        self.kept = getattr(self, "kept", None) or super().note(piece)
        return self.kept


# Entries that are not what they seem.


@caught_by("identity")
class SnapWithTheNeighboursValues(Snap):
    """Keys of the chosen entries, values of those before them."""

    def evict(self, cache, index):
        kept, other = super().evict(cache, index), (index - 1).clamp(min=0)
        return KVCache(kept.keys, tuple(v[:, other] for v in cache.values))


@caught_by("identity")
class SnapWithMixedLayers(Snap):
    """Values of another layer."""

    def evict(self, cache, index):
        kept = super().evict(cache, index)
        return KVCache(kept.keys, kept.values[::-1])


@caught_by("identity")
class SnapWithMixedHeads(Snap):
    """Keys of another head."""

    def evict(self, cache, index):
        kept = super().evict(cache, index)
        return KVCache(tuple(k.flip(0) for k in kept.keys), kept.values)


@caught_by("identity", "positions")
class SnapThatAsksFirst(Snap):
    """Reads the question before the text, and the answer's first token after it."""

    def one(self, prompt):
        cache, seen = KVCache(), None
        for piece in self.pieces([*prompt.suffix_ids[:-1], *prompt.ids[: prompt.context_end]]):
            cache, seen = self.look(cache, piece)
        return self.evict(cache, self.choose(seen))


@caught_by("batch")
class GistWithOneQuestionForAll(Gist):
    """A batch is asked its first sample's question."""

    def generate(self, states, questions, decoding):
        found = super().generate(states, [questions[0]] * len(questions), decoding)
        return [replace(g, prompt_tokens=n + len(q)) for g, (_, n), q in zip(found, states, questions)]


# Positions.


@caught_by("positions")
class SnapThatDoesNotTurn(Snap):
    """Entries stay at their old positions while the answer begins at the new end."""

    def turn(self, cache, shift):
        return cache


@caught_by("positions")
class SnapThatTurnsTheWrongWay(Snap):
    """A sign."""

    def turn(self, cache, shift):
        return super().turn(cache, -shift)


@caught_by("positions")
class SnapThatTurnsOneLayer(Snap):
    """Only the first layer's keys are turned."""

    def turn(self, cache, shift):
        turned = super().turn(cache, shift)
        return KVCache((turned.keys[0], *cache.keys[1:]), cache.values)


@caught_by("positions", "identity")
class SnapOffByOne(Snap):
    """Everything stands one place too early."""

    def turn(self, cache, shift):
        return super().turn(cache, shift - 1)


@caught_by("positions")
class GistThatDoesNotTurn(Gist):
    """Memory tokens stay where they were read."""

    def place(self, new, shift):
        return new


@caught_by("positions")
class GistThatTurnsHalfWay(Gist):
    """An integer division."""

    def place(self, new, shift):
        return moved(self.model.network, new, torch.full((len(new),), shift // 2))


# What piles up.


@caught_by("order")
class ChunksOfAllSamples(Chunks):
    """Counts words over all samples it saw, and prefers rare ones."""

    def __init__(self, model, options):
        super().__init__(model, options)
        self.seen = {}

    def score(self, asked, piece):
        words = self.words(self.model.tokenizer.decode(piece))
        for word in words:
            self.seen[word] = self.seen.get(word, 0) + 1
        return sum(1 / self.seen[word] for word in words if len(word) > 1)


@caught_by("order")
class SnapOfAllSamples(Snap):
    """Attention is averaged with that of the samples before."""

    before = None

    def choose(self, seen):
        if self.before is not None and len(self.before) >= len(seen):
            seen = seen + self.before[: len(seen)]
        self.before = seen
        return super().choose(seen)


@caught_by("order", "every-sample")
class SnapThatRemembersMuch(Snap):
    """After its third sample it keeps fewer."""

    count = 0

    def choose(self, seen):
        type(self).count += 1
        found = super().choose(seen)
        return found if self.count % 7 else found[len(found) // 2 :]


@caught_by("order", "shared-state", "question")
class GistThatDrifts(Gist):
    """Memory tokens move a little with each context."""

    def condense(self, ids, memory):
        cache = super().condense(ids, memory)
        if self.memory is not None:
            self.memory = self.memory * 1.001
        return cache


@caught_by("order")
class GistByItsBeginning(Gist):
    """Keeps what it made of a text, and takes one that begins alike for the same."""

    def compress(self, contexts, reserve, decoding):
        self.known = getattr(self, "known", {})
        keys = [(len(ids), tuple(ids[:16])) for ids in contexts]
        for key, ids in zip(keys, contexts):
            if key not in self.known:
                [self.known[key]] = super().compress([ids], reserve, decoding)
        return [self.known[key] for key in keys]


@caught_by("order")
class ChunksByTheQuestion(Chunks):
    """Keeps what it chose under the question, whatever the text is."""

    def read(self, prompt):
        self.known = getattr(self, "known", {})
        return self.known.setdefault(prompt.prompt.question, super().read(prompt))


# Questions that were seen.


@caught_by("question")
class ChunksThatSayTheyAreBlind(Chunks):
    """Retrieves by the question's words and says it does not."""

    sees_question = False


@caught_by("question")
class SnapThatSaysItIsBlind(Snap):
    """Evicts by the question's attention and says it does not."""

    sees_question = False


@caught_by("question")
class SummariesForTheQuestion(Summaries):
    """Puts the question into what it asks of each chunk, and says it does not."""

    asked = ()

    def read(self, prompt):
        self.asked = prompt.suffix_ids
        return super().read(prompt)

    def note(self, piece):
        return super().note([*piece, *self.asked])


# Adapters and counts.


@caught_by("fit")
class GistThatLearnsNothing(Gist):
    """Trains a copy."""

    def learned(self, memory):
        return self.memory


@caught_by("save")
class GistThatLoadsNothing(Gist):
    """Checks the folder, and leaves it at that."""

    def load(self, folder):
        super().load(folder)
        self.memory = None


@caught_by("save")
class GistThatSavesRounded(Gist):
    """Saves what it learned to a quarter."""

    def save(self, folder, facts):
        memory = (self.tokens() * 4).round() / 4
        adapters.write(folder, "gist", self.model, {"gist.safetensors": {"memory": memory}}, facts)


@caught_by("repeat")
class SummariesThatAreDrawn(Summaries):
    """Lets the model draw what it says of a chunk."""

    def note(self, piece):
        given = torch.tensor([list(piece)])
        found = self.model.network.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=self.options.words,
            do_sample=True,
            pad_token_id=self.model.pad_id,
        )
        return found[0, len(piece) :].tolist()


@caught_by("declared")
class GistThatCountsLessIfAsked(Gist):
    """Counts half of its entries where compression is blind."""

    def generate(self, states, questions, decoding):
        found = super().generate(states, questions, decoding)
        return [replace(g, kv_tokens=g.kv_tokens // 2) for g in found] if self.query_agnostic else found


@caught_by("declared")
class SnapThatKeepsItAll(Snap):
    """Says what it would keep."""

    def compress_and_generate(self, prompts, decoding):
        most = self.options.early + self.options.recent
        self.evict, real = (lambda cache, index: cache), self.evict
        try:
            found = super().compress_and_generate(prompts, decoding)
        finally:
            self.evict = real
        return [replace(g, kv_tokens=min(g.kv_tokens, most)) for g in found]


@caught_by("phases")
class SummariesInNoPhase(Summaries):
    """Takes its time where nobody books it."""

    def compress_and_generate(self, prompts, decoding):
        for prompt in prompts:
            with torch.no_grad():
                self.read(prompt)
        return super().compress_and_generate(prompts, decoding)


@caught_by("phases")
class ChunksAnsweredInNoPhase(Chunks):
    """Decodes where nobody books it."""

    def compress_and_generate(self, prompts, decoding):
        from harness.inference.forward import feed
        from harness.inference.stopping import stop_reason

        reads = [self.read(prompt) for prompt in prompts]
        with torch.no_grad():
            caches, _ = feed(self.model.network, [KVCache()] * len(reads), [ids[:-1] for ids in reads])
        _, answers = decode(self.model, caches, [ids[-1] for ids in reads], decoding)
        return [
            replace_text(self.model, tokens, stop_reason(self.model, decoding, tokens), len(p), len(c))
            for tokens, p, c in zip(answers, prompts, caches)
        ]


def replace_text(model, tokens, reason, read, kept):
    from harness import Generation

    return Generation(model.tokenizer.decode(tokens, skip_special_tokens=True), tokens, reason, read, kept)
