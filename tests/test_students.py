import base64
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v import boxes, evaluating, testing, torchvision_cpu
from w2v.errors import BadFile, BadOption, BadRecord, UnknownName, W2VError
from w2v.kinds import Student, Trainable
from w2v.records import Message, Question
from w2v.students import folders, resolve
from w2v.students.api import ApiStudent
from w2v.students.families import GEMMA3, GEMMA4, INTERNVL, QWEN, TINY

torchvision_cpu.install()

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
for package in ("torchvision", "transformers"):
    pytest.importorskip(package)

from w2v.students import hf, lean, tiny, toys  # noqa: E402

TOYS = ("qwen2.5-vl", "gemma3", "gemma4", "internvl")
NAMES = {"gemma3": "gemma", "gemma4": "gemma"}
PICTURE_TOKENS = {
    "qwen2.5-vl": "<|image_pad|>",
    "gemma3": "<image_soft_token>",
    "gemma4": "<|image|>",
    "internvl": "<IMG_CONTEXT>",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One folder with a toy of each family, and a tiny."""
    home = tmp_path_factory.mktemp("models")
    for name in TOYS:
        toys.build(name, home / name)
    tiny.build(home / "tiny", width=64, layers=1, vision_width=32, vision_layers=1)
    return home


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A question about two different pictures of 96 x 72 pixels."""
    root = tmp_path_factory.mktemp("pictures")
    question = testing.example_question(root)
    for k in range(2):
        noise = Image.effect_noise((96, 72), 60 + 60 * k)
        Image.merge("RGB", [noise, noise.rotate(90 * k), noise]).save(root / f"{k}.png")
    return replace(question, images=tuple(str(root / name) for name in question.images))


def made(folder, **options):
    options = {"max_new_tokens": 6, "device": "cpu"} | options
    return resolve.student(f"{folder}:" + ",".join(f"{k}={v}" for k, v in options.items()))


def encoded(student, question):
    pictures = hf.open_images(question)
    frames = student.family.frames(student.processor, [p.size for p in pictures])
    return student._encode([question], [pictures], [frames])


def logits(student, question):
    with torch.inference_mode():
        return student.loaded.model(**encoded(student, question)).logits[0, -1]


# ── answering ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TOYS)
def test_a_question_about_two_pictures_is_answered_alike_alone_and_in_a_batch(name, models, pair):
    student = made(models / name)
    longer = replace(
        pair,
        id="longer",
        messages=(Message(role="user", content="<image><image>" + "Which way? " * 9),),
        images=pair.images[::-1],
    )
    alone = [student.answer([q])[0] for q in (pair, longer)]
    assert student.answer([pair, longer, pair]) == [alone[0], alone[1], alone[0]]


@pytest.mark.parametrize("name", ["gemma3", "gemma4"])
def test_a_text_begins_once(name, models, pair):
    student = made(models / name)
    begin = student.processor.tokenizer.bos_token_id
    assert student.processor.tokenizer("a").input_ids[0] == begin  # as Gemma's tokenizers do
    assert encoded(student, pair)["input_ids"][0].tolist().count(begin) == 1


@pytest.mark.parametrize("name", TOYS)
def test_swapping_the_pictures_changes_what_the_model_says(name, models, pair):
    student = made(models / name)
    there = logits(student, pair)
    back = logits(student, replace(pair, images=pair.images[::-1]))
    assert (there - back).abs().max() > 1e-4


def test_questions_with_and_without_pictures_mix(models, pair):
    blind = Question(
        id="b",
        task_type="A1",
        messages=(Message(role="user", content="How did the camera move?"),),
        images=(),
        answer="",
    )
    student = made(models / "qwen2.5-vl")
    mixed = student.answer([blind, pair, blind])
    assert mixed == [*student.answer([blind]), *student.answer([pair]), mixed[0]]


@pytest.mark.parametrize("name", TOYS)
def test_tokens_of_pictures_are_never_generated(name, models, pair):
    student = made(models / name, max_new_tokens=4)
    student.load()
    model, tokenizer = student.loaded.model, student.processor.tokenizer
    banned = student.family.suppressed(student.processor)
    assert tokenizer.convert_tokens_to_ids(PICTURE_TOKENS[name]) in banned
    head = model.get_output_embeddings()
    wanted = banned[-1]

    def favour(module, args, output):
        return output.index_fill(-1, torch.tensor([wanted]), 1e4)

    hook = head.register_forward_hook(favour)
    try:
        asked = encoded(student, pair)
        free = model.generate(**asked, max_new_tokens=4, do_sample=False)
        held = model.generate(**asked, generation_config=student._generation)
    finally:
        hook.remove()
    start = asked["input_ids"].shape[1]
    assert wanted in free[0, start:].tolist()
    assert not set(held[0, start:].tolist()) & set(banned)


def test_habits_of_the_checkpoint_do_not_reach_the_answers(models, pair):
    student = made(models / "qwen2.5-vl", max_new_tokens=12)
    plain = student.answer([pair])
    own = student.loaded.model.generation_config
    own.repetition_penalty, own.do_sample, own.temperature = 1e-3, True, 9.0
    assert student.answer([pair]) == plain


def test_sampling_depends_on_seed_and_question_alone(models, pair):
    other = replace(pair, id="other")
    student = made(models / "qwen2.5-vl", temperature=2.0, seed=3)
    alone = student.answer([pair])
    assert student.answer([other, pair])[1:] == alone
    assert student.answer([other]) != alone
    assert made(models / "qwen2.5-vl", temperature=2.0, seed=4).answer([pair]) != alone


def test_a_picture_that_is_missing_or_broken_is_named_with_its_question(models, pair, tmp_path):
    student = made(models / "qwen2.5-vl")
    (tmp_path / "empty.png").touch()
    for path, why in ((tmp_path / "no.png", "no such picture"), (tmp_path / "empty.png", "empty")):
        with pytest.raises(BadFile, match=f"room/0/A2.*{re.escape(str(path))}.*{why}"):
            student.answer([replace(pair, images=(pair.images[0], str(path)))])


def test_pictures_and_tags_must_match(models, pair):
    with pytest.raises(BadRecord, match="room/0/A2: 2 <image> tags, 1 images"):
        made(models / "qwen2.5-vl").answer([replace(pair, images=pair.images[:1])])


def test_a_mark_for_a_picture_inside_the_text_is_refused(models, pair):
    evil = Message(role="user", content="<image><image>the <|image_pad|> chair")
    with pytest.raises(BadRecord, match=r"room/0/A2: <\|image_pad\|> stands for a picture"):
        made(models / "qwen2.5-vl").answer([replace(pair, messages=(evil,))])


# ── what a picture costs ──────────────────────────────────────────────────────────────────────

SIZES = [(96, 72), (576, 576), (640, 360), (33, 190)]
BUDGETS = {"qwen2.5-vl": (4, 30), "gemma3": (4, 9), "gemma4": (70, 150), "internvl": (4, 30)}


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_picture_takes_the_tokens_that_were_counted_and_keeps_the_budget(
    name, size, models, pair, tmp_path
):
    Image.effect_noise(size, 50).convert("RGB").save(tmp_path / "a.png")
    question = replace(pair, images=(str(tmp_path / "a.png"), pair.images[0]))
    sizes = [size, (96, 72)]
    for budget in BUDGETS[name]:
        student = made(models / name, image_tokens=budget)
        family, processor = student.family, student.processor
        ids = encoded(student, question)["input_ids"][0].tolist()
        counted = [family.image_tokens(processor, *s) for s in sizes]
        mark = processor.tokenizer.convert_tokens_to_ids(PICTURE_TOKENS[name])
        assert ids.count(mark) == sum(counted)
        assert max(counted) <= family.budget(processor) <= budget
        assert family.tokens(processor, question, sizes, answer=False) == len(ids)


@pytest.mark.parametrize("name", TOYS)
def test_the_budget_travels_with_the_saved_processor(name, models, pair, tmp_path):
    budget = BUDGETS[name][1]
    student = made(models / name, image_tokens=budget)
    loaded = student.load()
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    assert loaded.settings["image_tokens"] == student.family.budget(student.processor)
    folders.write_settings(tmp_path, loaded.settings)
    again = made(tmp_path)
    assert again.settings["image_tokens"] == loaded.settings["image_tokens"]
    assert again.answer([pair]) == student.answer([pair])
    bare = hf.AutoProcessor.from_pretrained(tmp_path)  # as any other tool would load it
    assert student.family.image_tokens(bare, 640, 360) == student.family.image_tokens(
        student.processor, 640, 360
    )


def test_a_checkpoint_without_settings_gets_the_budget_of_its_family(models, tmp_path):
    for name in TOYS:
        copy = _copy(models / name, tmp_path / name)
        (copy / folders.SETTINGS).unlink()
        student = made(copy)
        assert student.family.name == NAMES.get(name, name)
        expected = {"qwen2.5-vl": 1280, "gemma3": 4, "gemma4": 280, "internvl": 1280}[name]
        assert student.family.budget(student.processor) == expected


def test_the_papers_budget_is_its_pixels():
    assert QWEN.default_tokens * 28 * 28 == 1_003_520


def test_internvl_cuts_no_tiles_within_the_budget_of_one(models, pair):
    one, many = (
        made(models / "internvl", image_tokens=8),
        made(models / "internvl", image_tokens=40),
    )
    assert encoded(one, pair)["pixel_values"].shape[0] == 2
    assert encoded(many, pair)["pixel_values"].shape[0] > 2


@pytest.mark.parametrize(
    ("name", "tokens"), [("gemma3", 3), ("gemma4", 69), ("internvl", 3), ("qwen2.5-vl", -1)]
)
def test_a_budget_too_small_for_any_picture_is_refused(name, tokens, models):
    with pytest.raises(BadOption, match="token|image_tokens"):
        _ = made(models / name, image_tokens=tokens).processor


# ── boxes ─────────────────────────────────────────────────────────────────────────────────────


def asking(text, answer="", images=2):
    return Question(
        id="q",
        task_type="D1",
        messages=(
            Message(role="user", content="<image>" * images + text),
            Message(role="assistant", content=answer),
        ),
        images=("a.png", "b.png")[:images],
        answer=answer,
    )


def words(family, question, frames, answer=True):
    turns = family.messages(question, answer=answer, frames=frames)
    return ["".join(p.get("text", "") for p in turn["content"]) for turn in turns]


def test_boxes_are_put_into_pixels_of_the_picture_they_lie_in():
    question = asking(
        "The chair is at [100, 200, 500, 1000]. Boxes are [x1, y1, x2, y2] in whole numbers from 0 "
        "to 1000, x to the right. Where is it now? A. [0, 0, 10, 10] B. [500, 500, 1000, 1000]",
        "[250, 250, 750, 1000]",
    )
    asked, answer = words(QWEN, question, [(280, 140), (560, 280)])
    assert asked == (
        "The chair is at [28, 28, 140, 140]. Boxes are [x1, y1, x2, y2] in whole pixels, x to the "
        "right. Where is it now? A. [0, 0, 6, 3] B. [280, 140, 560, 280]"
    )
    assert answer == "[140, 70, 420, 280]"


def test_the_papers_words_for_the_grid_become_words_for_pixels():
    question = asking("Bboxes use normalized integer coordinates in [0,1000]. Answer.")
    asked = words(QWEN, question, [(28, 28)] * 2, answer=False)
    assert asked == ["Bboxes use integer pixel coordinates. Answer."]


def test_families_of_the_grid_leave_boxes_alone():
    question = asking("The chair is at [100, 200, 500, 1000].", "[1, 2, 3, 4]")
    for family in (GEMMA3, GEMMA4, INTERNVL, TINY, QWEN.with_boxes("grid")):
        frames = family.frames(None, [(640, 480)] * 2)
        assert words(family, question, frames) == [
            "The chair is at [100, 200, 500, 1000].",
            "[1, 2, 3, 4]",
        ]
        assert family.back("at [1, 2, 3, 4]", frames) == "at [1, 2, 3, 4]"


def test_an_answer_in_pixels_of_the_last_picture_comes_back_on_the_grid():
    frames = [(100, 100), (560, 280)]
    said = 'It is here: {"bbox_2d": [140, 70, 420, 999], "label": "chair"}'
    assert QWEN.back(said, frames) == (
        'It is here: {"bbox_2d": [250, 250, 750, 1000], "label": "chair"}'
    )
    assert QWEN.back("turn left 40 degrees", frames) == "turn left 40 degrees"


@given(
    box=st.tuples(*[st.integers(0, 1000)] * 4),
    width=st.integers(36, 100).map(lambda n: 28 * n),
    height=st.integers(36, 100).map(lambda n: 28 * n),
)
def test_boxes_go_to_pixels_and_back_unchanged_where_pixels_are_finer(box, width, height):
    frames = [(width, height)] * 2
    answer = words(QWEN, asking("Where?", boxes.say(box)), frames)[1]
    assert QWEN.back(answer, frames) == boxes.say(box)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_boxes_in_pixels_are_of_the_picture_that_the_model_sees(size, models, pair, tmp_path):
    Image.new("RGB", size).save(tmp_path / "a.png")
    student = made(models / "qwen2.5-vl", image_tokens=12)
    question = replace(pair, images=(str(tmp_path / "a.png"),) * 2)
    rows, columns = encoded(student, question)["image_grid_thw"][0, 1:].tolist()
    frames = student.family.frames(student.processor, [size])
    assert frames == [(14 * columns, 14 * rows)]


def test_a_student_answers_on_the_grid_whatever_it_writes(models, pair, monkeypatch):
    student = made(models / "qwen2.5-vl", image_tokens=16)
    wide, high = student.family.frames(student.processor, [(96, 72)])[0]
    monkeypatch.setattr(
        student.processor.tokenizer, "batch_decode", lambda *a, **k: [f"[0, 0, {wide}, {high}]"]
    )
    assert student.answer([pair]) == ["[0, 0, 1000, 1000]"]


def test_tiles_have_no_pixels():
    with pytest.raises(BadOption, match="tiles"):
        INTERNVL.with_boxes("pixels").frames(None, [(10, 10)])
    with pytest.raises(BadOption, match="boxes=yxyx"):
        QWEN.with_boxes("yxyx")


# ── finding the model ─────────────────────────────────────────────────────────────────────────


def _copy(source, target):
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_names_folders_and_options_are_told_apart(models):
    assert resolve.spec("tiny:batch=2").options == {"batch": "2"}
    typed = resolve.spec(f"{models / 'internvl'}:image_tokens=8")
    assert (typed.name, typed.options["image_tokens"]) == ("internvl", "8")
    assert typed.options["path"] == str(models / "internvl")
    assert resolve.spec(str(models / "tiny")).name == "tiny"
    with pytest.raises(UnknownName, match="did you mean 'gemma'"):
        resolve.spec("gema")
    with pytest.raises(BadFile, match="no such folder"):
        resolve.student("./nowhere")
    with pytest.raises(BadFile, match="holds no model"):
        resolve.student(str(models))


def test_every_family_is_a_student_that_trains(models):
    for name in TOYS:
        student = made(models / name)
        assert isinstance(student, Trainable) and hasattr(student, "answer")
    student: Student = made(models / "tiny")
    assert student.load(training=True).model.training
    assert {"family", "image_tokens", "boxes", "base"} <= set(student.settings)

    class OnlyLoads:
        def load(self, **named): ...

    assert not isinstance(OnlyLoads(), Trainable)


def test_a_folder_of_another_family_is_refused_with_the_right_name(models):
    with pytest.raises(BadFile, match="holds a internvl model, which gemma is not") as caught:
        resolve.student(f"gemma:path={models / 'internvl'}")
    assert "internvl:path=" in caught.value.hint


def test_internvl_in_its_original_format_is_refused_with_a_hint(tmp_path):
    config = {"model_type": "internvl_chat", "auto_map": {"AutoConfig": "c.InternVLChatConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for typed in (str(tmp_path), f"internvl:path={tmp_path}"):
        with pytest.raises(BadFile) as caught:
            resolve.student(typed)
        assert "-HF" in caught.value.hint


COMMIT = "0123456789" * 4


def test_a_hub_id_is_found_in_the_local_cache(models, pair, tmp_path, monkeypatch):
    home = tmp_path / "models--someone--toy"
    _copy(models / "qwen2.5-vl", home / "snapshots" / COMMIT)
    (home / "snapshots" / COMMIT / folders.SETTINGS).unlink()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    student = made("someone/toy", image_tokens=6)
    assert student.family == QWEN
    assert student.answer([pair]) == made(models / "qwen2.5-vl").answer([pair])
    local = made(models / "qwen2.5-vl").describe()["weights"]
    assert student.describe()["weights"] == local
    with pytest.raises(BadFile, match="someone/else") as caught:
        resolve.student("someone/else")
    assert "hf download someone/else" in caught.value.hint


def test_a_hub_id_that_needs_remote_code_is_refused_with_a_hint(tmp_path, monkeypatch):
    home = tmp_path / "models--OpenGVLab--InternVL3_5-8B"
    (home / "snapshots" / COMMIT).mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    config = {"model_type": "internvl_chat", "auto_map": {"AutoConfig": "c.InternVLChatConfig"}}
    (home / "snapshots" / COMMIT / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadFile, match="needs remote code") as caught:
        resolve.student("OpenGVLab/InternVL3_5-8B")
    assert "-HF" in caught.value.hint


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_named(lost, models, pair, tmp_path):
    copy = _copy(models / "qwen2.5-vl", tmp_path / "cut")
    (copy / lost).unlink()
    with pytest.raises(BadFile, match=re.escape(str(copy))):
        made(copy).answer([pair])


def test_weights_cut_in_half_or_incomplete_are_never_used(models, pair, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = _copy(models / "qwen2.5-vl", tmp_path / "cut")
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match="cannot be loaded"):
        made(copy).answer([pair])
    file.write_bytes(whole)
    parts = load_file(file)
    del parts[sorted(parts)[5]]
    save_file(parts, file, metadata={"format": "pt"})
    with pytest.raises(BadFile, match="the weights lack"):
        made(copy).answer([pair])


def test_settings_that_are_not_json_are_named(models, tmp_path):
    copy = _copy(models / "qwen2.5-vl", tmp_path / "cut")
    (copy / folders.SETTINGS).write_text('{"family": ')
    with pytest.raises(BadFile, match=r"w2v\.json.*not readable as JSON"):
        resolve.student(str(copy))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_is_loaded_onto_the_base_it_names(models, pair, tmp_path):
    peft = pytest.importorskip("peft")
    base = made(models / "qwen2.5-vl")
    loaded = base.load(training=True)
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=4, target_modules=loaded.family.lora_targets, init_lora_weights=False
    )
    model = peft.get_peft_model(loaded.model, config)
    assert not [n for n, p in model.named_parameters() if p.requires_grad and "visual" in n]
    model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    folders.write_settings(tmp_path, loaded.settings)
    student = made(tmp_path)
    assert not torch.equal(logits(student, pair), logits(base, pair))
    with torch.inference_mode():
        same = model.eval()(**encoded(base, pair)).logits[0, -1]
    assert torch.allclose(logits(student, pair), same, atol=1e-5)
    assert any(p.requires_grad for p in made(tmp_path).load(training=True).model.parameters())
    assert not any(p.requires_grad for p in student.loaded.model.parameters())
    assert student.describe()["base"] == base.describe()["weights"]
    folders.write_settings(tmp_path, loaded.settings | {"base": str(tmp_path / "moved")})
    with pytest.raises(BadFile, match="moved"):
        made(tmp_path).answer([pair])
    assert made(tmp_path, base=models / "qwen2.5-vl").answer([pair]) == student.answer([pair])


def test_the_base_of_an_adapter_may_lie_beside_it(tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere" / "deep")  # where ../base is nothing
    (tmp_path / "run").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "run" / folders.ADAPTER).write_text('{"base_model_name_or_path": "../base"}')
    assert Path(folders.base_of(tmp_path / "run")).resolve() == (tmp_path / "base").resolve()
    folders.write_settings(tmp_path / "run", {"base": str(tmp_path / "base")})
    assert folders.base_of(tmp_path / "run") == str(tmp_path / "base")
    folders.write_settings(tmp_path / "run", {"base": "../../base"})  # as seen from here
    assert folders.settings(tmp_path / "run")["base"] == "../base"
    folders.write_settings(tmp_path / "run", {"base": "hub/id"})
    assert folders.base_of(tmp_path / "run") == "hub/id"
    (tmp_path / "run" / folders.ADAPTER).write_text("{}")
    folders.write_settings(tmp_path / "run", {})
    with pytest.raises(BadFile, match="which model the adapter belongs to"):
        folders.base_of(tmp_path / "run")


@pytest.mark.parametrize("name", TOYS)
def test_regexes_of_a_family_find_the_language_side_and_the_eyes(name, models):
    student = made(models / name)
    model = student.load().model
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    chosen = {n for n in linear if re.fullmatch(student.family.lora_targets, n)}
    assert len(chosen) == 14  # seven in each of two layers
    eyes = [n for n, _ in model.named_parameters() if re.search(student.family.vision, n)]
    assert eyes and not any("language_model" in n or "lm_head" in n for n in eyes)
    rest = {n for n, _ in model.named_parameters()} - set(eyes)
    assert all("language_model" in n or "lm_head" in n for n in rest)


@pytest.mark.parametrize("bad", ["dtype=int8", "batch=0", "device=nonsense", "max_new_tokens=0"])
def test_bad_options_are_refused(bad, models, pair):
    with pytest.raises(BadOption):
        resolve.student(f"{models / 'qwen2.5-vl'}:{bad}").answer([pair])


def test_weights_are_told_apart(models, tmp_path):
    toys.build("qwen2.5-vl", tmp_path, seed=1)
    first = made(models / "qwen2.5-vl").describe()
    assert first == made(models / "qwen2.5-vl").describe()
    assert first["weights"] != made(tmp_path).describe()["weights"]
    json.dumps(first)


def test_the_type_that_auto_came_to_is_part_of_the_protocol(models, monkeypatch):
    def told(**options):
        student = made(models / "internvl", **options)
        described = student.describe()
        return described["dtype"], evaluating.protocol("b", "1", [], "me", described)["protocol"]

    whole = told()
    assert whole[0] == "float32" and told(dtype="float32") == whole
    halved = told(dtype="bfloat16")
    assert halved[0] == "bfloat16" and halved[1] != whole[1]
    # Off the CPU, auto is what the checkpoint names; where it names nothing, it stays unsaid.
    monkeypatch.setattr(hf, "_device", lambda name: "cuda")
    monkeypatch.setattr(hf, "dtype_of", lambda path: torch.bfloat16)
    assert told() == halved
    monkeypatch.setattr(hf, "dtype_of", lambda path: None)
    assert told()[0] == "auto"


@pytest.mark.parametrize("name", ["qwen2.5-vl", "tiny"])
def test_students_keep_their_contract(name, models):
    testing.check_student(f"{models / name}:max_new_tokens=5")


def test_the_manifest_is_light_and_listed():
    testing.check_light("w2v.students")
    testing.check_light("w2v.students.families")
    testing.check_light("w2v.students.resolve")
    testing.check_light("w2v.students.api")


# ── tiny ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("yes", 1),
        ("B", 1),
        ("turn left 30 degrees", 4),
        ("move forward 1.5 meters; turn left 30 degrees", 9),
        ("[123, 456, 789, 1000]", 9),
        ("The potted plant disappears from view.", 7),
        ("It is now at [1, 2, 3, 4].", 14),
    ],
)
def test_answers_are_short(text, number, tokenizer):
    ids = tokenizer(text).input_ids
    assert len(ids) == number
    assert tokenizer.decode(ids) == text


