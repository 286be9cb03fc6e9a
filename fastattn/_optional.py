"""Optional packages, imported when they are first needed."""

import importlib
from typing import Any

from fastattn.errors import MissingPackageError, describe_file

__all__ = ["need"]


def need(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Its dotted name.
    extra : str
        The extra of fastattn that installs it.
    purpose : str
        What it is needed for, as the end of "is needed for ...".

    Returns
    -------
    module

    Raises
    ------
    MissingPackageError
        In one line with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is there, and what it needs itself is not
        hint = f"run pip install 'fastattn[{extra}]'."
        problem = f"the package {package} is needed for {purpose} and is not installed"
        raise MissingPackageError(describe_file(module, problem, hint), name=package) from None
