"""Detectors with tiny random models of the real classes, saved to disk and read back offline."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from w2v import plugins, torchvision_cpu
from w2v.errors import BadFile, BadOption, MissingPackage
from w2v.plugins import parse_spec
from w2v.records import Box

torchvision_cpu.install()
torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers")
pytest.importorskip("torchvision")

LABELS = ("chair", "potted plant", "lamp")
WORDS = "[PAD] [UNK] [CLS] [SEP] . a photo of detect , chair potted plant lamp sofa table".split()


def tokenizer(length):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def owl(folder):
    torch.manual_seed(0)
    text = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
    }
    config = tf.Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
    made = tf.Owlv2ForObjectDetection(config)
    torch.nn.init.normal_(made.box_head.dense2.weight, std=0.01)  # else most boxes are empty
    made.save_pretrained(folder)
    pictures = tf.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    tf.Owlv2Processor(pictures, tokenizer(16)).save_pretrained(folder)


def swin():
    return tf.SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )


def dino(folder, config=None, model=None):
    torch.manual_seed(0)
    text = tf.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    made = (config or tf.GroundingDinoConfig)(
        backbone_config=swin(),
        text_config=text,
        num_queries=20,
        d_model=32,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        num_feature_levels=4,
        max_text_len=64,
    )
    (model or tf.GroundingDinoForObjectDetection)(made).save_pretrained(folder)
    pictures = tf.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    tf.GroundingDinoProcessor(pictures, tokenizer(64)).save_pretrained(folder)


def mm_dino(folder):
    dino(folder, tf.MMGroundingDinoConfig, tf.MMGroundingDinoForObjectDetection)


def omdet(folder):
    torch.manual_seed(0)
    text = tf.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=16,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    config = tf.OmDetTurboConfig(
        text_config=text,
        backbone_config=swin(),
        use_timm_backbone=False,
        apply_layernorm_after_vision_backbone=False,
        image_size=64,
        encoder_hidden_dim=32,
        decoder_hidden_dim=32,
        vision_features_channels=[32, 32, 32],
        text_projection_in_dim=16,
        text_projection_out_dim=16,
        encoder_in_channels=[16, 32, 64],
        encoder_dim_feedforward=16,
        encoder_attention_heads=2,
        decoder_num_heads=2,
        decoder_num_layers=2,
        decoder_dim_feedforward=16,
        class_embed_dim=16,
        task_encoder_hidden_dim=16,
        num_queries=20,
        num_projection_layers=1,
    )
    tf.OmDetTurboForObjectDetection(config).save_pretrained(folder)
    pictures = tf.DetrImageProcessor(size={"height": 64, "width": 64}, do_pad=False)
    tf.OmDetTurboProcessor(pictures, tokenizer(77)).save_pretrained(folder)


MODELS = {"omdet-turbo": omdet, "owlv2": owl, "grounding-dino": dino, "mm-grounding-dino": mm_dino}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where each tiny model lies on disk."""
    pytest.importorskip("trackers")
    made = {}
    for name, save in MODELS.items():
        made[name] = tmp_path_factory.mktemp(name)
        save(made[name])
    return made


def footage(number=3, height=72, width=96):
    rng = np.random.default_rng(1)
    wide = rng.integers(0, 255, (height, width + 2 * number, 3), dtype=np.uint8)
    frames = [np.ascontiguousarray(wide[:, 2 * k : 2 * k + width]) for k in range(number)]
    return SimpleNamespace(frames=frames, clip=SimpleNamespace(id="s/turn"))


def detector(folder, **options):
    given = {"model": folder, "labels": "+".join(LABELS), "device": "cpu", **options}
    return parse_spec(
        "detector", "zero-shot:" + ",".join(f"{k}={v}" for k, v in given.items())
    ).make()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_read_from_its_folder_and_its_boxes_are_tracked(folders, name):
    made = detector(folders[name], score=0.02)
    assert made.model.model.config.model_type == name
    boxes = made.detect(footage())
    assert {b.frame for b in boxes} == {0, 1, 2}
    assert {b.label for b in boxes} <= set(LABELS)
    assert [b.frame for b in boxes] == sorted(b.frame for b in boxes)
    for b in boxes:
        x1, y1, x2, y2 = b.xyxy
        assert 0 <= x1 < x2 <= 96 and 0 <= y1 < y2 <= 72
        assert 0.01 < b.score <= 1 and b.visible is None
    first = {b.track for b in boxes if b.frame == 0 and b.score >= 0.02}
    assert None not in first and len(first) >= 1
    for frame in range(3):
        tracks = [b.track for b in boxes if b.frame == frame and b.track is not None]
        assert len(tracks) == len(set(tracks))
    labels = {}
    for b in boxes:
        assert b.track is None or labels.setdefault(b.track, b.label) == b.label


@pytest.mark.parametrize("name", MODELS)
def test_what_comes_out_does_not_depend_on_the_batch(folders, name):
    one, three = (detector(folders[name], score=0.02, batch=n).detect(footage()) for n in (1, 3))
    assert [(b.frame, b.track, b.label) for b in one] == [
        (b.frame, b.track, b.label) for b in three
    ]
    for a, b in zip(one, three, strict=True):
        assert a.xyxy == pytest.approx(b.xyxy, abs=1e-2)