TENTHS = st.integers(0, 99).map(lambda n: f"{n / 10:.1f}")


@given(st.integers(0, 1000) | TENTHS, st.sampled_from(["", " "]))
def test_a_number_of_ours_is_one_token(number, space):
    ids = _tokenizer()(f"{space}{number}", add_special_tokens=False).input_ids
    assert len(ids) == 1


@given(st.decimals(-(10**6), 10**6, places=2) | st.integers(1001, 10**12) | st.just("007"))
def test_other_numbers_are_spelled(number):
    words = _tokenizer()
    ids = words(f"at {number}", add_special_tokens=False).input_ids
    assert words.decode(ids) == f"at {number}"


def test_near_numbers_start_out_more_alike_than_far_ones(tokenizer):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = tiny.network(tokenizer, 64, 1, 32, 1)
    known = tokenizer.get_vocab()
    rows = torch.nn.functional.normalize(model.get_input_embeddings().weight.detach(), dim=1)
    for space in ("", "Ġ"):
        for numbers in (("500", "501", "510", "700"), ("4.0", "4.1", "4.5", "8.0")):
            first, *others = (rows[known[space + number]] for number in numbers)
            alike = [float(first @ other) for other in others]
            assert alike == sorted(alike, reverse=True) and alike[0] > 0.75 > alike[-1]
    assert model.lm_head.weight is model.get_input_embeddings().weight


