"""From what a user types after ``--student`` to a student: a name, a folder or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from w2v.errors import BadFile, UnknownName
from w2v.plugins import Spec, broken, discover, offers, parse_spec
from w2v.students import families, folders


def student(typed: str) -> Any:
    """Return the student that was typed: ``NAME[:k=v,…]`` or ``PATH[:k=v,…]``.

    A name wins over a folder of that name (write ``./tiny`` for the folder). A folder is known by
    its ``w2v.json``, else by its ``config.json``; a hub id by its configuration.

    Raises:
        UnknownName: It is neither a name, nor a folder, nor a hub id.
        BadFile: The folder or hub id holds no model of a family that is known.
    """
    return spec(typed).make()


def spec(typed: str) -> Spec:
    """Return the plugin and options that were typed; a folder or hub id is its option ``path``."""
    found = parse_spec("student", typed)
    path = Path(found.name).expanduser()
    looks_like_path = "/" in found.name or path.is_dir()
    if not looks_like_path or _offered(found.name):
        if not _offered(found.name):
            raise UnknownName("student", found.name, offers("student"), broken)
        return found
    place = str(path) if path.is_dir() else found.name
    return Spec("student", family_of(place), {"path": place, **found.options})


def family_of(path: str) -> str:
    """Return the name of the student that a folder or hub id belongs to.

    Raises:
        BadFile: It is no model, or of no known family.
    """
    folder = Path(path)
    if folder.is_dir():
        if name := folders.settings(folder).get("family"):
            return str(name)
        model_type = folders.model_type(folder)
    elif path.startswith((".", "/", "~")):
        raise BadFile(f"{path}: no such folder")
    else:
        from w2v.students import hf

        model_type = hf.type_of(path)
    family = families.of_type(model_type)
    if family is None:
        raise BadFile(
            f"{path}: no student can load a {model_type or 'nameless'} model",
            families.OTHERS.get(model_type, f"known: {', '.join(sorted(offers('student')))}"),
        )
    return family.name


def _offered(name: str) -> bool:
    """Return whether a plugin offers a student of that name."""
    if "/" in name:
        return False
    discover(name)
    if name not in offers("student"):
        discover()
    return name in offers("student")
