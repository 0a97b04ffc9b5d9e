"""What ``w2v sft`` costs beside a bare script on TRL: rows a second and peak memory, in one run.

    python tests/benchmarks/training.py [--size small|7b] [--peak-tflops 989]

Both train a random Qwen2.5-VL with the paper's adapters (rank 256 on the language side) on the same
questions about pairs of pictures, with the same batch and precision, in processes that take
turns, A B A B; the ratio is that of the medians. Only updates are timed, after the first ones.
``7b`` has the sizes of Qwen2.5-VL-7B-Instruct and wants a GPU; ``small`` is for a CPU. With
``--peak-tflops`` of the device it says which share of them the arithmetic of the model uses.
Prints one line of JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
SKIPPED = 2
"""Updates that are not timed: caches fill, kernels are chosen."""

SIZES = {
    "small": dict(
        text=dict(hidden_size=512, intermediate_size=1536, num_hidden_layers=8),
        heads=(8, 2, [8, 12, 12]),
        vision=dict(depth=6, hidden_size=320, intermediate_size=864, num_heads=5),
        whole=[2, 5],
        words=4096,
    ),
    # as the published configuration has them
    "7b": dict(
        text=dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28),
        heads=(28, 4, [16, 24, 24]),
        vision=dict(depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16),
        whole=[7, 15, 23, 31],
        words=152064,
    ),
}


def build(size, folder):
    """Write a random model of the family with the toy's words; its pictures keep their shape."""
    import torch
    import transformers

    from w2v.students import folders, tiny, toys

    toys.build("qwen2.5-vl", folder)
    chosen, words = SIZES[size], tiny.tokenizer()
    heads, key_values, sections = chosen["heads"]
    named = words.convert_tokens_to_ids
    config = transformers.Qwen2_5_VLConfig(
        text_config=chosen["text"]
        | dict(
            num_attention_heads=heads,
            num_key_value_heads=key_values,
            vocab_size=chosen["words"],
            rope_parameters=dict(rope_type="default", mrope_section=sections, rope_theta=1e6),
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
            bos_token_id=None,
        ),
        vision_config=chosen["vision"]
        | dict(
            out_hidden_size=chosen["text"]["hidden_size"],
            patch_size=14,
            spatial_merge_size=2,
            window_size=112,
            fullatt_block_indexes=chosen["whole"],
        ),
        image_token_id=named("<|image_pad|>"),
        video_token_id=named("<|video_pad|>"),
        vision_start_token_id=named("<|vision_start|>"),
        vision_end_token_id=named("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = transformers.Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    told = folders.settings(folder) | {"image_tokens": 1280}
    folders.write_settings(folder, told)


def write_questions(folder, rows):
    """Write questions about pairs of noisy pictures, 448 x 336: 192 tokens each."""
    import numpy as np
    from PIL import Image

    from w2v.records import Message, Question
    from w2v.stream import line

    chance, lines = np.random.default_rng(0), []
    for k in range(rows):
        names = [f"{k}-{place}.jpg" for place in range(2)]
        for name in names:
            noise = chance.integers(0, 256, (336, 448, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name)
        answer = f"turn {'left' if k % 2 else 'right'} {5 * (k % 9 + 1)} degrees"
        text = "<image><image>How did the camera turn from the first picture to the second?"
        said = (Message(role="user", content=text), Message(role="assistant", content=answer))
        question = Question(
            id=f"q{k}",
            task_type="A2",
            messages=said,
            images=tuple(names),
            answer=answer,
            direction="inverse",
            scene=f"s{k}",
        )
        lines.append(line(question))
    (folder / "questions.jsonl").write_text("".join(lines))


# ── the two ways to train, each in a process of its own ───────────────────────────────────────


def clock():
    """Return a callback that times updates after the first ones."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **named):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if state.global_step == SKIPPED:
                self.start = time.perf_counter()
            self.seconds = time.perf_counter() - getattr(self, "start", 0)

    return Clock()


def ours(given):
    """Train by ``w2v sft --recipe world2vlm``."""
    from w2v.cli import cli
    from w2v.train.sft import WeightedTrainer

    timer, train = clock(), WeightedTrainer.train

    def timed(trainer, *args, **named):
        trainer.add_callback(timer)
        return train(trainer, *args, **named)

    WeightedTrainer.train = timed
    sets = dict(
        max_steps=given.steps,
        per_device_train_batch_size=given.batch,
        rows_per_step=given.batch,
        save_strategy="no",
    )
    asked = ["sft", f"{given.home}/questions.jsonl", "--student", f"{given.home}/model"]
    asked += ["-o", f"{given.home}/run-{os.getpid()}", "--recipe", "world2vlm", "--holdout", "0"]
    asked += [f"--set={key}={value}" for key, value in sets.items()]
    cli(asked, standalone_mode=False)
    return timer.seconds


def bare(given):
    """Train by TRL alone, as its documentation shows it for pictures."""
    import torch
    from datasets import Dataset
    from datasets import Image as Picture
    from peft import LoraConfig
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import SFTConfig, SFTTrainer

    home, cuda = Path(given.home), torch.cuda.is_available()
    rows = []
    for line in (home / "questions.jsonl").read_text().splitlines():
        asked, answered = json.loads(line)["messages"]
        text = asked["content"].replace("<image>", "")
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": text}]
        answer = [{"type": "text", "text": answered["content"]}]
        rows.append(
            {
                "prompt": [{"role": "user", "content": content}],
                "completion": [{"role": "assistant", "content": answer}],
                "images": [str(home / name) for name in json.loads(line)["images"]],
            }
        )
    table = Dataset.from_list(rows).cast_column("images", [Picture()])
    processor = AutoProcessor.from_pretrained(home / "model")
    processor.image_processor.size = {"shortest_edge": 3136, "longest_edge": 1280 * 28 * 28}
    model = AutoModelForImageTextToText.from_pretrained(
        home / "model", dtype=torch.bfloat16 if cuda else torch.float32
    )
    config = SFTConfig(
        output_dir=str(home / f"run-{os.getpid()}"),
        max_length=None,
        max_steps=given.steps,
        per_device_train_batch_size=given.batch,
        learning_rate=1e-5,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        bf16=cuda,
        gradient_checkpointing=cuda,
        use_cpu=not cuda,
        save_strategy="no",
        report_to="none",
    )
    adapter = LoraConfig(
        r=256,
        lora_alpha=512,
        lora_dropout=0.05,
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
        task_type="CAUSAL_LM",
    )
    timer = clock()
    SFTTrainer(
        model=model,
        args=config,
        train_dataset=table,
        processing_class=processor,
        peft_config=adapter,
        callbacks=[timer],
    ).train()
    return timer.seconds


def peak():
    """Return the greatest memory of this process in MiB: of the GPU where there is one."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


# ── arithmetic ────────────────────────────────────────────────────────────────────────────────


def work(home):
    """Return the floating point operations of a row, and its tokens.

    Two a weight and token forwards; through the frozen language side two more backwards, for what
    adapters below need; the adapters' own, six. Attention over a few hundred tokens adds little, as
    does the head, which is wanted for the answer alone; both are left out, and so is what is
    computed twice to save memory.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from w2v.students import resolve
    from w2v.validating import question_of

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(home / "model"))
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    eyes = sum(n for name, n in sizes.items() if "visual" in name)
    rest = ("visual", "embed", "lm_head")
    read = sum(n for name, n in sizes.items() if not any(part in name for part in rest))
    ranks = sum(
        256 * sum(weight.shape)
        for name, weight in model.named_parameters()
        if "language_model" in name and name.endswith("_proj.weight")
    )
    student = resolve.student(str(home / "model"))
    first = (home / "questions.jsonl").read_text().splitlines()[0]
    tokens = student.family.tokens(
        student.processor, question_of(json.loads(first)), [(448, 336)] * 2, answer=True
    )
    patches = 2 * (448 // 14) * (336 // 14)
    return 4 * read * tokens + 6 * ranks * tokens + 2 * eyes * patches, tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--home", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=("ours", "bare"), help=argparse.SUPPRESS)
    given = parser.parse_args()

    from w2v import torchvision_cpu

    torchvision_cpu.install()
    if given.way:
        seconds = {"ours": ours, "bare": bare}[given.way](given)
        print(json.dumps({"seconds": seconds, "MiB": peak()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "model").mkdir()
        build(given.size, home / "model")
        write_questions(home, given.batch * given.steps)
        print(json.dumps(measure(given, home)))


def measure(given, home):
    """Return the figures of both ways, and their ratio."""
    found = {"ours": [], "bare": []}
    for _ in range(given.rounds):
        for way, runs in found.items():
            told = [f"--{k}={v}" for k, v in (("home", home), ("way", way))]
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], *told], capture_output=True, text=True
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
            print(way, runs[-1], file=sys.stderr, flush=True)
    rows = given.batch * (given.steps - SKIPPED)
    speed = {
        way: rows / statistics.median(run["seconds"] for run in runs) for way, runs in found.items()
    }
    figures = {f"rows a second, {way}": round(value, 3) for way, value in speed.items()}
    figures |= {f"MiB, {way}": max(run["MiB"] for run in runs) for way, runs in found.items()}
    flops, tokens = work(home)
    figures |= {"tokens a row": tokens, "TFLOP a row": round(flops / 1e12, 4)}
    figures["ratio"] = round(speed["ours"] / speed["bare"], 3)
    if given.peak_tflops:
        share = speed["ours"] * flops / 1e12 / given.peak_tflops
        figures["share of peak"] = round(share, 3)
    return figures


if __name__ == "__main__":
    main()
