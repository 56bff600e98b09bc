from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn import functional
from training_models import VOCABULARY, run_spec, some_samples, write_qwen
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from intract_lsp.errors import TrainingError
from intract_lsp.inference.threads import ThreadCount, physical_cores
from intract_lsp.training.batches import pack
from intract_lsp.training.layers import head_loss, linear
from intract_lsp.training.network import Base, Trainable, attach, load_base
from intract_lsp.training.output import write_output
from intract_lsp.training.sample import Sample
from intract_lsp.training.spec import LoraSpec, Method, QuantizationSpec, RunSpec

CPU = torch.device("cpu")
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
EXPERTS = {
    "mlp_only_layers": [0],
    "decoder_sparse_step": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
}
"""Of a model whose first block is as usual, and whose last one has experts."""


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("qwen"))


def plain_losses(model: torch.nn.Module, samples: list[Sample]) -> torch.Tensor:
    """The full logits of each sample alone, as transformers computes them, masked."""
    found = []
    for sample in samples:
        ids = torch.tensor([sample.ids])
        logits = model(input_ids=ids).logits[0, :-1].float()
        losses = functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        found.append(losses[max(0, sample.supervised_from - 1) :])
    return torch.cat(found)


def lean_losses(base: Base, samples: list[Sample]) -> torch.Tensor:
    micro = pack(samples, [False] * len(samples), CPU)
    return base.losses(base.hidden(micro), micro, micro.weights)[1]


def trained(spec: RunSpec, dtype: torch.dtype | None = torch.float32) -> Trainable:
    """A model whose adapter is not the nothing that it begins as."""
    trainable = attach(load_base(spec, dtype), spec)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trainable.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return trainable


