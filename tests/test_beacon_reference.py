"""The beacon engine against vectors that the official Activation Beacon v1 code produced.

Every case of the folder named by BEACON_GOLDEN is run (default: ../shared/golden/beacon_v1 beside the
checkout where it exists, else the two cases copied under tests/golden).
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from harness import Decoding
from harness.inference.forward import moved
from harness.models import attention
from harness.plugins.beacon import together
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.losses import next_token_loss
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ROOT.parent / "shared" / "golden" / "beacon_v1"
GOLDEN = Path(os.environ.get("BEACON_GOLDEN") or (BESIDE if BESIDE.is_dir() else ROOT / "tests" / "golden"))
CASES = sorted(path.parent for path in GOLDEN.glob("*/case.json"))
CLOSE = 1e-4

CONFIG = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "max_position_embeddings rms_norm_eps rope_theta tie_word_embeddings hidden_act attention_bias eos_token_id"
).split()


class Case:
    """One golden case with its model and our engine over it."""

    def __init__(self, folder):
        from transformers import LlamaConfig, LlamaForCausalLM

        attention.register()
        self.facts = json.loads((folder / "case.json").read_text())
        self.tensors = load_file(folder / "tensors.safetensors")
        weights = load_file(GOLDEN / self.facts["model"])
        raw = json.loads((GOLDEN / self.facts["model"]).with_suffix(".json").read_text())
        config = LlamaConfig(
            **{k: raw[k] for k in CONFIG if k in raw}, attn_implementation=attention.ATTENTION
        )
        self.network = LlamaForCausalLM(config).eval().requires_grad_(False)
        self.network.load_state_dict({k: v for k, v in weights.items() if "beacon" not in k})
        self.beacons = {k: v.clone() for k, v in weights.items() if "beacon" in k}
        self.ids = self.tensors["input_ids"][0].tolist()
        self.ratios = self.facts["interval_ratios"]
        self.window = self.facts["window"]

    def engine(self):
        return ActivationBeacon(self.network, MultiHeadBeacon(self.network, self.beacons), self.window)

    def ratio(self, row, window):
        """The case's ratio of a window; windows that fill while answering use the last."""
        listed = self.ratios or self.facts["options"]["beacon_ratio"]
        return listed[min(window, len(listed) - 1)]

    def memory(self, state):
        """Keys before RoPE and values of a state: ``[layer, kv_head, entries, head_dim]``."""
        unturned = moved(self.network, state.cache, -torch.arange(len(state.cache)))
        return torch.stack(unturned.keys), torch.stack(unturned.values)

    def logits(self, hidden):
        return self.network.lm_head(hidden)


def case_parameters(kind):
    kinds = {path: json.loads((path / "case.json").read_text())["kind"] == "inference" for path in CASES}
    chosen = [path for path in CASES if kinds[path] == (kind == "inference")]
    return pytest.mark.parametrize("case", [pytest.param(path, id=path.name) for path in chosen])


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=CLOSE)


def test_there_are_cases():
    assert len(CASES) >= 2


def read(case, pieces):
    """Read the context in `pieces`; returns the state and the last hidden states of every chunk."""
    chunks, state = [], Reading()
    with torch.no_grad():
        for piece in pieces:
            state = case.engine().read(
                [state], [piece], case.ratio, lambda row, at, hidden: chunks.append(hidden)
            )[0]
    return state, chunks


def check_state(case, state):
    after, tensors = case.facts["memory_after_context"], case.tensors
    assert (state.memory, state.raw) == (after["condensed"], after["raw"])
    assert list(state.ratios) == case.ratios
    keys, values = case.memory(state)
    m = state.memory
    if m:
        close(keys[:, :, :m], tensors["memory_k"])
        close(values[:, :, :m], tensors["memory_v"])
    if state.raw:
        close(keys[[0, 3], :, m:], tensors["raw_k_layers_0_3"])
        close(values[[0, 3], :, m:], tensors["raw_v_layers_0_3"])


@case_parameters("inference")
def test_logits_and_memory(case):
    case = Case(case)
    state, chunks = read(case, [case.ids])
    tail = case.tensors["context_tail_logits"]
    close(case.logits(chunks[-1][-len(tail) :]), tail)
    close(case.logits(torch.stack([c[-1] for c in chunks])), case.tensors["step_last_logits"])
    check_state(case, state)


@case_parameters("inference")
@pytest.mark.parametrize("size", [1, 7, 64])
def test_text_in_pieces(case, size):
    case = Case(case)
    state, chunks = read(case, [case.ids[i : i + size] for i in range(0, len(case.ids), size)])
    close(case.logits(chunks[-1][-1]), case.tensors["context_tail_logits"][-1])
    check_state(case, state)