def test_owl_agrees_with_the_pipeline_of_transformers(folders):
    from PIL import Image
    from transformers import pipeline

    frame = footage(1).frames[0]
    made = detector(folders["owlv2"], score=0.02, nms=1)
    mine = {(b.label, round(b.score, 4)) for b in made.detect(footage(1)) if b.score >= 0.02}
    found = pipeline("zero-shot-object-detection", model=str(folders["owlv2"]), device="cpu")(
        Image.fromarray(frame), [f"a photo of a {label}" for label in LABELS], threshold=0.02
    )
    theirs = {(f["label"].removeprefix("a photo of a "), round(f["score"], 4)) for f in found}
    assert len(mine) > 3 and mine <= theirs  # theirs has each box once for every label


def test_boxes_of_the_sentence_readers_are_those_of_transformers(folders):
    made = detector(folders["grounding-dino"])
    frame = footage().frames[0]
    xyxy, scores, _ = made.model.look([frame], LABELS, 0.0)[0]
    processor, network = made.model.processor, made.model.model
    asked = processor(images=frame, text="chair. potted plant. lamp.", return_tensors="pt")
    with torch.no_grad():
        theirs = processor.post_process_grounded_object_detection(
            network(**asked), asked.input_ids, threshold=0.0, target_sizes=[frame.shape[:2]]
        )[0]
    assert torch.allclose(xyxy, theirs["boxes"], atol=1e-3)
    assert (scores <= theirs["scores"] + 1e-6).all()  # theirs counts full stops too


def test_each_phrase_is_read_at_its_own_tokens(folders):
    from w2v.detectors.zeroshot import read_phrases

    text, spans = detector(folders["grounding-dino"]).model.spell(LABELS)
    assert text == "chair. potted plant. lamp."
    assert spans == [[1], [3, 4], [6]]  # 0 is [CLS]; 2, 5 and 7 are full stops
    logits = torch.full((4, 9), -9.0)
    logits[0, 4] = 2.0  # "plant" alone is the potted plant
    logits[1, 2] = 5.0  # a full stop is no label
    logits[2, [1, 6]] = torch.tensor([1.0, 3.0])  # rather a lamp than a chair
    logits[3, 8] = float("-inf")
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.4]] * 4)
    xyxy, scores, which = read_phrases(logits, boxes, spans, 0.3)
    assert [LABELS[k] for k in which] == ["potted plant", "lamp"]
    assert torch.allclose(scores, torch.tensor([2.0, 3.0]).sigmoid())
    assert torch.allclose(xyxy[0], torch.tensor([0.4, 0.3, 0.6, 0.7]))


def test_a_long_vocabulary_is_asked_in_several_sentences(folders):
    from w2v.detectors.zeroshot import Reader

    whole = detector(folders["grounding-dino"]).model
    config = SimpleNamespace(max_text_len=7)
    short = Reader(SimpleNamespace(config=config), whole.processor, "cpu")
    assert list(short.sentences(LABELS)) == [(0, ["chair"]), (1, ["potted plant", "lamp"])] or list(
        short.sentences(LABELS)
    ) == [(0, ["chair", "potted plant"]), (2, ["lamp"])]
    assert list(whole.sentences(LABELS)) == [(0, list(LABELS))]
    frame = footage().frames[0]
    parts = [whole.look([frame], group, 0.0)[0] for _, group in short.sentences(LABELS)]
    whole.model.config.max_text_len, limit = 7, whole.model.config.max_text_len
    try:
        xyxy, scores, which = whole.look([frame], LABELS, 0.0)[0]
    finally:
        whole.model.config.max_text_len = limit
    assert len(which) == sum(len(p[2]) for p in parts)
    assert set(which.tolist()) <= {0, 1, 2} and torch.equal(
        scores, torch.cat([p[1] for p in parts])
    )


def test_weights_and_labels_are_told(folders):
    told = detector(folders["owlv2"]).describe()
    assert told["labels"] == list(LABELS) and len(told["weights"]) == 16
    assert told["weights"] != detector(folders["grounding-dino"]).describe()["weights"]