@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral, sliding", "starcoder2", "granite", "experts"])
def test_packed_and_supervised_only_equals_the_whole_masked_loss(kind: str, tmp_path: Path) -> None:
    if kind == "qwen2":
        write_qwen(tmp_path)
    else:
        models = {
            "llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
            "mistral, sliding": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=6)),
            "starcoder2": (Starcoder2ForCausalLM, Starcoder2Config(**SIZES, residual_dropout=0.5)),
            "experts": (Qwen2MoeForCausalLM, Qwen2MoeConfig(**SIZES, **EXPERTS)),
            "granite": (GraniteForCausalLM, GraniteConfig(**SIZES, logits_scaling=4.0)),
        }
        torch.manual_seed(3)
        of, config = models[kind]
        of(config).save_pretrained(tmp_path)
    spec = run_spec(tmp_path)
    samples = some_samples(4)
    base = load_base(spec, torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = plain_losses(plain, samples)
        alone = torch.cat([lean_losses(base, [sample]) for sample in samples])
        together = lean_losses(base, samples)
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_no_target_asks_of_the_last_layer_changes_nothing(qwen: Path, checkpointing: bool) -> None:
    trainable = trained(run_spec(qwen, gradient_checkpointing=checkpointing))
    base = trainable.base
    assert base.last is not None
    computed: list[int] = []
    base.last.up_proj.register_forward_hook(lambda module, given, result: computed.append(result.shape[1]))
    micro = pack(some_samples(3), [False] * 3, CPU, 0.5)
    found = []
    for last in (base.last, None):
        base.last.rows = None
        used = replace(base, last=last)
        loss, each = used.losses(used.hidden(micro), micro, micro.weights)
        found.append((each.detach(), torch.autograd.grad(loss, trainable.parameters())))
    assert set(computed) == {len(micro.targets), micro.tokens}
    assert len(micro.targets) < micro.tokens
    torch.testing.assert_close(found[0], found[1])


class Load:
    """Tells how many threads others leave free."""

    def __init__(self, *left: int) -> None:
        self._left = iter(left)

    def look(self) -> int:
        return next(self._left)


def test_cores_that_others_take_are_left_to_them(qwen: Path) -> None:
    before = torch.get_num_threads()
    base = replace(load_base(run_spec(qwen), torch.float32), threads=cast("ThreadCount", Load(1, 3, 2)))
    try:
        seen = []
        for sample in some_samples(3):
            base.sample_loss(sample)
            seen.append(torch.get_num_threads())
        assert seen == [1, 3, 2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("threads", "processes", "follows"), [(0, 1, True), (1, 1, False), (0, 2, False)])
def test_a_number_of_threads_that_is_set_stays(qwen: Path, threads: int, processes: int, follows: bool) -> None:
    before = torch.get_num_threads()
    try:
        base = load_base(run_spec(qwen, threads=threads, processes=processes), torch.float32)
        assert torch.get_num_threads() == (threads or physical_cores())
        assert (base.threads is not None) is follows
    finally:
        torch.set_num_threads(before)


def test_gradients_equal_those_of_peft(qwen: Path, tmp_path: Path) -> None:
    spec = run_spec(qwen)
    ours = trained(spec)
    # As the files have them.
    ours.load({name: tensor.half().float() for name, tensor in ours.tensors().items()})
    samples = some_samples(3)
    write_output(ours, spec, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(qwen), str(tmp_path / "adapter"), is_trainable=True
    )
    plain_losses(theirs, samples).sum().backward()
    micro = pack(samples, [False] * len(samples), CPU)
    ours.base.losses(ours.base.hidden(micro), micro, micro.weights)[0].backward()
    expected = {name.replace(".default", ""): value.grad for name, value in theirs.named_parameters()}
    assert ours.adapter is not None
    for name, layer in ours.adapter.layers.items():
        for letter, matrix in (("A", layer.a), ("B", layer.b)):
            wanted = expected[f"base_model.model.{name}.lora_{letter}.weight"]
            torch.testing.assert_close(matrix.grad, wanted, rtol=1e-3, atol=1e-4)
    assert len(ours.adapter.layers) == 2 * 7, "all linear layers but the head"


@pytest.mark.parametrize("shape", [(5, 32), (1, 5, 32), (0, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [True, False])
def test_a_linear_layer_is_torchs(shape: tuple[int, ...], dtype: torch.dtype, biased: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(size, generator=generator, dtype=torch.float32).to(dtype) for size in (shape, (48, 32), (48,))
    )
    given = bias if biased else None
    torch.testing.assert_close(linear(x, weight, given), functional.linear(x, weight, given))


def test_checkpointing_changes_no_gradient(qwen: Path) -> None:
    samples = some_samples(3)
    micro = pack(samples, [False] * len(samples), CPU)
    gradients = []
    for checkpointing in (False, True):
        trainable = trained(run_spec(qwen, gradient_checkpointing=checkpointing))
        trainable.base.losses(trainable.base.hidden(micro), micro, micro.weights)[0].backward()
        gradients.append([parameter.grad for parameter in trainable.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_every_weight_gets_the_gradient_of_the_whole_loss(tmp_path: Path) -> None:
    directory = write_qwen(tmp_path, tied=True)
    trainable = attach(load_base(spec := run_spec(directory, method=Method.STANDARD), torch.float32), spec)
    plain = AutoModelForCausalLM.from_pretrained(directory)
    samples = some_samples(3)
    plain_losses(plain, samples).sum().backward()
    micro = pack(samples, [False] * len(samples), CPU)
    trainable.base.losses(trainable.base.hidden(micro), micro, micro.weights)[0].backward()
    expected = {name: value.grad for name, value in plain.named_parameters()}
    found = {name: value.grad for name, value in trainable.base.model.named_parameters()}
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_divergence_from_the_base_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(9, 8, generator=generator, requires_grad=True)
    base, head = torch.randn(9, 8, generator=generator), torch.randn(31, 8, generator=generator)
    targets = torch.randint(31, (9,), generator=generator)
    weights = torch.rand(9, generator=generator)
    shares = torch.where(torch.arange(9) > 4, 0.3, 0.0)
    found, each = head_loss(
        hidden, head, None, targets, weights, base=base, base_weights=shares, scaling=2.0, most=3 * 31
    )
    found.backward()
    gradient, hidden.grad = hidden.grad, None
    logits, of_base = (hidden @ head.t() / 2).log_softmax(-1), (base @ head.t() / 2).log_softmax(-1)
    crossed = functional.nll_loss(logits, targets, reduction="none")
    divergence = (of_base.exp() * (of_base - logits)).sum(-1)
    expected = (weights * crossed).sum() + (shares * divergence).sum()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(each, crossed)
    torch.testing.assert_close(gradient, hidden.grad)


def test_peft_reads_what_is_written_with_its_scale(qwen: Path, tmp_path: Path) -> None:
    spec = run_spec(qwen, targets=("q_proj", "down_proj"))
    ours = trained(spec)
    samples = some_samples(3)
    ours.set_scale(0.6)
    with torch.no_grad():
        expected = lean_losses(ours.base, samples)
    write_output(ours, replace(spec, trainer=replace(spec.trainer, scale=0.6)), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["lora_alpha"] == pytest.approx(8 * 0.6)
    assert config["base_model_name_or_path"] == "tiny"
    assert sorted(config["target_modules"]) == ["down_proj", "q_proj"]
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(qwen), str(tmp_path / "adapter")).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain_losses(theirs, samples), expected, rtol=1e-4, atol=1e-4)
    assert {path.name for path in (tmp_path / "adapter").iterdir()} >= {"adapter_config.json"}
    written = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert [tensor.dtype for tensor in written.values()] == [torch.float16] * 2 * 2 * 2


def test_a_new_adapter_changes_nothing_and_a_disabled_one_neither(qwen: Path) -> None:
    spec = run_spec(qwen, dropout=0.5)
    base = load_base(spec, torch.float32)
    samples = some_samples(3)
    micro = pack(samples, [False] * len(samples), CPU)
    with torch.no_grad():
        expected = lean_losses(base, samples)
        trainable = attach(base, spec)
        torch.testing.assert_close(lean_losses(base, samples), expected)
        for parameter in trainable.parameters():
            parameter += 0.1
        assert not torch.allclose(lean_losses(base, samples), expected, atol=0.01)
        with trainable.base_only():
            torch.testing.assert_close(lean_losses(base, samples), expected)
    adapter = trainable.adapter
    assert adapter is not None
    adapter.drop(torch.Generator().manual_seed(1))
    first = base.hidden(micro)
    adapter.drop(torch.Generator().manual_seed(2))
    assert not torch.allclose(base.hidden(micro), first)
    adapter.drop(torch.Generator().manual_seed(1))
    torch.testing.assert_close(base.hidden(micro), first)
    columns = torch.cat([layer.columns for layer in adapter.layers.values()])
    assert columns.mean() == pytest.approx(2.0, rel=0.2), "what is left weighs so much more"


@pytest.mark.parametrize(("bits", "kind"), [(4, "nf4"), (4, "fp4"), (8, "nf4")])
@pytest.mark.parametrize("double", [False, True])
def test_a_quantised_base_is_close_to_its_dense_self(bits: int, kind: str, double: bool, tmp_path: Path) -> None:
    directory = write_qwen(tmp_path, hidden_size=64, intermediate_size=128)
    quantization = QuantizationSpec(bits, double, kind)
    spec = run_spec(directory, method=Method.QLORA, quantization=quantization)
    trainable = trained(spec)
    samples = some_samples(3)
    micro = pack(samples, [False] * len(samples), CPU)
    with torch.no_grad():
        dense = lean_losses(trained(run_spec(directory)).base, samples)
    loss, each = trainable.base.losses(trainable.base.hidden(micro), micro, micro.weights)
    loss.backward()
    correlation = torch.corrcoef(torch.stack([each, dense]))[0, 1]
    assert correlation > (0.98 if bits == 8 else 0.7)
    gradients = [parameter.grad for parameter in trainable.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    packed = [module for module in trainable.base.model.modules() if type(module).__name__ == "QuantizedLinear"]
    assert len(packed) == 14
    assert {module.packed.dtype for module in packed} == {torch.uint8}


def test_bfloat16_is_close(qwen: Path) -> None:
    samples = some_samples(3)
    micro = pack(samples, [False] * len(samples), CPU)
    losses = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        trainable = trained(run_spec(qwen), dtype)
        loss, _ = trainable.base.losses(trainable.base.hidden(micro), micro, micro.weights)
        loss.backward()
        assert {parameter.dtype for parameter in trainable.parameters()} == {torch.float32}
        losses[dtype] = float(loss.detach())
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.05)
    assert losses[torch.float16] == pytest.approx(losses[torch.float32], rel=0.02)


def test_settings_that_do_not_fit_are_told(qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no linear layer called qq_proj"):
        attach(load_base(spec := run_spec(qwen, targets=("qq_proj",)), torch.float32), spec)
    with pytest.raises(TrainingError, match="lora_r"):
        attach(load_base(spec := run_spec(qwen, lora=LoraSpec(r=0)), torch.float32), spec)
    with pytest.raises(TrainingError, match="bits of 4 or 8"):
        load_base(run_spec(qwen, method=Method.QLORA, quantization=QuantizationSpec(bits=3)), torch.float32)
    with pytest.raises(TrainingError, match="device"):
        load_base(run_spec(qwen, device="abacus"))
    with pytest.raises(TrainingError, match="pull it again"):
        load_base(run_spec(tmp_path / "nothing"))
    (tmp_path / "config.json").write_text(AutoConfig.from_pretrained(qwen).to_json_string())
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(TrainingError, match="pull it again"):
        load_base(run_spec(tmp_path))


@pytest.mark.parametrize(("text", "read", "shown"), [("ab" * 30, 24, 8), ("abc" * 4, 12, 4), ("ab", 2, 1)])
def test_the_loss_of_a_text(qwen: Path, text: str, read: int, shown: int) -> None:
    base = load_base(run_spec(qwen), torch.float32)
    loss = base.text_loss(lambda text: [ord(letter) % VOCABULARY for letter in text], shown=8, judged=16)
    ids = tuple(ord(letter) % VOCABULARY for letter in text[:read])
    sample = Sample(ids, shown, some_samples(1)[0].kind)
    assert loss(text) == pytest.approx(float(lean_losses(base, [sample]).mean()), rel=1e-4)
    assert loss("a") == 0.0


def test_a_model_whose_attention_is_its_own_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=4, bos_token_id=None)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"tiny is of a kind \(bloom\) that cannot be fine-tuned yet"):
        load_base(run_spec(tmp_path), torch.float32)