@case_parameters("inference")
def test_greedy_tokens_and_their_logits(case):
    case = Case(case)
    engine, expected = case.engine(), case.tensors["generated_ids"].tolist()
    model = SimpleNamespace(network=case.network, end_ids=(), pad_id=0)
    start, _ = read(case, [case.ids[:-1]])
    states, answers = engine.generate(model, [start], [case.ids[-1]], Decoding(len(expected)), case.ratio)
    assert answers == [expected]
    after = case.facts["memory_after_generation_15_fed"]
    assert (states[0].memory, states[0].raw) == (after["condensed"], after["raw"])
    if "after_gen_memory_k" in case.tensors:
        keys, values = case.memory(states[0])
        close(keys[:, :, : states[0].memory], case.tensors["after_gen_memory_k"])
        close(values[:, :, : states[0].memory], case.tensors["after_gen_memory_v"])
    _, chunks = read(case, [case.ids, *([token] for token in expected[:-1])])
    close(
        case.logits(torch.stack([c[-1] for c in chunks[-len(expected) :]])), case.tensors["generated_logits"]
    )


@case_parameters("inference")
def test_in_a_batch(case):
    """The case beside longer and shorter texts, in every place of the batch."""
    case = Case(case)
    generator = torch.Generator().manual_seed(0)
    others = [torch.randint(3, 256, (n,), generator=generator).tolist() for n in (len(case.ids) + 90, 5, 64)]
    rows = [others[0], case.ids, others[1], others[2]]
    last = {}
    with torch.no_grad():
        states = case.engine().read(
            [Reading()] * 4, rows, case.ratio, lambda row, at, hidden: last.update({row: hidden})
        )
    check_state(case, states[1])
    tail = case.tensors["context_tail_logits"]
    close(case.logits(last[1][-len(tail) :]), tail)
    model = SimpleNamespace(network=case.network, end_ids=(), pad_id=0)
    with torch.no_grad():
        starts = case.engine().read([Reading()] * 4, [r[:-1] for r in rows], case.ratio)
    _, answers = case.engine().generate(model, starts, [r[-1] for r in rows], Decoding(16), case.ratio)
    assert answers[1] == case.tensors["generated_ids"].tolist()


@case_parameters("inference")
def test_masks_and_positions(case, monkeypatch):
    """Raw pass and beacon pass together give the official mask and positions of every step."""
    monkeypatch.setattr(together, "possible", lambda _: False)  # no masks where steps share a pass
    case = Case(case)
    if "step0_allowed" not in case.tensors:
        pytest.skip("this case stores no masks")
    passes = []

    def note(module, args, kwargs):
        mask, width = kwargs["attention_mask"], kwargs["past_key_values"].get_seq_length()
        queries = kwargs["position_ids"].shape[1]
        if mask is None:
            seen = torch.ones(queries, width + queries, dtype=torch.bool).tril(width)
        else:
            seen = mask[0, 0] > -1
        passes.append((seen, kwargs["position_ids"][0]))

    hook = case.network.model.register_forward_pre_hook(note, with_kwargs=True)
    read(case, [case.ids])
    hook.remove()
    for step, facts in enumerate(case.facts["steps"]):
        seen, positions = passes.pop(0)
        memory, raw, beacons = facts["memory_before"], facts["new_tokens"], facts["beacons"]
        allowed = torch.zeros(raw + beacons, memory + raw + beacons, dtype=torch.bool)
        allowed[:raw, : memory + raw] = seen
        places = [torch.arange(memory), positions]
        if beacons:
            seen, positions = passes.pop(0)
            allowed[raw:] = seen
            places.append(positions)
        assert torch.equal(allowed, case.tensors[f"step{step}_allowed"].bool())
        assert torch.equal(torch.cat(places), case.tensors[f"step{step}_position_ids"].long())
    assert not passes


@case_parameters("training")
def test_training_loss_and_gradients(case):
    case = Case(case)
    for tensor in case.beacons.values():
        tensor.requires_grad_()
    total, valid = next_token_loss(case.engine(), case.ids, case.tensors["labels"][0].tolist(), case.ratios)
    loss = total / valid
    loss.backward()
    assert valid == case.facts["valid_tokens"]
    assert loss.item() == pytest.approx(case.facts["loss"], abs=CLOSE)
    for name, tensor in case.beacons.items():
        if tensor.grad is None:  # the last layer's beacons serve nobody after them
            tensor.grad = torch.zeros_like(tensor)
        assert tensor.grad.norm().item() == pytest.approx(case.facts["grad_norms"][name], abs=CLOSE), name
        if f"grad.{name}" in case.tensors:
            close(tensor.grad, case.tensors[f"grad.{name}"])
    norm = torch.stack([t.grad.norm() for t in case.beacons.values()]).norm().item()
    assert norm == pytest.approx(case.facts["grad_norm_total"], abs=CLOSE)
