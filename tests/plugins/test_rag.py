"""`rag` reads the chunks that answer, whole texts that fit, and says what it read."""

import pytest

from harness import Decoding, Prompt, UsageError
from harness.plugins._budget import NOT_CONDENSED
from harness.plugins.rag import Rag
from harness.prompts import tokenize

FILLER = "the sky is blue and the sun is yellow "


def asked(model, before, after, question="Where is the passkey?"):
    text = FILLER * before + "remember the passkey 12345 now " + FILLER * after
    return tokenize(Prompt("Read. ", text, f" {question}", question), model)


def answer(tiny, prompt, budget=None, **options):
    method = Rag(tiny, Rag.Options.parse({"chunk": 16, **options}, "it"))
    if budget is not None:
        method.aim(budget)
    [found] = method.compress_and_generate([prompt], Decoding(3))
    return found


def read(prompt, found, size=16):
    ids = prompt.head_ids.context_ids
    return [ids[i * size : (i + 1) * size] for i in found.details["read"]]


@pytest.mark.parametrize(("before", "after"), [(0, 40), (20, 20), (40, 0)])
def test_the_chunk_that_answers_comes_first(tiny, before, after):
    prompt = asked(tiny, before, after)
    found = answer(tiny, prompt, budget=100)
    best = tiny.tokenizer.decode(read(prompt, found)[0])
    assert "passkey" in best
    assert found.details["relevance"][found.details["read"][0]] == max(found.details["relevance"])
    assert found.prompt_tokens == len(prompt) and found.kv_tokens < 100


def test_budget_and_top_bound_what_is_read(tiny):
    prompt = asked(tiny, 20, 20)
    around = len(prompt) - len(prompt.head_ids.context_ids)
    for options, most in (({"budget": 50 + around}, 48), ({"top": 2}, 32), ({"top": 1, "edges": True}, 48)):
        found = answer(tiny, prompt, **options)
        kept = sum(map(len, read(prompt, found)))
        assert kept <= most and found.kv_tokens == kept + around - 1
    last = len(prompt.head_ids.context_ids) // 16
    assert {0, last} <= set(answer(tiny, prompt, top=1, edges=True).details["read"])


def test_a_text_that_fits_is_read_whole(tiny):
    prompt = asked(tiny, 1, 1)
    found = answer(tiny, prompt, budget=240)
    assert found.kv_tokens == len(prompt) - 1 and found.details == {"notes": [NOT_CONDENSED]}


def test_a_question_that_tells_nothing_apart_is_noted(tiny):
    found = answer(tiny, asked(tiny, 20, 20, "Zzz qqq?"), budget=100)
    assert "the same for all" in found.details["notes"][0]


def test_a_chunk_larger_than_budget_or_window_is_refused(tiny):
    prompt = asked(tiny, 20, 20)
    for options in ({"chunk": 300}, {"chunk": 40, "budget": 39}, {"chunk": 40, "budget": 79, "edges": True}):
        with pytest.raises(UsageError, match="lower --chunk"):
            answer(tiny, prompt, **options)
    with pytest.raises(UsageError, match="raise --budget"):
        answer(tiny, prompt, chunk=8, budget=1 + len(prompt) - len(prompt.head_ids.context_ids))
    with pytest.raises(UsageError, match="leave nothing of a --budget"):
        answer(tiny, prompt, chunk=4, budget=8)


def test_the_order_is_that_of_bm25s_and_the_same_chunks_are_read(tiny):
    """BM25 once more, by another package: Lucene's form, k1 1.5 and b 0.75, over the same words."""
    import bm25s
    from bm25s.tokenization import Tokenized

    from harness._util.words import search_words

    prompt, question = asked(tiny, 14, 9), "Where is the passkey now?"
    prompt = tokenize(Prompt("Read. ", prompt.prompt.context, f" {question}", question), tiny)
    found = answer(tiny, prompt, budget=110)
    ids = prompt.head_ids.context_ids
    words = [search_words(tiny.tokenizer.decode(ids[i : i + 16])) for i in range(0, len(ids), 16)]
    known = {word: n for n, word in enumerate(sorted({w for text in words for w in text}))}
    index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    index.index(Tokenized(ids=[[known[w] for w in text] for text in words], vocab=known), show_progress=False)
    scores = index.get_scores([w for w in search_words(question) if w in known])
    # Lucene leaves out the factor k1 + 1, which all have
    assert found.details["relevance"] == pytest.approx([float(s) * 2.5 for s in scores], abs=2e-3)
    best = sorted(range(len(words)), key=lambda i: -scores[i])
    assert (
        found.details["read"][:5] == best[:5]
    )  # what follows may be a last chunk, which is shorter and still fits


class Counted:
    """Stands in for a model of sentence-transformers: letters a and b."""

    def __init__(self, name):
        if name != "m":
            raise OSError(f"{name} is nowhere")

    def encode(self, texts, normalize_embeddings, show_progress_bar):
        import numpy as np

        rows = (
            np.array([[text.count("passkey"), text.count("sky") - text.count("passkey")] for text in texts])
            + 0.01
        )
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_chunks_are_ranked_by_a_model_that_embeds(tiny, monkeypatch):
    import sys
    from types import SimpleNamespace

    from harness.errors import NotInstalled

    monkeypatch.setitem(
        sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=Counted, __version__="9")
    )
    prompt = asked(tiny, 20, 20)
    found = answer(tiny, prompt, budget=100, retriever="dense", embedder="m")
    assert "passkey" in tiny.tokenizer.decode(read(prompt, found)[0])
    assert found.details["relevance"][found.details["read"][0]] == max(found.details["relevance"]) <= 1
    method = Rag(tiny, Rag.Options.parse({"chunk": 16, "retriever": "dense", "embedder": "x"}, "it"))
    with pytest.raises(UsageError, match=r"--embedder=x: no model .*nowhere"):
        method.prepare([prompt], Decoding(3))
    away = Rag(tiny, Rag.Options.parse({"retriever": "dense", "embedder": "./not-here", "chunk": 16}, "it"))
    with pytest.raises(UsageError, match=r"--embedder=\./not-here: no such folder"):
        away.prepare([prompt], Decoding(3))
    assert (
        method.identity()
        == {"sentence-transformers": "9", "model": "x"}
        != Rag(tiny, Rag.Options()).identity()
    )
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(NotInstalled, match=r"pip install 'long-context-harness\[dense\]'"):
        method.identity()