@settings(max_examples=50)
@given(st.text(max_size=40))
def test_any_text_is_spelled_and_read_back(text):
    words = _tokenizer()
    ids = words(text, add_special_tokens=False).input_ids
    if not any(mark in text for mark in tiny.SPECIAL):
        assert words.decode(ids) == text


def _tokenizer(cache=[]):  # noqa: B006  hypothesis takes no fixtures of module scope
    if not cache:
        cache.append(tiny.tokenizer())
    return cache[0]


def test_every_word_of_the_simulator_is_a_token(tokenizer):
    source = Path(tiny.materials.__file__).parent
    labels = {
        label
        for file in source.glob("*.py")
        for label in re.findall(r'(?:Piece\(\s*|label: str = )"([a-z ]+)"', file.read_text())
    }
    assert len(labels) > 35
    for label in labels | set(tiny.materials.COLORS):
        assert len(tokenizer(label).input_ids) == len(label.split()), label


def test_new_words_can_be_added():
    assert len(tiny.tokenizer(["a zebra"])("zebra zebra").input_ids) == 2
    assert len(tiny.tokenizer()("zebra").input_ids) == 5


def test_tiny_is_made_twice_alike_and_reloads(tmp_path, models, pair):
    state = torch.random.get_rng_state()
    one = tiny.build(tmp_path / "a", width=64, layers=1, vision_width=32, vision_layers=1)
    assert torch.equal(state, torch.random.get_rng_state())
    same = (one / "model.safetensors").read_bytes()
    assert same == (models / "tiny" / "model.safetensors").read_bytes()
    student = made(one)
    assert student.settings["boxes"] == "grid"
    reloaded = student.processor.tokenizer
    for text in ("turn left 30 degrees", "Zebra’s [1, 2, 3, 40]"):
        assert reloaded(text).input_ids == tiny.tokenizer()(text).input_ids


