"""Methods that break the contract as a careful author might: each in one way, which one check has to name."""

import os
from collections.abc import Sequence
from dataclasses import replace

import torch
import transformers.models.llama.modeling_llama as llama
from pydantic import Field

from harness.contracts.outputs import Likelihood, Scored
from harness.inference.forward import moved
from harness.inference.kvcache import KVCache
from harness.inference.likelihood import by_decoding

from .broken_methods import Keep, State, Whole

SUBTLE = {}
"""For each check the classes that break it."""


def breaks(check):
    def add(cls):
        SUBTLE.setdefault(check, []).append(cls)
        return cls

    return add


@breaks("repeat")
class DropsOut(Keep):
    """Leaves a little dropout on: too little to show in an answer."""

    source = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))

    def compress(self, contexts, reserve, decoding):
        return [
            State(
                KVCache(
                    state.cache.keys,
                    tuple(
                        v * (1 + 0.05 * torch.randn(v.shape, generator=self.source))
                        for v in state.cache.values
                    ),
                ),
                state.read,
            )
            for state in super().compress(contexts, reserve, decoding)
        ]


ONCE = []


@breaks("every-sample")
class OncePerProcess(Keep):
    """Compresses the first sample of the process."""

    def kept(self, ids):
        if ONCE:
            return list(ids)
        ONCE.append(True)
        return super().kept(ids)


@breaks("every-sample")
class EveryOther(Keep):
    """Takes its hook off too early, so that every other sample is compressed."""

    on = True

    def kept(self, ids):
        self.on = not self.on
        return list(ids) if self.on else super().kept(ids)


BY_LENGTH = {}


@breaks("order")
class ByLength(Keep):
    """Remembers for the whole process what it compressed, by the length of the context."""

    def kept(self, ids):
        return BY_LENGTH.setdefault(len(ids), super().kept(ids))


@breaks("order")
class ByLengthHere(Keep):
    """Remembers what it compressed, by the length of the context."""

    def __init__(self, model, options):
        super().__init__(model, options)
        self.known = {}

    def kept(self, ids):
        return self.known.setdefault(len(ids), super().kept(ids))


ANSWERS = {}


@breaks("order")
class ByContext(Whole):
    """Remembers answers by the context, whatever the question."""

    def compress_and_generate(self, prompts, decoding):
        asked = [
            p if self.known(p.head_ids) is None else replace(p, ids=(*p.head_ids, *self.known(p.head_ids)))
            for p in prompts
        ]
        for p in prompts:
            ANSWERS.setdefault(p.head_ids, p.suffix_ids)
        return super().compress_and_generate(asked, decoding)

    def known(self, head):
        return ANSWERS.get(head)


@breaks("order")
class Drifts(Keep):
    """Keeps a running mean of what it read, by which it shifts what it reads next; a little."""

    mean = 0.0

    def compress(self, contexts, reserve, decoding):
        states = super().compress(contexts, reserve, decoding)
        for state in states:
            values = tuple(v * (1 + self.mean / 2e5) for v in state.cache.values)
            state.cache = KVCache(state.cache.keys, values)
        self.mean = sum(contexts[-1]) / len(contexts[-1])
        return states


@breaks("batch")
class SeesPadding(Whole):
    """Lets rows of a batch see one entry of their padding."""

    def state(self, prompt, prompts, decoding):
        state = super().state(prompt, prompts, decoding)
        if len(prompt) < max(map(len, prompts)):
            cache = state.cache
            state.cache = KVCache(
                tuple(torch.cat((torch.zeros_like(k[:, :1]), k[:, 1:]), 1) for k in cache.keys),
                tuple(torch.cat((torch.zeros_like(v[:, :1]), v[:, 1:]), 1) for v in cache.values),
            )
        return state


@breaks("likelihood")
class Losses(Keep):
    """Gives losses for log-likelihoods."""

    def loglikelihood(self, prompts, continuations):
        return changed(by_decoding(self, prompts, continuations), lambda x: replace(x, logprob=-x.logprob))


@breaks("likelihood")
class Ranks(Keep):
    """Gives the likeliest first."""

    def loglikelihood(self, prompts, continuations):
        found = by_decoding(self, prompts, continuations)
        for scored in found:
            scored.likelihoods.sort(key=lambda x: -x.logprob / x.tokens)
        return found


