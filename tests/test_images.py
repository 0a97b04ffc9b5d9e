import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from w2v import images
from w2v.errors import BadFile


def test_pictures_survive_the_disk(tmp_path):
    frame = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    depth = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    (tmp_path / "a.png").write_bytes(images.encode(frame))
    (tmp_path / "d.png").write_bytes(images.encode(depth))
    assert np.array_equal(images.load(tmp_path / "a.png"), frame)
    assert np.array_equal(images.load_grey(tmp_path / "d.png"), depth)
    assert images.size(tmp_path / "a.png") == (30, 20)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode).save(path)
    loaded = images.load(path)
    assert loaded.shape == (3, 4, 3) and loaded.min() == 255


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_a_photograph_is_turned_upright(kind, tmp_path):
    picture, path = Image.new("RGB", (40, 20)), tmp_path / f"a.{kind}"
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held upright
    picture.save(path, exif=exif)
    assert images.load(path).shape == (40, 20, 3)
    assert images.size(path) == (20, 40)


def test_an_orientation_in_the_text_of_a_png_counts(tmp_path):
    about = PngImagePlugin.PngInfo()
    xmp = '<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    about.add_itxt("XML:com.adobe.xmp", xmp)
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20)).save(path, pnginfo=about)
    height, width, _ = images.load(path).shape
    assert images.size(path) == (width, height) == (20, 40)


def broken(tmp_path):
    whole = images.encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for name, data in {
        "empty.png": b"",
        "text.png": b"not a picture",
        "cut.png": whole[: len(whole) // 2],
        "header.png": whole[:30],
    }.items():
        (tmp_path / name).write_bytes(data)
        yield tmp_path / name
    yield tmp_path / "missing.png"
    yield tmp_path


def test_broken_pictures_are_named(tmp_path):
    for path in broken(tmp_path):
        with pytest.raises(BadFile) as error:
            images.load(path)
        assert str(path) in error.value.what


def test_crop_keeps_the_middle_and_nearest_does_not_blend():
    values = np.zeros((10, 30), np.uint16)
    values[:, 14:16] = 700
    cropped = images.nearest(values, 10, 10)
    assert cropped.shape == (10, 10)
    assert np.flatnonzero(cropped[0]).tolist() == [4, 5]
    assert set(np.unique(images.nearest(values, 7, 7))) <= {0, 700}
    frame = np.stack([values.astype(np.uint8)] * 3, axis=-1)
    assert np.array_equal(images.resize_crop(frame, 10, 10)[..., 0], cropped.astype(np.uint8))