@pytest.fixture
def eyes(models):
    """The vision side of a tiny that is about to learn, and three pictures, cut for it."""
    student = made(models / "tiny")
    chance = np.random.default_rng(0)
    frames = [Image.fromarray(chance.integers(0, 256, (112, 112, 3), np.uint8)) for _ in range(3)]
    cut = student.processor.image_processor(images=frames, return_tensors="pt")
    visual = student.load(training=True).model.model.visual

    def see(*numbers):
        per = len(cut["pixel_values"]) // 3
        values = [cut["pixel_values"][per * n : per * (n + 1)] for n in numbers]
        told = visual(torch.cat(values), cut["image_grid_thw"][: len(numbers)]).pooler_output
        return told.view(len(numbers), -1, told.shape[-1])

    return visual, see


@pytest.mark.parametrize("learning", [True, False])
def test_tiny_sees_what_the_real_class_sees(learning, eyes):
    visual, see = eyes
    visual.requires_grad_(learning)
    ours = see(1, 0, 1)
    del visual.forward  # that of the class comes back
    real = see(1, 0, 1)
    assert (ours - real).abs().max() < 1e-4 * real.abs().max()
    assert ours.requires_grad is learning and torch.equal(ours[0], ours[2])


def test_tiny_thinks_in_half_precision_as_the_real_class_does(models, pair):
    student = made(models / "tiny", dtype="bfloat16")
    model, asked = student.loaded.model, encoded(student, pair)
    assert model.dtype == torch.bfloat16
    with torch.inference_mode():
        ours = model(**asked, use_cache=False).logits[0].float()
        del model.model.visual.forward, model.model.language_model.forward
        real = model(**asked, use_cache=False).logits[0].float()
    assert (ours - real).abs().max() < 0.02 * real.abs().max()