@breaks("likelihood")
class AfterEachOther(Keep):
    """Reads each continuation after those before it."""

    def loglikelihood(self, prompts, continuations):
        found = []
        for prompt, choices in zip(prompts, continuations):
            read: list = []
            likelihoods = []
            scored = None
            for choice in choices:
                whole = by_decoding(self, [prompt], [[[*read, *choice]]])[0]
                before = by_decoding(self, [prompt], [[read]])[0].likelihoods[0].logprob if read else 0.0
                scored = scored or whole
                greedy = whole.likelihoods[0].greedy
                likelihoods.append(
                    Likelihood(min(0.0, whole.likelihoods[0].logprob - before), greedy, len(choice))
                )
                read = [*read, *choice]
            found.append(replace(scored, likelihoods=likelihoods))
        return found


@breaks("likelihood")
class StaysInTheMood(Keep):
    """Keeps more once it was asked for likelihoods."""

    def loglikelihood(self, prompts, continuations):
        self.more = 1
        return by_decoding(self, prompts, continuations)

    def kept(self, ids):
        return super().kept(ids)


@breaks("likelihood")
class Relative(Keep):
    """Gives likelihoods that sum to one over the continuations it was asked for."""

    def loglikelihood(self, prompts, continuations):
        found = by_decoding(self, prompts, continuations)
        for scored in found:
            all_of_them = torch.tensor([x.logprob for x in scored.likelihoods]).logsumexp(0).item()
            scored.likelihoods = [
                replace(x, logprob=min(0.0, x.logprob - all_of_them)) for x in scored.likelihoods
            ]
        return found


@breaks("likelihood")
class OneForAll(Keep):
    """Scores a batch over the cache of its first row."""

    def loglikelihood(self, prompts, continuations):
        return by_decoding(self, [prompts[0]] * len(prompts), continuations)


@breaks("as-generated")
class Means(Keep):
    """Gives the mean over the tokens of a continuation."""

    def loglikelihood(self, prompts, continuations):
        return changed(
            by_decoding(self, prompts, continuations),
            lambda x: replace(x, logprob=x.logprob / x.tokens),
        )


@breaks("as-generated")
class InBits(Keep):
    """Takes the binary logarithm."""

    def loglikelihood(self, prompts, continuations):
        return changed(
            by_decoding(self, prompts, continuations),
            lambda x: replace(x, logprob=x.logprob / 0.6931471805599453),
        )


@breaks("as-generated")
class AlwaysGreedy(Keep):
    """Takes every continuation for its own."""

    def loglikelihood(self, prompts, continuations):
        return changed(by_decoding(self, prompts, continuations), lambda x: replace(x, greedy=True))


@breaks("as-generated")
class NeverGreedy(Keep):
    """Takes no continuation for its own."""

    def loglikelihood(self, prompts, continuations):
        return changed(by_decoding(self, prompts, continuations), lambda x: replace(x, greedy=False))


