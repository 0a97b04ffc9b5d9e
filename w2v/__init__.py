"""w2v: teach vision-language models with what world models imagine."""

import pluggy

hookimpl = pluggy.HookimplMarker("w2v")
"""Marks a function in a plugin as an implementation of a w2v hook."""

__version__ = "0.1.0"
__all__ = ["__version__", "hookimpl"]
