"""Attention inside of frameworks: each adapter is loaded by its own name, as ``fastattn.interop.torch``, and only then.

An adapter needs its framework, which an extra of the same name installs: ``pip install 'fastattn[torch]'``.
"""
