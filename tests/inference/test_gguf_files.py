"""A GGUF file is read quickly, and gives what transformers alone makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.integrations.gguf import reader

from perdure_api.spec import LoraSpec, TrainingSpec
from perdure_data.model_files import ModelFolder
from perdure_data.models import check_model_now
from perdure_data.stores import Stores
from perdure_inference import gguf_files
from perdure_trainer.models.causal_lm import CausalLm

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

WIDTH, INNER, WORDS = 32, 64, 64


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer, half of it quantized, with a vocabulary of 64 tokens."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_vocab_size(WORDS)
    letters = [chr(code) for code in range(ord("0"), ord("0") + WORDS - 2)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", *letters, "ab"])
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (WORDS - 1))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    draw = np.random.default_rng(1)

    def add(name: str, *shape: int) -> None:
        numbers = draw.normal(0, 0.1, shape).astype(np.float32)
        if len(shape) == 1 or name == "token_embd":
            writer.add_tensor(f"{name}.weight", numbers)
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{name}.weight", gguf.quantize(numbers, kind), raw_dtype=kind)

    add("token_embd", WORDS, WIDTH)
    add("output_norm", WIDTH)
    for norm in ("attn_norm", "ffn_norm"):
        add(f"blk.0.{norm}", WIDTH)
    for name, rows in (("attn_q", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2), ("attn_output", WIDTH)):
        add(f"blk.0.{name}", rows, WIDTH)
    add("blk.0.ffn_gate", INNER, WIDTH)
    add("blk.0.ffn_up", INNER, WIDTH)
    add("blk.0.ffn_down", WIDTH, INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def loaded(file: Path) -> CausalLm:
    report = check_model_now(Stores(), f"file://{file}")
    folder = ModelFolder(file.parent, report, "sha256:0")
    return CausalLm.load(folder, LoraSpec(rank=2), TrainingSpec(max_steps=1, sequence_length=16))


def test_the_model_and_tokenizer_are_those_that_transformers_alone_makes(file: Path) -> None:
    ours = loaded(file)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    theirs: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    with ours.without_adapter(), torch.no_grad():
        tokens = torch.arange(WORDS)[None]
        assert torch.equal(ours.module(input_ids=tokens).logits, theirs(input_ids=tokens).logits)
    assert tokenizer("abba")["input_ids"] == ours._tokenizer("abba")["input_ids"]


def test_the_file_is_read_once_and_names_are_looked_up_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Reader(gguf_files._Reader):
        def __init__(self, *arguments: Any) -> None:
            done.append("read")
            super().__init__(*arguments)

    name_map = gguf.get_tensor_name_map

    def counted(*arguments: Any) -> Any:
        done.append("named")
        return name_map(*arguments)

    monkeypatch.setattr(gguf_files, "_Reader", Reader)
    monkeypatch.setattr(gguf, "get_tensor_name_map", counted)
    loaded(file)
    assert done == ["read", "named"]


def test_afterwards_the_library_is_as_it_was(file: Path) -> None:
    def names() -> tuple[Any, ...]:
        parse: Any = modeling_gguf_pytorch_utils
        mapped: Any = reader
        return gguf.GGUFReader, gguf.get_tensor_name_map, parse._gguf_parse_value, mapped._mapped

    before = names()
    loaded(file)
    assert names() == before
