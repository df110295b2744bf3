"""A method that keeps to the contract, and for each check one that breaks it in one way and in no other.

`Keep` reads the first `sinks` and the last `recent` tokens of the context; it learns one number by `fit`.
"""

import os
import random
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import Field, field_validator

import harness
from harness.contracts.fit import FitReport
from harness.contracts.outputs import Decoding
from harness.contracts.phases import phase
from harness.inference.decoding import decode
from harness.inference.forward import feed
from harness.inference.kvcache import KVCache
from harness.inference.stopping import stop_reason
from harness.models import adapters


class KeepOptions(harness.Options):
    sinks: int = Field(2, ge=0, description="first tokens that stay")
    recent: int = Field(40, ge=1, description="last tokens that stay")


class LearnOptions(harness.Options):
    number: int = Field(3, ge=0, description="what is learned: tokens more at the start")


@dataclass
class State:
    cache: KVCache
    read: int
    notes: list = field(default_factory=list)


class Keep(harness.Method):
    """Keep the first and the last tokens of the context."""

    Options = KeepOptions
    FitOptions = LearnOptions
    trainable = True
    more = 0

    def context_limit(self):
        return None

    def kept(self, ids):
        sinks, recent = self.options.sinks + self.more, self.options.recent
        return list(ids) if len(ids) <= sinks + recent else [*ids[:sinks], *ids[-recent:]]

    def compress(self, contexts, reserve, decoding):
        with torch.no_grad():
            kept = [self.kept(context) for context in contexts]
            caches, _ = feed(self.model.network, [KVCache()] * len(kept), kept)
        return [State(cache, len(context)) for cache, context in zip(caches, contexts)]

    def generate(self, states, questions, decoding):
        caches = [state.cache for state in states]
        with phase("prefill"), torch.no_grad():
            caches, _ = feed(self.model.network, caches, [q[:-1] for q in questions])
        with phase("decode"):
            _, answers = decode(self.model, caches, [q[-1] for q in questions], decoding)
        return [
            harness.Generation(
                self.model.tokenizer.decode(tokens, skip_special_tokens=True),
                tokens,
                stop_reason(self.model, decoding, tokens),
                state.read + len(question),
                len(cache),
            )
            for tokens, state, question, cache in zip(answers, states, questions, caches)
        ]

    def fit(self, data, schedule, options):
        self.more = options.number
        return FitReport(0, None, facts={"number": self.more})

    def save(self, folder, facts):
        adapters.write(folder, "keep", self.model, {}, facts, {"keep.json": f'{{"number": {self.more}}}'})

    def load(self, folder):
        adapters.check(folder, ("keep",), self.model)
        self.more = int((folder / "keep.json").read_text().split(":")[1].strip(" }"))


class Whole(Keep):
    """`Keep` without compress and generate, and with nothing to learn."""

    Options = KeepOptions
    trainable = False
    fit, save, load = harness.Method.fit, harness.Method.save, harness.Method.load
    compress, generate = harness.Method.compress, harness.Method.generate

    def compress_and_generate(self, prompts, decoding):
        with phase("compress"):
            states = [self.state(p, prompts, decoding) for p in prompts]
        return Keep.generate(self, states, [p.suffix_ids for p in prompts], decoding)

    def state(self, prompt, prompts, decoding):
        return Keep.compress(self, [prompt.head_ids], [len(prompt.suffix_ids)], decoding)[0]


BROKEN = {}
"""For each check the classes that break it."""


def breaks(check):
    def add(cls):
        BROKEN.setdefault(check, []).append(cls)
        return cls

    return add


@breaks("contract")
class Untold(Keep):
    __doc__ = ""


@breaks("contract")
class TakesAFlag(Keep):
    """An option with the name of a flag of every run."""

    class Options(KeepOptions):
        limit: int = Field(3, ge=1, description="clashes with --limit")


@breaks("contract")
class CannotSave(Keep):
    """Learns, and forgets."""

    save = harness.Method.save


