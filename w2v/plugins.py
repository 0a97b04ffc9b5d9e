"""Find plugins, and turn what a user typed (``svc:steps=30``) into a built object."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pluggy

from w2v import hookspecs
from w2v.errors import BadOption, MissingPackage, PluginError, UnknownName

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from w2v.kinds import Offer

BUILTIN = (
    "w2v.teachers",
    "w2v.detectors",
    "w2v.tasks",
    "w2v.checks",
    "w2v.students",
    "w2v.rewards",
    "w2v.benchmarks",
)
KINDS = ("teacher", "detector", "task", "check", "student", "reward", "benchmark")

pm = pluggy.PluginManager("w2v")
pm.add_hookspecs(hookspecs)

broken: dict[str, Exception] = {}
"""Plugins that failed to import, by entry point name; shown by ``w2v plugins``."""


def _register_builtins() -> None:
    """Register the built-in rooms; their manifests are light."""
    for name in BUILTIN:
        if not pm.has_plugin(name):
            pm.register(importlib.import_module(name), name)


@functools.lru_cache(maxsize=8)
def _any_installed(path: tuple[str, ...]) -> bool:
    """Return whether any distribution installed along a path has entry points of ours.

    ``importlib.metadata`` could tell too, but takes as long to import as click itself, and most
    users have no plugin.
    """
    for folder in path:
        if os.path.isfile(folder):
            return True  # a zip: let importlib.metadata look into it
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            if any(map(_has_entry_points, entries)):
                return True
    return False


def _has_entry_points(entry: os.DirEntry[str]) -> bool:
    if not entry.name.endswith((".dist-info", ".egg-info")):
        return False
    try:
        with open(f"{entry.path}/entry_points.txt", encoding="utf-8") as file:
            return "[w2v]" in file.read()
    except (OSError, ValueError):
        return False


def installed() -> list[EntryPoint]:
    """Return the entry points of installed plugins, imported or not, sorted by name.

    ``W2V_PLUGINS`` (comma-separated, may be empty) restricts what is seen at all.
    """
    only = os.environ.get("W2V_PLUGINS")
    if only == "" or not _any_installed(path := tuple(sys.path)):
        return []
    allowed = None if only is None else {name.strip() for name in only.split(",")}
    return [e for e in _entry_points(path) if allowed is None or e.name in allowed]


@functools.lru_cache(maxsize=8)
def _entry_points(path: tuple[str, ...]) -> list[EntryPoint]:
    """Return all our entry points along a path, sorted by name."""
    import importlib.metadata

    return sorted(importlib.metadata.entry_points(group="w2v"), key=lambda e: e.name)


def discover(name: str | None = None) -> None:
    """Register the plugin of that name, or every installed plugin.

    Asking by name keeps one slow or broken plugin from costing the others anything.
    """
    for entry in installed():
        if name not in (None, entry.name) or pm.has_plugin(entry.name) or entry.name in broken:
            continue
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for records
                register(entry.load(), entry.name)
        except Exception as error:  # noqa: BLE001  a broken plugin must not break the rest
            broken[entry.name] = error


def register(plugin: object, name: str) -> None:
    """Register one plugin, refusing hooks that w2v does not know (a typo, mostly)."""
    pm.register(plugin, name)
    try:
        pm.check_pending()
        if not pm.get_hookcallers(plugin):
            raise PluginError(f"plugin {name} implements no hook", "mark one with w2v.hookimpl")
    except (pluggy.PluginValidationError, PluginError) as error:
        pm.unregister(name=name)
        if isinstance(error, PluginError):
            raise
        raise PluginError(f"plugin {name}: {error}", "see docs/hooks.md for the names") from error


def register_file(path: Path) -> None:
    """Register one loose Python file as a plugin."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except Exception as error:  # a user's file may fail in any way
        raise PluginError(f"{path} failed to load: {error!r}") from error
    register(module, str(path))


def offers(kind: str) -> dict[str, Offer]:
    """Return every registered offer of a kind; two plugins may not share a name."""
    return {name: offer for name, (offer, _) in owned(kind).items()}


def owned(kind: str) -> dict[str, tuple[Offer, str]]:
    """Return every registered offer of a kind and the plugin it comes from."""
    _register_builtins()
    found: dict[str, tuple[Offer, str]] = {}
    for impl in getattr(pm.hook, f"w2v_{kind}s").get_hookimpls():
        for name, offer in impl.function().items():
            if name in found:
                raise PluginError(
                    f"{kind} {name!r} comes from both {found[name][1]} and {impl.plugin_name}",
                    "uninstall one, or name the plugins you want in W2V_PLUGINS",
                )
            found[name] = offer, impl.plugin_name
    return found