@breaks("as-generated")
class ScoresInFull(Keep):
    """Scores over the whole prompt, uncompressed, and says what its answers keep."""

    def loglikelihood(self, prompts, continuations):
        found = []
        for prompt, choices, said in zip(prompts, continuations, by_decoding(self, prompts, continuations)):
            rows = []
            for choice in choices:
                with torch.no_grad():
                    ids = torch.tensor([[*prompt.ids, *choice]])
                    logits = self.model.network(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
                wanted = torch.tensor(choice)
                costs = logits.log_softmax(-1).gather(1, wanted[:, None])
                rows.append(
                    Likelihood(float(costs.sum()), bool((logits.argmax(-1) == wanted).all()), len(choice))
                )
            found.append(replace(said, likelihoods=rows))
        return found


@breaks("as-generated")
class KeepsMoreToScore(Keep):
    """Compresses less where likelihoods are asked for."""

    def loglikelihood(self, prompts, continuations):
        self.more += 8
        try:
            return by_decoding(self, prompts, continuations)
        finally:
            self.more -= 8


@breaks("question")
class LooksBack(Keep):
    """Drops other entries for other questions once they are there, with the question read."""

    def compress_and_generate(self, prompts, decoding):
        states = self.compress([p.head_ids for p in prompts], [len(p.suffix_ids) for p in prompts], decoding)
        for state, prompt in zip(states, prompts):
            drop = 5 + sum(prompt.suffix_ids) % 20
            state.cache = state.cache.slice(0, drop).append(state.cache.slice(drop + 1, len(state.cache)))
        return self.generate(states, [p.suffix_ids for p in prompts], decoding)


@breaks("modules")
class PatchesAFunction(Keep):
    """Replaces a function of transformers, and leaves it so."""

    def compress(self, contexts, reserve, decoding):
        before = llama.apply_rotary_pos_emb
        llama.apply_rotary_pos_emb = lambda *args, **more: before(*args, **more)
        return super().compress(contexts, reserve, decoding)


@breaks("modules")
class HooksTheHead(Keep):
    """Leaves a hook on the head when likelihoods are asked for."""

    def loglikelihood(self, prompts, continuations):
        self.model.network.lm_head.register_forward_pre_hook(lambda module, args: None)
        return by_decoding(self, prompts, continuations)


@breaks("process")
class PatchesTheCache(Keep):
    """Replaces a method of transformers' cache, and leaves it so."""

    def compress(self, contexts, reserve, decoding):
        from transformers import DynamicCache

        before = DynamicCache.get_seq_length
        DynamicCache.get_seq_length = lambda *args, **more: before(*args, **more)
        return super().compress(contexts, reserve, decoding)


@breaks("process")
class PatchesAttention(Keep):
    """Replaces torch's attention, and leaves it so."""

    def compress(self, contexts, reserve, decoding):
        from torch.nn import functional

        before = functional.scaled_dot_product_attention
        functional.scaled_dot_product_attention = lambda *args, **more: before(*args, **more)
        return super().compress(contexts, reserve, decoding)


@breaks("process")
class SwitchesKernels(Keep):
    """Switches off torch's flash attention, and leaves it so."""

    def compress(self, contexts, reserve, decoding):
        torch.backends.cuda.enable_flash_sdp(False)
        return super().compress(contexts, reserve, decoding)


@breaks("process")
class SetsTheEnvironment(Keep):
    """Leaves an environment variable."""

    def compress(self, contexts, reserve, decoding):
        os.environ["KEEP_IS_AT"] = str(len(contexts[0]))
        return super().compress(contexts, reserve, decoding)


KEPT = []


@breaks("memory")
class HoardsShort(Keep):
    """Keeps the caches of short samples in a list of the process."""

    def compress(self, contexts, reserve, decoding):
        states = super().compress(contexts, reserve, decoding)
        KEPT.extend(s.cache for s, ids in zip(states, contexts) if len(ids) < 200)
        return states


@breaks("fit")
class EatsTheData(Keep):
    """Uses up what it learns from."""

    def fit(self, data, schedule, options):
        data[0].input_ids.reverse()
        return super().fit(data, schedule, options)


@breaks("fit")
class SetsThePrecision(Keep):
    """Leaves torch with another precision once it has learned."""

    def fit(self, data, schedule, options):
        torch.set_float32_matmul_precision("high")
        return super().fit(data, schedule, options)


SAVED = []


@breaks("save")
class SavesInMemory(Keep):
    """Loads what it saved last, wherever that is."""

    def save(self, folder, facts):
        super().save(folder, facts)
        SAVED.append(self.more)

    def load(self, folder):
        super().load(folder)
        self.more = SAVED[-1] if SAVED else self.more


def changed(found: Sequence[Scored], change) -> list[Scored]:
    """Likelihoods changed one by one."""
    return [replace(scored, likelihoods=[change(x) for x in scored.likelihoods]) for scored in found]


@breaks("phases")
class Unbooked(Keep):
    """Reads the context twice, once where nobody books it."""

    def compress_and_generate(self, prompts, decoding):
        self.compress([p.head_ids for p in prompts], [len(p.suffix_ids) for p in prompts], decoding)
        return super().compress_and_generate(prompts, decoding)


@breaks("identity")
class NeverQuiteItself(Keep):
    """Weakens what it has read even where it drops nothing."""

    def compress(self, contexts, reserve, decoding):
        states = super().compress(contexts, reserve, decoding)
        return [
            replace(s, cache=KVCache(s.cache.keys, tuple(0.9 * v for v in s.cache.values))) for s in states
        ]


@breaks("dependence")
class ForgetsTheLast(Keep):
    """A slice that ends one token too early."""

    def kept(self, ids):
        found = super().kept(ids)
        return found if len(found) == len(ids) else found[:-1]


@breaks("dependence")
class ForgetsOneInSixteen(Keep):
    """Loses a token where pieces end."""

    class Options(Keep.Options):
        recent: int = Field(400, ge=1, description="last tokens that stay")

    def kept(self, ids):
        return [token for i, token in enumerate(super().kept(ids)) if len(ids) < 100 or i % 16 != 15]


@breaks("positions")
class Ahead(Keep):
    """Keys are turned for places further on, where the question is."""

    def compress(self, contexts, reserve, decoding):
        states = super().compress(contexts, reserve, decoding)
        shifts = [torch.full((len(s.cache),), 30 if s.read > 100 else 0) for s in states]
        return [replace(s, cache=moved(self.model.network, s.cache, n)) for s, n in zip(states, shifts)]