def test_eyes_that_do_not_learn_see_a_picture_alike_in_any_company(eyes):
    visual, see = eyes
    visual.requires_grad_(False)
    pair, trio = see(0, 1), see(1, 2, 0)
    assert torch.equal(pair[1], trio[0]) and torch.equal(pair[0], trio[2])
    visual.album = lean.Album()
    assert torch.equal(see(2, 1)[1], pair[1])


def test_what_was_seen_is_forgotten_when_the_eyes_change(eyes, monkeypatch):
    visual, see = eyes
    visual.requires_grad_(False)
    before = see(0)
    visual.load_state_dict({k: v * 1.5 for k, v in visual.state_dict().items()})
    assert not torch.allclose(see(0), before, rtol=0.1)
    monkeypatch.setattr(lean.Album, "MOST", 2)
    see(0, 1, 2)
    assert len(visual.album._tokens) == 2


def test_tiny_has_the_size_it_is_known_for(tmp_path):
    student = made(tiny.build(tmp_path))
    number = sum(p.numel() for p in student.load().model.parameters())
    assert 2_000_000 < number < 3_000_000
    assert student.settings["image_tokens"] == 16
    assert student.family.image_tokens(student.processor, 112, 112) == 16
    assert (tmp_path / "model.safetensors").stat().st_size < 20 * 2**20