def test_a_folder_that_is_no_detector_is_named(folders, tmp_path):
    with pytest.raises(BadFile, match=r"no such folder"):
        detector(tmp_path / "none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadFile, match="not a zero-shot detector"):
        detector(tmp_path)
    with pytest.raises(BadFile, match="not a zero-shot detector") as caught:
        detector("someone/never-downloaded")
    assert "hf download" in caught.value.hint
    with pytest.raises(BadOption, match="device 'cuda:99' is not available"):
        detector(folders["owlv2"], device="cuda:99")


def test_a_missing_package_says_what_to_install(monkeypatch):
    real = plugins.importlib.util.find_spec
    monkeypatch.setattr(
        plugins.importlib.util, "find_spec", lambda n: None if n == "ultralytics" else real(n)
    )
    with pytest.raises(MissingPackage, match="ultralytics is not installed") as caught:
        parse_spec("detector", "yolo:model=a.pt").make()
    assert "w2v[yolo]" in caught.value.hint


# YOLO


@pytest.fixture(scope="module")
def yolo(tmp_path_factory):
    """The module, with its settings in a folder of the test."""
    home = tmp_path_factory.mktemp("yolo")
    os.environ["YOLO_CONFIG_DIR"] = str(home)
    pytest.importorskip("ultralytics")
    pytest.importorskip("lap")
    from w2v.detectors import yolo

    return SimpleNamespace(module=yolo, home=home)


@pytest.fixture(scope="module")
def plain(yolo):
    """A random YOLO on disk that sees something everywhere."""
    torch.manual_seed(0)
    made = yolo.module.YOLO("yolov8n.yaml", verbose=False)
    for name, weight in made.model.named_parameters():
        if "cv3" in name and name.endswith(".2.bias"):
            weight.data.fill_(-3.0)
            weight.data[:2] = 2.0
    made.save(yolo.home / "plain.pt")
    return yolo.home / "plain.pt"


def run(file, shown, **options):
    given = {"model": file, "device": "cpu", "size": 96, "score": 0.2, **options}
    text = "yolo:" + ",".join(f"{k}={v}" for k, v in given.items())
    made = parse_spec("detector", text).make()
    return made, made.detect(shown)


def test_yolo_tracks_through_the_frames_and_starts_afresh_with_each_clip(plain):
    made, boxes = run(plain, footage(4))
    assert {b.frame for b in boxes} == {0, 1, 2, 3}
    kept = {b.track for b in boxes if b.frame == 0} & {b.track for b in boxes if b.frame == 3}
    assert kept - {None}
    labels = {}
    for b in boxes:
        assert b.track is None or labels.setdefault(b.track, b.label) == b.label
        x1, y1, x2, y2 = b.xyxy
        assert 0 <= x1 < x2 <= 96 and 0 <= y1 < y2 <= 72
    assert made.detect(footage(4)) == boxes
    assert made.describe()["labels"][:2] == ["0", "1"]


def test_a_label_that_changes_under_one_id_is_another_track(plain, monkeypatch):
    made, _ = run(plain, footage(1))

    class Found(SimpleNamespace):
        def __len__(self):
            return len(self.xyxy)

    def told(frame, **options):
        assert options["persist"] is True
        label = next(labels)
        found = Found(
            id=torch.tensor([7.0]),
            xyxy=torch.tensor([[10.0, 10.0, 30.0, 30.0]]),
            conf=torch.tensor([0.9]),
            cls=torch.tensor([float(label)]),
        )
        return [SimpleNamespace(boxes=found, names={0: "chair", 1: "tv"})]

    labels = iter([0, 0, 1, 0])
    monkeypatch.setattr(made.model, "track", told)
    assert [(b.label, b.track) for b in made.detect(footage(4))] == [
        ("chair", 1),
        ("chair", 1),
        ("tv", 2),
        ("chair", 1),
    ]


def test_yolo_world_looks_for_other_labels(yolo):
    torch.manual_seed(0)
    world = yolo.module.YOLO("yolov8s-worldv2.yaml", verbose=False)
    world.save(yolo.home / "world.pt")
    clip = yolo.home / "clip"
    text = tf.CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=512,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    tf.CLIPTextModelWithProjection(text).save_pretrained(clip)
    tokenizer(16).save_pretrained(clip)
    made, _ = run(yolo.home / "world.pt", footage(1), labels="chair+potted plant", clip=clip)
    assert made.describe()["labels"] == ["chair", "potted plant"]
    features = yolo.module.read(["chair", "lamp"], clip)
    assert features.shape == (1, 2, 512)
    assert torch.allclose(features.norm(dim=-1), torch.ones(1, 2))
    assert not torch.allclose(features[0, 0], features[0, 1])
    found = made.model.predict(
        footage().frames[0], imgsz=96, conf=1e-6, device="cpu", verbose=False
    )[0]
    assert found.names == {0: "chair", 1: "potted plant"}
    with pytest.raises(BadOption, match="labels need the CLIP text model"):
        run(yolo.home / "world.pt", footage(1), labels="chair")
    with pytest.raises(BadFile, match="not a CLIP text model"):
        run(yolo.home / "world.pt", footage(1), labels="chair", clip=yolo.home)


def test_other_labels_need_a_yolo_world(plain):
    with pytest.raises(BadOption, match="no YOLO-World"):
        run(plain, footage(1), labels="chair")


def test_a_file_that_is_no_yolo_is_named(yolo):
    with pytest.raises(BadFile, match=r"no such \.pt file"):
        run(yolo.home / "none.pt", footage(1))
    broken = yolo.home / "broken.pt"
    broken.write_bytes(b"no weights")
    with pytest.raises(BadFile, match="not a YOLO"):
        run(broken, footage(1))


def test_a_clips_boxes_are_plain_records(plain):
    _, boxes = run(plain, footage(1))
    assert boxes and all(replace(b) == b and isinstance(b, Box) for b in boxes)
    assert {type(v) for b in boxes for v in (*b.xyxy, b.score)} == {float}
    assert {type(b.track) for b in boxes} <= {int, type(None)}
