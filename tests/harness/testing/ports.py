"""Methods of other kinds, as their authors would bring them: retrieval of chunks, eviction, memory tokens, summaries.

Each keeps to the contract; `mistaken_ports` holds what their authors might have got wrong.
"""

import re

import torch
from pydantic import Field
from safetensors.torch import load_file

import harness
from harness.contracts.fit import FitReport
from harness.contracts.phases import phase
from harness.inference.decoding import decode
from harness.inference.forward import feed, moved
from harness.inference.kvcache import KVCache, stack
from harness.inference.stopping import stop_reason
from harness.models import adapters


def answered(method, prompts, caches, lasts, decoding, decoded=None):
    """Decode (in the phase of that name, or in `decoded`), and say what was kept."""
    with decoded or phase("decode"):
        _, answers = decode(method.model, caches, lasts, decoding)
    return [
        harness.Generation(
            method.model.tokenizer.decode(tokens, skip_special_tokens=True),
            tokens,
            stop_reason(method.model, decoding, tokens),
            len(prompt),
            len(cache),
            {},
        )
        for prompt, cache, tokens in zip(prompts, caches, answers)
    ]


class ChunksOptions(harness.Options):
    size: int = Field(24, ge=4, description="tokens of a chunk")
    top: int = Field(3, ge=1, description="chunks that are read")


class Chunks(harness.Method):
    """Read the chunks that share most words with the question."""

    Options = ChunksOptions
    sees_question = True

    def context_limit(self):
        return None

    def pieces(self, ids):
        size = self.options.size
        return [ids[i : i + size] for i in range(0, len(ids), size)]

    def words(self, text):
        return re.findall(r"\w+", text.lower())

    def score(self, asked, piece):
        words = self.words(self.model.tokenizer.decode(piece))
        return sum(words.count(word) for word in asked)

    def order(self, chosen):
        return sorted(chosen)

    def read(self, prompt):
        ids = list(prompt.ids)
        context = ids[prompt.context_start : prompt.context_end]
        pieces = self.pieces(context)
        asked = set(self.words(prompt.prompt.question)) - {"where", "is", "the"}
        scores = [self.score(asked, piece) for piece in pieces]
        best = sorted(range(len(pieces)), key=lambda i: -scores[i])[: self.options.top]
        kept = [token for i in self.order(best) for token in pieces[i]]
        return [*ids[: prompt.context_start], *kept, *prompt.suffix_ids]

    def compress_and_generate(self, prompts, decoding):
        with phase("compress"):
            reads = [self.read(prompt) for prompt in prompts]
        with phase("prefill"), torch.no_grad():
            caches, _ = feed(self.model.network, [KVCache()] * len(reads), [ids[:-1] for ids in reads])
        return answered(self, prompts, caches, [ids[-1] for ids in reads], decoding)


class SnapOptions(harness.Options):
    early: int = Field(60, ge=1, description="entries that stay of what comes before the last ones")
    recent: int = Field(16, ge=1, description="last entries, which all stay")
    chunk: int = Field(100, ge=1, description="tokens read at once")


class Snap(harness.Method):
    """Keep the entries that the last tokens of the prompt attend to most."""

    Options = SnapOptions
    sees_question = True

    def context_limit(self):
        return None if self.model.context_length > 10_000 else self.model.context_length * 2

    def pieces(self, ids):
        step = self.options.chunk
        return [ids[i : i + step] for i in range(0, len(ids), step)]

    def look(self, cache, ids):
        """The cache after `ids`, and how much the last of them attends to each entry."""
        weights = []

        def probe(layer, query, key, scaling):
            groups = query.shape[1] // key.shape[1]
            scores = query.unflatten(1, (key.shape[1], groups)) @ key.transpose(-1, -2) * scaling
            weights.append(scores.softmax(-1).mean((1, 2))[0])

        [cache], _ = feed(self.model.network, [cache], [ids], attention_probe=probe)
        return cache, torch.stack(weights).mean(0)

    def choose(self, seen):
        kept = min(len(seen) - self.options.recent, self.options.early)
        if kept <= 0 or len(seen) <= self.options.early + self.options.recent:
            return torch.arange(len(seen))
        early = seen[: len(seen) - self.options.recent].topk(kept).indices.sort().values
        return torch.cat((early, torch.arange(len(seen) - self.options.recent, len(seen))))

    def evict(self, cache, index):
        kept = KVCache(tuple(k[:, index] for k in cache.keys), tuple(v[:, index] for v in cache.values))
        return self.turn(kept, torch.arange(len(index)) - index)

    def turn(self, cache, shift):
        return moved(self.model.network, cache, shift)

    def one(self, prompt):
        cache, seen = KVCache(), None
        for piece in self.pieces(list(prompt.ids[:-1])):
            cache, seen = self.look(cache, piece)
        return self.evict(cache, self.choose(seen))

    def compress_and_generate(self, prompts, decoding):
        with phase("compress"), torch.no_grad():
            caches = [self.one(prompt) for prompt in prompts]
        return answered(self, prompts, caches, [p.ids[-1] for p in prompts], decoding)


class GistOptions(harness.Options):
    segment: int = Field(32, ge=2, description="tokens of a segment")
    gists: int = Field(4, ge=1, description="memory tokens that stand for it")