def test_the_template_marks_the_answer_and_its_end(models, pair):
    student = made(models / "tiny")
    frames = student.family.frames(student.processor, [(96, 72)] * 2)
    said = student.family.messages(pair, answer=True, frames=frames)
    told = student.processor.tokenizer.apply_chat_template(
        said, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [i for i, m in zip(told["input_ids"], told["assistant_masks"], strict=True) if m]
    assert student.processor.tokenizer.decode(marked) == "turn left 40 degrees<|im_end|>"
    asked = student.processor.apply_chat_template(
        said[:-1], tokenize=False, add_generation_prompt=True
    )
    whole = student.processor.apply_chat_template(said, tokenize=False)
    assert whole == asked + "turn left 40 degrees<|im_end|>\n"


# ── an endpoint ───────────────────────────────────────────────────────────────────────────────


def completion(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextmanager
def endpoint(reply):
    """Serve ``reply(number, request) -> (status, body[, headers])`` on this machine."""
    asked, lock, quiet = [], threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked.append((self.path, dict(self.headers), body))
                number = len(asked)
            status, text, *more = reply(number, body)
            if status == 0:
                quiet.wait(5)
                return
            self.send_response(status)
            for key, value in (more[0] if more else {}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        quiet.set()
        server.shutdown()
        thread.join()
        server.server_close()


def api(url, **options):
    return ApiStudent(**{"base_url": url, "model": "m", "pause": 0.001, "retries": 2} | options)


def test_an_endpoint_gets_the_question_and_its_pictures(pair, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with endpoint(lambda n, body: (200, completion(" turn left 40 degrees\n"))) as (url, asked):
        student = resolve.student(f"openai:base_url={url},model=some/vlm,key_env=MY_KEY")
        assert student.answer([pair]) == ["turn left 40 degrees"]
    path, headers, body = asked[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("some/vlm", 0.0, 128)
    (turn,) = body["messages"]
    assert [part["type"] for part in turn["content"]] == ["image_url", "image_url", "text"]
    assert turn["content"][2]["text"] == "How did the camera move?"
    for part, image in zip(turn["content"], pair.images, strict=False):
        kind, _, data = part["image_url"]["url"].partition(";base64,")
        assert kind == "data:image/png"
        assert base64.b64decode(data) == Path(image).read_bytes()


def test_a_picture_that_endpoints_may_not_read_is_sent_as_png(pair, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.bmp")
    question = replace(pair, images=(str(tmp_path / "a.bmp"), pair.images[1]))
    with endpoint(lambda n, body: (200, completion("ok"))) as (url, asked):
        api(url).answer([question])
    sent = asked[0][2]["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(sent.partition(",")[2]).startswith(b"\x89PNG")


def test_answers_come_in_the_order_of_the_questions(pair):
    def reply(number, body):
        text = body["messages"][0]["content"][-1]["text"]
        return 200, completion(text)

    questions = [
        replace(
            pair, id=str(k), messages=(Message(role="user", content=f"<image><image>number {k}"),)
        )
        for k in range(12)
    ]
    with endpoint(reply) as (url, _):
        assert api(url, concurrency=5).answer(questions) == [f"number {k}" for k in range(12)]
        assert api(url).answer([]) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(status, pair):
    def reply(number, body):
        return (status, "busy") if number < 3 else (200, completion("yes"))

    with endpoint(reply) as (url, asked):
        assert api(url).answer([pair]) == ["yes"]
        assert len(asked) == 3


def test_an_endpoint_that_stays_broken_is_named(pair):
    error = json.dumps({"error": {"message": "the engine\nhas died"}})
    with endpoint(lambda n, body: (500, error)) as (url, asked):
        with pytest.raises(W2VError, match="room/0/A2.*HTTP 500 the engine has died, 3 times"):
            api(url).answer([pair])
        assert len(asked) == 3


def test_the_pause_that_an_endpoint_asks_for_is_kept(pair, monkeypatch):
    slept = []
    monkeypatch.setattr("w2v.students.api.time.sleep", slept.append)

    def reply(number, body):
        return (429, "", {"Retry-After": "7"}) if number < 2 else (200, completion("yes"))

    with endpoint(reply) as (url, _):
        assert api(url).answer([pair]) == ["yes"]
    assert slept == [7.0]


def test_a_refusal_is_not_repeated_and_says_what_to_do(pair):
    cases = {401: "MY_KEY", 404: "/v1", 400: "max_completion_tokens"}
    for status, advice in cases.items():
        body = json.dumps({"error": {"message": "no"}})
        with endpoint(lambda n, b, s=status, t=body: (s, t)) as (url, asked):
            with pytest.raises(W2VError, match=f"HTTP {status} no") as caught:
                api(url, key_env="MY_KEY").answer([pair])
            assert advice in caught.value.hint
            assert len(asked) == 1


def test_an_endpoint_that_never_answers_is_given_up(pair):
    with endpoint(lambda n, body: (0, "")) as (url, asked):
        with pytest.raises(W2VError, match="no answer within 0.1 s, 2 times"):
            api(url, timeout=0.1, retries=1).answer([pair])
        assert len(asked) == 2


def test_an_endpoint_out_of_reach_is_named(pair):
    with endpoint(lambda n, body: (200, "")) as (url, _):
        pass
    with pytest.raises(W2VError, match="cannot be reached"):
        api(url, retries=1).answer([pair])


@pytest.mark.parametrize(
    "garbage",
    ["<html>welcome</html>", "[]", '{"choices": []}', '{"choices": [{"message": {}}]}', "", "\0"],
)
def test_what_is_no_completion_is_shown(garbage, pair):
    with endpoint(lambda n, body: (200, garbage)) as (url, asked):
        with pytest.raises(W2VError, match="not a chat completion"):
            api(url).answer([pair])
        assert len(asked) == 1


def test_an_empty_completion_is_an_empty_answer(pair):
    null = json.dumps({"choices": [{"message": {"content": None}}]})
    with endpoint(lambda n, body: (200, null)) as (url, _):
        assert api(url).answer([pair]) == [""]


def test_an_endpoints_student_checks_pictures_and_options(pair, tmp_path):
    with endpoint(lambda n, body: (200, completion(""))) as (url, asked):
        with pytest.raises(BadFile, match="room/0/A2.*no such picture"):
            api(url).answer([replace(pair, images=(pair.images[0], str(tmp_path / "no.png")))])
        with pytest.raises(BadRecord, match="2 <image> tags, 1 images"):
            api(url).answer([replace(pair, images=pair.images[:1])])
        assert not asked
    with pytest.raises(BadOption, match="not an http address"):
        api("localhost:8000")
    with pytest.raises(BadOption, match="concurrency"):
        api("http://localhost", concurrency=0)
    with pytest.raises(BadOption, match="needs 'model'"):
        resolve.student("openai:base_url=http://localhost")


def test_an_endpoints_student_keeps_its_contract():
    with endpoint(lambda n, body: (200, completion("yes"))) as (url, _):
        testing.check_student(f"openai:base_url={url},model=m")


# ── the short way of tiny on a CPU ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sizes", [[(112, 112)], [(112, 112)] * 3, [(112, 112), (56, 84)]], ids=str)
def test_the_short_way_sees_what_the_real_classes_see(sizes, tmp_path):
    from w2v.students import lean

    folder = tiny.build(tmp_path, width=64, vision_width=64, vision_layers=2, layers=1)
    model = hf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    draw = torch.Generator().manual_seed(0)
    pictures = [torch.randint(256, (3, h, w), dtype=torch.uint8, generator=draw) for h, w in sizes]
    pictures.append(pictures[0])  # one that is shown twice
    processor = hf.AutoProcessor.from_pretrained(folder)
    shown = processor.image_processor(images=pictures, return_tensors="pt")

    def learned():
        model.zero_grad()
        seen = torch.cat(list(model.model.get_image_features(**shown).pooler_output))
        seen.pow(2).sum().backward()
        weights = dict(model.model.visual.named_parameters())
        return seen.detach(), {name: w.grad.clone() for name, w in weights.items()}

    usual, usually = learned()
    lean.install(model)
    ours, here = learned()
    torch.testing.assert_close(ours, usual)
    for name, gradient in usually.items():
        torch.testing.assert_close(here[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def small(folder):
    """Return a small model of the real classes, without the short way, and its processor."""
    tiny.build(folder, width=64, vision_width=64, vision_layers=1, layers=2)
    model = hf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model, hf.AutoProcessor.from_pretrained(folder)


def prompts(processor, order, side):
    """Return a batch of two prompts, of two pictures and of one, in this order."""
    draw = np.random.default_rng(0)
    frame = Image.fromarray(draw.integers(256, size=(112, 112, 3), dtype=np.uint8))
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    texts = [f"{mark}{mark} turn left 30 degrees", f"{mark} no"]  # of two lengths
    return processor(
        images=[[frame] * (2 - n) for n in order],
        text=[texts[n] for n in order],
        padding=True,
        padding_side=side,
        return_tensors="pt",
    )


def learns_alike(model, rows):
    """Assert that the short way, which is installed, says and learns what the real classes do."""
    there = rows["attention_mask"].bool()

    def learned():
        model.zero_grad()
        logits = model(**rows, use_cache=False).logits[there]
        logits.pow(2).sum().backward()
        weights = dict(model.named_parameters())
        return logits.detach(), {n: w.grad.clone() for n, w in weights.items() if w.requires_grad}

    usual, usually = learned()
    lean.install(model)
    ours, here = learned()
    torch.testing.assert_close(ours, usual, rtol=1e-4, atol=1e-4)
    for name, gradient in usually.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(here[name], gradient, rtol=1e-3, atol=1e-4 * scale, msg=name)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_short_way_reads_what_the_real_classes_read(side, tmp_path):
    model, processor = small(tmp_path)
    asked = prompts(processor, [0, 1], side)
    learns_alike(model, asked)
    hidden = model(**asked, use_cache=False, output_hidden_states=True).hidden_states
    assert len(hidden) == 3  # what only the real classes tell is still told


@pytest.fixture
def responses(tmp_path):
    """A small model, and what GRPO reads: three responses to each of two prompts, mixed."""
    model, processor = small(tmp_path)
    asked = prompts(processor, [1, 0, 0, 1, 1, 0], "left")
    said = ["left 30", "left", "right", "right 0.4", "no", "yes left 7"]
    more = processor.tokenizer(said, padding=True, padding_side="right", return_tensors="pt")
    whole = {name: torch.cat([asked[name], more[name]], 1) for name in more}
    kinds = torch.nn.functional.pad(asked["mm_token_type_ids"], (0, more["input_ids"].shape[1]))
    cut = asked["input_ids"].shape[1]
    return model, asked | whole | {"mm_token_type_ids": kinds}, asked, cut


def test_the_short_way_reads_once_how_responses_begin(responses, monkeypatch):
    model, rows, _, cut = responses
    shared = []
    once = lean.Way.read_once
    monkeypatch.setattr(
        lean.Way, "read_once", lambda *given: shared.append(given[-1]) or once(*given)
    )
    learns_alike(model, rows)
    [begin] = shared
    assert begin.length == cut and begin.first.tolist() == [0, 1]
    assert begin.group.tolist() == [0, 1, 1, 0, 0, 1]


def test_the_short_way_generates_from_equal_prompts_what_the_real_classes_do(responses):
    model, _, asked, _ = responses
    settings = dict(max_new_tokens=6, do_sample=False, output_logits=True)
    settings |= dict(return_dict_in_generate=True, eos_token_id=-1)
    usual = model.generate(**asked, **settings)
    lean.install(model)
    language = model.model.language_model
    numbers, real = [], type(language).forward

    def spy(own, **named):
        numbers.append(len(named["inputs_embeds"]))
        return real(own, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(language), "forward", spy)
        ours = model.generate(**asked, **settings)
        language.way.compiled = True  # then nothing is shared
        model.generate(**asked, **settings | dict(max_new_tokens=1))
    assert numbers == [2, 6, 6, 6, 6, 6, 6]
    assert torch.equal(ours.sequences, usual.sequences)
    torch.testing.assert_close(ours.logits, usual.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # peft asks for it
def test_what_is_dropped_by_chance_is_dropped_in_each_row_alone(responses):
    from peft import LoraConfig, get_peft_model

    model, rows, _, cut = responses
    lean.install(model)
    adapter = LoraConfig(r=4, lora_dropout=0.5, target_modules=["q_proj"], init_lora_weights=False)
    taught = get_peft_model(model, adapter)
    one, other = 0, 3  # of one prompt
    for training in (True, False):
        told = taught.train(training)(**rows, use_cache=False).logits[:, cut - 1]
        assert torch.equal(told[one], told[other]) is not training


def test_rows_are_alike_as_far_as_all_of_them_is_the_same():
    draw = torch.Generator().manual_seed(0)
    start, rest = torch.randn(2, 9, 8, generator=draw), torch.randn(4, 1, 8, generator=draw)
    there, places = torch.ones(4, 10), torch.arange(10).expand(3, 4, 10)
    rows = torch.cat([start[[1, 0, 0, 1]], rest], 1)
    found = lean.alike(rows, there, places)
    assert (found.length, found.first.tolist(), found.group.tolist()) == (9, [0, 1], [0, 1, 1, 0])
    assert torch.equal(found.spread([rows[found.first, :9]])[0], rows[:, :9])
    assert lean.alike(rows[:2], there[:2], places[:, :2]) is None
    assert lean.alike(rows[:1], there[:1], places[:, :1]) is None
    hidden = there.clone()
    hidden[3, 0] = 0  # padding in one row only
    assert lean.alike(rows, hidden, places) is None  # three beginnings of four rows save too little
    rows[3, 1, 7] += 1  # where only a look at all values tells
    assert lean.alike(rows, there, places) is None


def test_fusing_without_a_compiler_is_refused_before_weights_are_read(tmp_path, monkeypatch, w2v):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BadOption, match=r"compile=true: no C\+\+ compiler"):
        resolve.student("tiny:compile=true")
    pytest.importorskip("trl")
    code, _, err = w2v("pretrain", "-o", tmp_path / "base", "--compile")
    assert code == 2 and "--compile: no C++ compiler" in err
    assert not (tmp_path / "base").exists()


def test_a_copy_of_a_student_sees_with_its_own_weights(tmp_path):
    import copy

    student = made(tiny.build(tmp_path, width=64, vision_width=64, vision_layers=2, layers=1))
    model = student.load().model
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weight in model.model.visual.parameters():
            weight.zero_()
    shape = torch.tensor([[1, 4, 4]])
    pixels = torch.ones(16, 3 * 2 * tiny.PATCH**2)
    with torch.no_grad():
        assert model.model.visual(pixels, shape).pooler_output.abs().sum() == 0
        assert twin.model.visual(pixels, shape).pooler_output.abs().sum() > 0