def find(kind: str, name: str) -> Offer:
    """Return one offer: ask the plugin of that name, then built-ins, then every plugin."""
    discover(name)
    if name not in offers(kind):
        discover()
    known = offers(kind)
    if name not in known:
        raise UnknownName(kind, name, known, broken)
    return known[name]


@dataclass(frozen=True, slots=True)
class Spec:
    """A named plugin and its options as typed on the command line, not yet built."""

    kind: str
    name: str
    options: dict[str, str]

    def __str__(self) -> str:
        """Return what the user typed."""
        options = ",".join(f"{key}={text}" for key, text in self.options.items())
        return f"{self.name}:{options}" if options else self.name

    @property
    def offer(self) -> Offer:
        """The offer of that name."""
        return find(self.kind, self.name)

    def make(self) -> Any:
        """Build it: the factory's own signature says which options there are."""
        make = self.offer.make
        parameters = inspect.signature(make).parameters
        values = {}
        for key, text in self.options.items():
            if key not in parameters:
                raise BadOption(
                    f"{self.kind} {self.name!r} has no option {key!r}",
                    f"it has: {', '.join(parameters) or 'none'}",
                )
            where = f"{self.kind} {self.name}: {key}"
            values[key] = _convert(text, _hint(make, parameters[key].annotation), where)
        if lacking := [
            key
            for key, p in parameters.items()
            if p.default is p.empty
            and key not in values
            and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]:
            raise BadOption(
                f"{self.kind} {self.name!r} needs {lacking[0]!r}",
                f"write {self.name}:{lacking[0]}=…",
            )
        return make(**values)


def parse_spec(kind: str, text: str) -> Spec:
    """Read ``NAME[:KEY=VALUE,...]``; nothing is imported or built yet.

    Raises:
        BadOption: A part after the colon is not KEY=VALUE.
    """
    name, _, rest = text.partition(":")
    options = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise BadOption(f"{text!r}: {item!r} is not KEY=VALUE", f"write {name}:{item}=…")
        options[key.strip()] = value
    return Spec(kind, name, options)


def need(package: str, install: str) -> None:
    """Raise MissingPackage unless the package can be imported. For use inside factories."""
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(f"{package} is not installed", f"pip install '{install}'")


_READERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda text: {"true": True, "1": True, "false": False, "0": False}[text.lower()],
    int: int,
    float: float,
    Path: Path,
    str: str,
    tuple: lambda text: tuple(filter(None, text.split("+"))),
}


def _hint(make: Callable[..., Any], annotation: Any) -> Any:
    """Return a parameter's type, also where the module postpones evaluation of annotations.

    Only this one annotation is evaluated: those of heavy types exist for type checkers alone.
    """
    if not isinstance(annotation, str):
        return annotation
    return eval(annotation, getattr(make, "__globals__", {}))  # the plugin's own source


def _convert(text: str, hint: Any, where: str) -> Any:
    """Read one option value as the type the factory asks for."""
    if isinstance(hint, types.UnionType):
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    wanted = typing.get_origin(hint) or hint
    read = _READERS.get(wanted, str)
    try:
        value = read(text)
        if isinstance(value, float) and value != value:
            raise ValueError(text)
    except (KeyError, ValueError) as error:
        raise BadOption(f"{where} should be {wanted.__name__}, got {text!r}") from error
    return value


class Named(click.ParamType):  # type: ignore[type-arg]
    """The type of ``--teacher``, ``--reward`` and the like: ``NAME[:KEY=VALUE,...]``."""

    def __init__(self, kind: str) -> None:
        self.kind = self.name = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Spec:
        """Split what was typed; nothing is imported or built yet."""
        return value if isinstance(value, Spec) else parse_spec(self.kind, str(value))

    def get_metavar(self, param: Any, ctx: Any = None) -> str:
        """Show the form in ``--help``."""
        return "NAME[:KEY=VALUE,...]"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[Any]:
        """Offer the names of this kind."""
        from click.shell_completion import CompletionItem

        discover()
        return [CompletionItem(n) for n in sorted(offers(self.kind)) if n.startswith(incomplete)]
