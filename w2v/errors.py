"""What a user may see go wrong: what, where, and on a ``hint:`` line what to do next.

W2VError                  exit 1
├── BadRecord             a record that breaks its own rules
├── BadLine               a line of JSONL that is not the record we expected
├── BadFile               a picture, depth map or bundle that cannot be read
├── OutsideRoot           a path that leaves --root
├── ForeignOutput         the output folder holds the work of another run
├── CheckFailed           exit 4: a check or a reward self-test passed its limit
├── LicenceNotAccepted    exit 5
└── PluginError           exit 6
    ├── UnknownName       no plugin offers that name
    ├── BadOption         exit 2: the plugin has no such option, or not of that type
    └── MissingPackage    a plugin needs a package that is not installed
"""

from __future__ import annotations

from collections.abc import Iterable

import click

DONE, FAILED, USAGE, SKIPPED, CHECK_FAILED, LICENCE, MISSING = 0, 1, 2, 3, 4, 5, 6
INTERRUPTED, CTRL_C, CLOSED_PIPE = 75, 130, 141


class W2VError(click.ClickException):
    """Any failure that the user can act on; shown without a traceback."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}\n  hint: {hint}" if hint else what)
        self.what, self.hint = what, hint


class BadRecord(W2VError):
    """A record broke one of its own rules."""


class BadLine(W2VError):
    """A line of input was not the record that was expected."""

    def __init__(self, source: str, number: int, what: str, hint: str = "") -> None:
        super().__init__(f"{source}:{number}: {what}", hint)


class BadFile(W2VError):
    """A picture, a depth map or a bundle on disk is missing or cannot be read."""


class OutsideRoot(W2VError):
    """A path in a record leads out of the root folder."""


class ForeignOutput(W2VError):
    """The output folder already holds something that this command did not make."""


class CheckFailed(W2VError):
    """A check, or the self-test of a reward, passed its limit."""

    exit_code = CHECK_FAILED


class LicenceNotAccepted(W2VError):
    """A plugin's licence forbids this use unless the user says otherwise."""

    exit_code = LICENCE


class PluginError(W2VError):
    """A plugin could not be found, read or set up."""

    exit_code = MISSING


class UnknownName(PluginError):
    """No plugin offers this name."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], broken: Iterable[str] = ()
    ) -> None:
        import difflib  # only for a mistake

        known, broken = sorted(known), sorted(broken)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
        if broken:
            hint += f"; failed to load: {', '.join(broken)} (see w2v plugins)"
        super().__init__(f"no {kind} is called {name!r}", hint)


class BadOption(PluginError):
    """An option that the plugin does not have, or a value it cannot read."""

    exit_code = USAGE


class MissingPackage(PluginError):
    """A plugin needs a package that is not installed."""
