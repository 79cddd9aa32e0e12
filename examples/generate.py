"""Continues a prompt without and with an adapter, with nothing but transformers and peft.

    python examples/generate.py MODEL_FOLDER ADAPTER_FOLDER --prompt "Psa24:1 The earth"

MODEL_FOLDER holds a GGUF file or a model in the Hugging Face layout.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

NEW_TOKENS = 24


def main() -> int:
    """Prints one JSON object: prompt, without, with."""
    parser = argparse.ArgumentParser(description="Continue a prompt without and with an adapter.")
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--prompt", default="Psa24:1 The earth")
    options = parser.parse_args()

    import torch  # noqa: PLC0415 - seconds to import: after the arguments are known to be right
    from peft import PeftModel  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    gguf = next((file.name for file in options.model.glob("*.gguf")), None)
    source: dict[str, Any] = {"gguf_file": gguf} if gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(options.model, **source)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, **source)
    tokens = tokenizer(options.prompt, return_tensors="pt")

    def continued(with_model: Any) -> str:
        output = with_model.generate(**tokens, max_new_tokens=NEW_TOKENS, do_sample=False, repetition_penalty=1.3)
        text = str(tokenizer.decode(output[0], skip_special_tokens=True))
        return " ".join(text.split())

    without = continued(model)
    adapted = PeftModel.from_pretrained(model, options.adapter)
    print(json.dumps({"prompt": options.prompt, "without": without, "with": continued(adapted)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
