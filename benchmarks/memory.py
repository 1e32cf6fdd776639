"""How near the estimate of `train --dry-run` comes to the memory that a training takes: random students of three sizes.

    python benchmarks/memory.py            # 19, 66 and 155 million parameters
    python benchmarks/memory.py --quick    # one of 3 million: shows that it runs, holds to no target

Prints one JSON line a figure and exits 1 where a target is missed. Each training is two steps in a process of its own. Measured is its peak
over what it held when the libraries were loaded and a first tiny training was over, with a C library that gives back at once what is freed
(`MALLOC_MMAP_THRESHOLD_`): left to itself, glibc keeps much of it on a CPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from synthdistill.progress import Silent
from synthdistill.samplers import BUILTIN_BASE
from synthdistill.training.guards import quiet
from synthdistill.training.hyperparameters import Hyperparameters
from synthdistill.training.render import Rendered, Served
from synthdistill.training.sft import fit, needs
from synthdistill.training.student import Source, open_tokenizer

SIZES = {"3M": (128, 4), "19M": (384, 8), "66M": (640, 12), "155M": (896, 15)}
"""Hidden size and layers."""
KINDS = {
    "all": {},
    "lora": {"adapter": {"rank": 32}},
    "checkpointing": {"gradient_checkpointing": True},
}
TOKENS, MICRO = 512, 4
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--one", nargs=2, metavar=("SIZE", "KIND"), help="train once, and say estimated and measured MiB")
    given = options.parse_args()
    if given.one:
        _one(*given.one)
        return
    held = []
    for size in ["3M"] if given.quick else list(SIZES)[1:]:
        for kind in KINDS:
            command = [sys.executable, __file__, "--one", size, kind]
            told = subprocess.run(command, capture_output=True, check=True, text=True, env=os.environ | GIVEN_BACK).stdout.split()[-2:]
            estimated, measured = map(float, told)
            ratio = estimated / measured
            holds = given.quick or 0.8 <= ratio <= 1.25
            how = f"estimated {estimated:.0f} MiB over measured {measured:.0f} MiB, {MICRO} rows of {TOKENS} tokens, fp32, CPU"
            target = None if given.quick else "0.8 to 1.25"
            print(
                json.dumps({"name": f"memory_{size}_{kind}", "value": round(ratio, 2), "target": target, "holds": holds, "how": how}),
                flush=True,
            )
            held.append(holds)
    sys.exit(0 if all(held) else 1)


def _one(size: str, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder, quiet():
        tokenizer, _ = open_tokenizer(str(BUILTIN_BASE))
        served = Served("", tokenizer.eos_token_id)
        settings = Hyperparameters(epochs=1, batch_size=MICRO, micro_batch=MICRO, **KINDS[kind])
        rows = [Rendered([5] * (TOKENS // 2), [6] * (TOKENS // 2))] * (2 * MICRO)
        small, large = Path(folder) / "small", Path(folder) / "large"
        (small / "run").mkdir(parents=True)
        (large / "run").mkdir(parents=True)
        _student(small, 32, 1)
        fit(Source(str(small), tokenizer, served), rows[:MICRO], [], settings, folder=small / "run", progress=Silent())
        subprocess.run([sys.executable, "-c", _MAKE.format(file=__file__, folder=str(large), size=SIZES[size])], check=True)
        source = Source(str(large), tokenizer, served)
        estimated, before = needs(source, settings, rows, soft=False).total, _memory("VmRSS")
        fit(source, rows, [], settings, folder=large / "run", progress=Silent())
    print(estimated / 2**20, _memory("VmHWM") - before)


_MAKE = "import runpy, pathlib; runpy.run_path({file!r})['_student'](pathlib.Path({folder!r}), *{size})"


def _student(folder: Path, hidden: int, layers: int) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = max(1, hidden // 64)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def _memory(kind: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    return int(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
