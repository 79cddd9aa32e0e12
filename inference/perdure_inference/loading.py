"""A model's files into torch: for those who ask models, and for those who train them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from perdure_api.spec import Precision
from perdure_data.model_files import ModelFolder
from perdure_data.models import ModelLayout
from perdure_inference.gguf_files import read_once


def device_at_hand() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """The number format of frozen weights on a device."""
    match precision:
        case Precision.FLOAT32:
            return torch.float32
        case Precision.BFLOAT16:
            return torch.bfloat16
        case Precision.AUTO:
            capable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if capable else torch.float32


def load_causal_lm(folder: ModelFolder, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model of a Hugging Face folder, or of one GGUF file; on the CPU. To be called in one thread."""
    source = source_of(folder)
    with read_once() if source else nullcontext():
        tokenizer = AutoTokenizer.from_pretrained(folder.path, **source)
        return tokenizer, AutoModelForCausalLM.from_pretrained(folder.path, dtype=dtype, **source)


def source_of(folder: ModelFolder) -> dict[str, str]:
    """What transformers must be told beside the folder: the name of a GGUF file."""
    if folder.report.layout is ModelLayout.HUGGING_FACE:
        return {}
    names = (info.uri.path.rpartition("/")[2] for info in folder.report.files)
    return {"gguf_file": next(name for name in names if name.endswith(".gguf"))}