class LearnGist(harness.Options):
    steps: int = Field(2, ge=1, description="steps of gradient descent")


class Gist(harness.Method):
    """Read segment after segment, each followed by memory tokens whose entries are all that stays of it."""

    Options = GistOptions
    FitOptions = LearnGist
    trainable = True

    def __init__(self, model, options):
        super().__init__(model, options)
        self.memory = None

    def context_limit(self):
        return None

    def tokens(self):
        """``[gists, hidden]``."""
        if self.memory is None:
            source = torch.Generator().manual_seed(0)
            size = self.model.config.hidden_size
            self.memory = 0.2 * torch.randn(self.options.gists, size, generator=source)
        return self.memory

    def step(self, cache, embedded, keep):
        """Read ``[tokens, hidden]`` after a cache; of the new entries the last `keep` stay, at the next positions."""
        network, had, count = self.model.network, len(cache), len(embedded)
        batch = stack([cache])
        network.model(
            inputs_embeds=embedded[None],
            position_ids=torch.arange(had, had + count)[None],
            attention_mask=batch.causal_mask([count], network.dtype, network.device),
            past_key_values=batch.cache,
            use_cache=True,
        )
        new = batch.row(0, count).slice(had + count - keep, had + count)
        return cache.append(self.place(new, keep - count))

    def place(self, new, shift):
        return moved(self.model.network, new, torch.full((len(new),), shift)) if shift else new

    def segments(self, ids):
        size = self.options.segment
        return [ids[i : i + size] for i in range(0, len(ids), size)]

    def condense(self, ids, memory):
        embed = self.model.network.get_input_embeddings()
        cache = KVCache()
        for segment in self.segments(list(ids)):
            both = torch.cat((embed(torch.tensor(segment)), memory))
            cache = self.step(cache, both, len(memory))
        return cache

    def compress(self, contexts, reserve, decoding):
        with torch.no_grad():
            return [(self.condense(ids, self.tokens()), len(ids)) for ids in contexts]

    def generate(self, states, questions, decoding):
        with phase("prefill"), torch.no_grad():
            caches, _ = feed(self.model.network, [c for c, _ in states], [q[:-1] for q in questions])
        prompts = [range(count + len(q)) for (_, count), q in zip(states, questions)]
        return answered(self, prompts, caches, [q[-1] for q in questions], decoding)

    def fit(self, data, schedule, options):
        memory = self.tokens().clone().requires_grad_()
        optimizer = torch.optim.Adam([memory], lr=schedule.learning_rate)
        network, loss = self.model.network, None
        for ids in (data[i].input_ids for i in range(options.steps)):
            batch = stack([self.condense(ids[:-20], memory)])
            hidden = network.model(
                input_ids=torch.tensor(ids[-20:])[None],
                position_ids=torch.arange(batch.width, batch.width + 20)[None],
                attention_mask=batch.causal_mask([20], network.dtype, network.device),
                past_key_values=batch.cache,
                use_cache=True,
            ).last_hidden_state
            logits = network.lm_head(hidden)[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[-19:]))
            [memory.grad] = torch.autograd.grad(loss, [memory])
            optimizer.step()
        self.memory = self.learned(memory.detach())
        return FitReport(options.steps, float(loss.detach()))

    def learned(self, memory):
        return memory

    def save(self, folder, facts):
        adapters.write(folder, "gist", self.model, {"gist.safetensors": {"memory": self.tokens()}}, facts)

    def load(self, folder):
        adapters.check(folder, ("gist",), self.model)
        [file] = folder.glob("*.safetensors")
        self.memory = load_file(file)["memory"]


class SummaryOptions(harness.Options):
    chunk: int = Field(64, ge=4, description="tokens that are condensed at once")
    words: int = Field(6, ge=1, description="tokens of the summary of each")


class Summaries(harness.Method):
    """Let the model say in a few tokens what each chunk holds, then answer from that."""

    Options = SummaryOptions

    def context_limit(self):
        return None

    def pieces(self, ids):
        size = self.options.chunk
        return [ids[i : i + size] for i in range(0, len(ids), size)]

    def note(self, piece):
        request = self.model.tokenizer("\nIn short:", add_special_tokens=False)["input_ids"]
        ids = [*piece, *request]
        given = torch.tensor([ids])
        found = self.model.network.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=self.options.words,
            do_sample=False,
            pad_token_id=self.model.pad_id,
        )
        return found[0, len(ids) :].tolist()

    def read(self, prompt):
        ids = list(prompt.ids)
        inside = ids[prompt.context_start : prompt.context_end]
        if len(inside) > self.options.chunk:
            inside = [token for piece in self.pieces(inside) for token in self.note(piece)]
        return [*ids[: prompt.context_start], *inside, *prompt.suffix_ids]

    def compress_and_generate(self, prompts, decoding):
        with phase("compress"), torch.no_grad():
            reads = [self.read(prompt) for prompt in prompts]
        with phase("prefill"), torch.no_grad():
            caches, _ = feed(self.model.network, [KVCache()] * len(reads), [ids[:-1] for ids in reads])
        return answered(self, prompts, caches, [ids[-1] for ids in reads], decoding)


PORTS = (Chunks, Snap, Gist, Summaries)
