import os

import pytest

from w2v import paths
from w2v.errors import BadFile, OutsideRoot


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.png").write_text("x")
    (tmp_path / "secret").write_text("x")
    return root


def test_a_path_is_read_against_the_root(root):
    assert paths.resolve(root, "sub/a.png") == root / "sub" / "a.png"
    assert paths.resolve(root, str(root / "sub" / "a.png")) == root / "sub" / "a.png"
    assert paths.resolve(root, "sub/../sub/a.png").is_file()


@pytest.mark.parametrize("path", ["../secret", "sub/../../secret", "/etc/passwd", "../nowhere"])
def test_a_path_out_of_the_root_is_refused(root, path):
    with pytest.raises(OutsideRoot, match="leads out of the root"):
        paths.resolve(root, path)


def test_a_link_out_of_the_root_is_refused(root):
    os.symlink(root.parent / "secret", root / "link")
    with pytest.raises(OutsideRoot):
        paths.resolve(root, "link")


def test_a_neighbour_with_a_longer_name_is_not_inside(root):
    other = root.parent / "root2"
    other.mkdir()
    (other / "a").write_text("x")
    with pytest.raises(OutsideRoot):
        paths.resolve(root, "../root2/a")
    with pytest.raises(OutsideRoot):
        paths.relative(root, other / "a")


@pytest.mark.parametrize("path", ["", "no/such.png", "a\0b"])
def test_a_missing_file_is_named(root, path):
    with pytest.raises(BadFile):
        paths.resolve(root, path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("living room #3", "living-room-3"),
        ("../../etc", "etc"),
        ("...", "unnamed"),
        ("a.b_c-9", "a.b_c-9"),
    ],
)
def test_names_are_made_safe(text, name):
    assert paths.safe_name(text) == name