@breaks("options")
class AnyNumber(Keep):
    """Takes numbers it cannot work with."""

    class Options(harness.Options):
        sinks: int = Field(2, description="first tokens that stay")
        recent: int = Field(40, description="last tokens that stay, at least one of them")

    def kept(self, ids):
        return [*ids[: self.options.sinks], *ids[-(1600 // self.options.recent) :]]


@breaks("options")
class Bends(Keep):
    """Makes something of whatever it is given."""

    class Options(KeepOptions):
        @field_validator("recent", mode="before")
        @classmethod
        def _at_least_one(cls, value):
            return max(1, int(value)) if str(value).lstrip("-").isdecimal() else value


@breaks("before-weights")
class Eager(Keep):
    """Reads the weights to say how far it reads."""

    def context_limit(self):
        return None if self.model.network.config.hidden_size else 1


@breaks("answers")
class Miscounts(Keep):
    """Gives the tokens it kept for those it was given."""

    def generate(self, states, questions, decoding):
        found = super().generate(states, questions, decoding)
        return [replace(g, prompt_tokens=g.kv_tokens + 1) for g in found]


@breaks("answers")
class Trims(Keep):
    """Polishes its answers."""

    def generate(self, states, questions, decoding):
        return [replace(g, text=g.text.strip() + ".") for g in super().generate(states, questions, decoding)]


@breaks("answers")
class LosesOne(Keep):
    """Forgets the last answer."""

    def generate(self, states, questions, decoding):
        return super().generate(states, questions, decoding)[:-1]


@breaks("decoding")
class NeverStops(Keep):
    """Does not know what should stop it."""

    def generate(self, states, questions, decoding):
        return super().generate(states, questions, Decoding(decoding.max_new_tokens))


@breaks("decoding")
class TooLong(Keep):
    """Always answers in full."""

    def generate(self, states, questions, decoding):
        return super().generate(states, questions, replace(decoding, max_new_tokens=5))


@breaks("decoding")
class TooShort(Keep):
    """Stops too early."""

    def generate(self, states, questions, decoding):
        return super().generate(states, questions, replace(decoding, min_new_tokens=0))


@breaks("repeat")
class Draws(Keep):
    """Keeps what chance says."""

    source = random.Random(os.urandom(8))

    def kept(self, ids):
        start = self.source.randrange(len(ids) - self.options.recent)
        return list(ids[start : start + self.options.recent])


@breaks("every-sample")
class OnlyTheFirst(Keep):
    """Compresses the first sample alone: the best-known bug of the field."""

    done = False

    def compress(self, contexts, reserve, decoding):
        if not self.done:
            self.done = True
            return super().compress(contexts, reserve, decoding)
        caches, _ = feed(self.model.network, [KVCache()] * len(contexts), contexts)
        return [State(cache, len(context)) for cache, context in zip(caches, contexts)]


@breaks("order")
class Remembers(Keep):
    """Reads the end of the sample before in place of its own beginning."""

    last = None

    def kept(self, ids):
        return super().kept(ids) if self.last is None else [*self.last, *super().kept(ids)[2:]]

    def compress(self, contexts, reserve, decoding):
        states = super().compress(contexts, reserve, decoding)
        self.last = contexts[-1][-20:-18]
        return states


@breaks("batch")
class ToTheShortest(Whole):
    """Keeps as much of each sample as of the shortest in its batch."""

    def state(self, prompt, prompts, decoding):
        few = min(len(p.head_ids) for p in prompts) // 8
        ids = [*prompt.head_ids[:4], *prompt.head_ids[-few:]]
        [cache], _ = feed(self.model.network, [KVCache()], [ids])
        return State(cache, len(prompt.head_ids))


@breaks("declared")
class Pretends(Whole):
    """Says that it compressed, and did not."""

    def context_limit(self):
        return self.model.context_length

    def kept(self, ids):
        return list(ids)

    def compress_and_generate(self, prompts, decoding):
        found = super().compress_and_generate(prompts, decoding)
        return [replace(g, kv_tokens=g.kv_tokens // 4) for g in found]


@breaks("declared")
class Unseen(Whole):
    """Reads everything anew for each token, so that nobody sees a cache."""

    def compress_and_generate(self, prompts, decoding):
        found = []
        for prompt in prompts:
            ids, kept = [], [*self.kept(prompt.head_ids), *prompt.suffix_ids]
            ends = {*self.model.end_ids, *decoding.stop_ids}
            while len(ids) < decoding.max_new_tokens and not (ids and ids[-1] in ends):
                with torch.no_grad():
                    logits = self.model.network(torch.tensor([kept + ids]), use_cache=False).logits[0, -1]
                if len(ids) < decoding.min_new_tokens:
                    logits[list(ends)] = -torch.inf
                ids.append(int(logits.argmax()))
            text = self.model.tokenizer.decode(ids, skip_special_tokens=True)
            reason = stop_reason(self.model, decoding, ids)
            found.append(harness.Generation(text, ids, reason, len(prompt), len(kept) - 1))
        return found


@breaks("limit")
class Short(Keep):
    """Says that it reads anything, and fails on what is long."""

    def compress(self, contexts, reserve, decoding):
        if max(map(len, contexts)) > 2.2 * self.model.context_length:
            raise IndexError("position out of range")
        return super().compress(contexts, reserve, decoding)


@breaks("limit")
class Boundless(Keep):
    """Says that it reads anything, and keeps four fifths of it."""

    def kept(self, ids):
        return [token for i, token in enumerate(ids) if i % 5]


@breaks("limit")
class Shifting(Keep):
    """Reads less once it has read."""

    reach = None

    def context_limit(self):
        return self.reach

    def compress(self, contexts, reserve, decoding):
        self.reach = 100_000
        return super().compress(contexts, reserve, decoding)


@breaks("two-phase")
class TwoWays(Keep):
    """Its compress_and_generate keeps a token more than compress."""

    def compress_and_generate(self, prompts, decoding):
        self.more += 1
        found = super().compress_and_generate(prompts, decoding)
        self.more -= 1
        return found


@breaks("shared-state")
class UsesUp(Keep):
    """Extends the state it answers from."""

    def generate(self, states, questions, decoding):
        found = super().generate(states, questions, decoding)
        with phase("prefill"):
            for state, question in zip(states, questions):
                [state.cache], _ = feed(self.model.network, [state.cache], [question])
        return found


@breaks("shared-state")
class CountsOn(Keep):
    """Notes in the state that it has served; the answers are the same."""

    def generate(self, states, questions, decoding):
        for state in states:
            state.notes.append("served")
        return super().generate(states, questions, decoding)


@breaks("share-key")
class SharesTooMuch(Keep):
    """Makes room for the question, and says that questions of any length may share."""

    def share_key(self, context, reserve, decoding):
        return None

    def compress(self, contexts, reserve, decoding):
        return [
            super(SharesTooMuch, self).compress([c[r:]], [r], decoding)[0] for c, r in zip(contexts, reserve)
        ]

    def generate(self, states, questions, decoding):
        states = [replace(s, read=s.read + len(q)) for s, q in zip(states, questions)]
        return super().generate(states, questions, decoding)


@breaks("question")
class Peeks(Whole):
    """Chooses by the question what to keep, and does not say so."""

    def state(self, prompt, prompts, decoding):
        start = 10 + sum(prompt.suffix_ids) % 50
        ids = prompt.head_ids[start : start + 40]
        [cache], _ = feed(self.model.network, [KVCache()], [ids])
        return State(cache, len(prompt.head_ids))


@breaks("question")
class Prepares(Keep):
    """Remembers the questions it was prepared for, and compresses for them."""

    def prepare(self, prompts, decoding):
        self.known = {p.head_ids: p.suffix_ids for p in prompts}

    def kept(self, ids):
        return [*super().kept(ids)[:-10], *self.known.get(tuple(ids), ids)[:10]]


@breaks("weights")
class Writes(Keep):
    """Changes a weight by what is too little to be seen in an answer."""

    def generate(self, states, questions, decoding):
        with torch.no_grad():
            self.model.network.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-6
        return super().generate(states, questions, decoding)


@breaks("weights")
class Thaws(Keep):
    """Leaves gradients on."""

    def generate(self, states, questions, decoding):
        self.model.network.model.norm.weight.requires_grad_(True)
        return super().generate(states, questions, decoding)


@breaks("modules")
class LeavesAHook(Keep):
    """Leaves a hook on a layer."""

    def generate(self, states, questions, decoding):
        self.model.network.model.layers[0].register_forward_hook(lambda module, args, output: None)
        return super().generate(states, questions, decoding)


@breaks("modules")
class LeavesANote(Keep):
    """Leaves an attribute on a module."""

    def generate(self, states, questions, decoding):
        self.model.network.model.layers[0].self_attn.window = self.options.recent
        return super().generate(states, questions, decoding)


@breaks("modules")
class Configures(Keep):
    """Leaves the model's configuration changed."""

    def generate(self, states, questions, decoding):
        self.model.network.config.sliding_window_ratio = 0.5
        return super().generate(states, questions, decoding)


@breaks("modules")
class Pads(Keep):
    """Gives the tokenizer another padding."""

    def generate(self, states, questions, decoding):
        self.model.tokenizer.padding_side = "left"
        return super().generate(states, questions, decoding)


@breaks("modules")
class Trains(Keep):
    """Leaves the model in training mode."""

    def generate(self, states, questions, decoding):
        found = super().generate(states, questions, decoding)
        self.model.network.train()
        return found


@breaks("process")
class Seeds(Keep):
    """Seeds the generator of everybody."""

    def generate(self, states, questions, decoding):
        torch.manual_seed(7)
        return super().generate(states, questions, decoding)


@breaks("memory")
class Hoards(Keep):
    """Keeps every cache."""

    def __init__(self, model, options):
        super().__init__(model, options)
        self.history = []

    def compress(self, contexts, reserve, decoding):
        states = super().compress(contexts, reserve, decoding)
        self.history += states
        return states


@breaks("memory")
class WritesDown(Keep):
    """Keeps a text of every sample."""

    def __init__(self, model, options):
        super().__init__(model, options)
        self.history = []

    def compress(self, contexts, reserve, decoding):
        self.history += [repr([f"token {i} of {c}" for i, c in enumerate(ids)]) * 20 for ids in contexts]
        return super().compress(contexts, reserve, decoding)


@breaks("disk")
class KeepsAnswersSomewhere(Keep):
    """Writes each context to a file of its own making."""

    def compress(self, contexts, reserve, decoding):
        Path(tempfile.gettempdir(), "keeps-answers").write_text(str(contexts))
        return super().compress(contexts, reserve, decoding)


@breaks("disk")
class AnswersByWhatIsThere(Keep):
    """Keeps more where its folder in the cache was there before."""

    def prepare(self, prompts, decoding):
        file = Path(os.environ["HARNESS_CACHE"], "keeps", str(len(prompts[0])))
        self.more = 0 if file.exists() else 1
        if len(prompts) > 3:  # the checks have a method prepare for all of their prompts first
            for prompt in prompts:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.with_name(str(len(prompt))).write_text("x")
            self.more = 0


@breaks("fit")
class LearnsTheModel(Keep):
    """Its fit changes the base model."""

    def fit(self, data, schedule, options):
        with torch.no_grad():
            self.model.network.model.norm.weight *= 1.001
        return super().fit(data, schedule, options)


@breaks("fit")
class LearnsForAll(Keep):
    """What one instance learns, all know."""

    def fit(self, data, schedule, options):
        report = super().fit(data, schedule, options)
        type(self).more = self.more
        return report


@breaks("save")
class Forgets(Keep):
    """Saves something else than it learned."""

    def save(self, folder, facts):
        learned, self.more = self.more, 0
        super().save(folder, facts)
        self.more = learned


@breaks("save")
class Pickles(Keep):
    """Writes what nobody can safely read."""

    def save(self, folder, facts):
        super().save(folder, facts)
        (folder / "extra.bin").write_bytes(b"0")


@breaks("save")
class TakesAnything(Keep):
    """Does not look at what it loads."""

    def load(self, folder):
        if (folder / "keep.json").exists():
            super().load(folder)
