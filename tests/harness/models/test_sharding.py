"""Sharded weights compute what whole ones do, whichever layers processes are at, and are not held meanwhile."""

import copy
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch.func import functional_call

from harness.models import sharding
from harness.testing.tiny import make_model


class Group:
    """What one of several threads, each in place of a process, gathers through."""

    def __init__(self, rank, size, shared):
        self.rank, self.size, self.shared = rank, size, shared

    def gather(self, found, own):
        self.shared.given[self.rank] = own
        self.shared.barrier.wait()
        found.copy_(torch.cat(self.shared.given))
        self.shared.barrier.wait()


@pytest.fixture
def together(monkeypatch):
    """Runs ``work(network, shards)`` of each rank in a thread, on its own copy of a network; what they returned."""
    alive, most = [], [0]

    def gather(found, own, *, group):
        if own.dtype == torch.uint8:
            alive.append((group.rank, weakref.ref(found)))
            most[0] = max(most[0], sum(rank == group.rank and ref() is not None for rank, ref in alive))
        group.gather(found, own)

    monkeypatch.setattr(sharding, "_gather", gather)
    sizes = {"get_rank": lambda g: g.rank, "get_world_size": lambda g: g.size}
    monkeypatch.setattr(sharding, "dist", SimpleNamespace(**sizes))

    def run(network, *work):
        shared = SimpleNamespace(given=[None] * len(work), barrier=threading.Barrier(len(work), timeout=30))
        found, wrong = [None] * len(work), []

        def one(rank):
            try:
                own = copy.deepcopy(network)
                group = Group(rank, len(work), shared)
                shards = sharding.Shards(own, "cpu", group, group)
                found[rank] = work[rank](own, shards)
                shards.settle()
            except BaseException as error:  # the other threads wait for this one
                wrong.append(error)
                shared.barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(len(work))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong:
            raise wrong[0]
        return found

    run.most = most
    return run


@pytest.fixture(params=["llama", "qwen2"])
def network(request, tmp_path):
    """A tiny model; Qwen2 has biases, and here one table for both ends."""
    from harness.models import loading

    tied = {"tie_word_embeddings": True} if request.param == "qwen2" else {}
    return loading.load(str(make_model(tmp_path / "m", request.param, **tied)), device="cpu").network


def texts(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, 250, (1, n), generator=generator) for n in lengths]


def reads(*given, swapped=False):
    """Logits, entries and the gradient of learned first embeddings, of texts read one after the memory of another."""

    def work(network, shards=None):
        learned = torch.linspace(-1, 1, network.config.hidden_size).requires_grad_()
        own = {"layers.0.self_attn.q_proj.weight": 0.1 * learned.outer(learned)} if swapped else {}
        cache, logits = None, []
        for ids in given:
            embedded = network.get_input_embeddings()(ids) + learned
            read = {"inputs_embeds": embedded, "past_key_values": cache, "use_cache": True}
            out = functional_call(network.model, own, kwargs=read)
            cache = out.past_key_values
            logits.append(network.lm_head(out.last_hidden_state[:, -1]))
        keys = cache.layers[-1].keys
        # Of the last pass entries alone: no gradient comes through what leaves its last layer.
        (keys.sum() + sum((x.float().logsumexp(-1).sum() for x in logits[:-1]), start=0.0)).backward()
        return [*logits, keys, learned.grad]

    return work


def equal(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other))


def test_processes_at_different_layers_compute_what_one_does_with_all_weights(network, together):
    """One makes three passes, one makes one with another projection, the third none; nobody waits for ever."""
    first, second = reads(*texts(9, 4, 7)), reads(*texts(5), swapped=True)
    found = together(network, first, second, lambda *_: None)
    assert equal(found[0], first(network)) and equal(found[1], second(network))
    assert together.most[0] <= 2, "a unit of one's own and one that others asked for"


def test_each_process_holds_its_share_and_the_rest_reads_nan(network, together):
    def look(own, shards):
        shards.settle()
        storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in own.parameters()}
        large = [(n, p) for n, p in own.named_parameters() if p.dim() == 2]
        assert all(bool(p.isnan().all()) for _, p in large)
        shapes = {n: (p.shape, p.dtype, p.device) for n, p in own.named_parameters()}
        return sum(storages.values()), shards.held, shards.total, shapes, sum(len(u) for u in shards._units)

    small = sum(p.numel() * p.element_size() for p in network.parameters() if p.dim() == 1)
    large = sum(p.numel() * p.element_size() for p in network.parameters() if p.dim() == 2)
    for kept, held, total, shapes, stored in together(network, look, look):
        assert held == stored and 2 * held == total and large <= total < 1.02 * large
        assert small <= kept < small + 4 * len(shapes) + 1
        assert shapes == {n: (p.shape, p.dtype, p.device) for n, p in network.named_parameters()}


def test_a_weight_can_be_had_whole(network, together):
    def both(own, shards):
        layer = own.model.layers[1].self_attn
        return [
            sharding.whole(layer.v_proj.weight),
            sharding.whole(own.lm_head.weight),
            own.model.norm.weight,
            sharding.row(own.get_input_embeddings().weight, 7),
        ]

    layer = network.model.layers[1].self_attn
    whole = [layer.v_proj.weight, network.lm_head.weight, network.model.norm.weight]
    whole.append(network.get_input_embeddings().weight[7])
    for found in together(network, both, both):
        assert equal(found, whole)
    assert sharding.whole(layer.v_proj.weight) is layer.v_proj.weight
