"""One pipe for a company's notifications: decided on the server, logged, sent once, explained afterwards.

The public API is what notifyctl/public_api.py names. It is imported when the first of its names is asked for.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

__version__ = "1.0.0"

if TYPE_CHECKING:
    from notifyctl.public_api import *  # noqa: F403  for type checkers alone, and __all__ says what
else:

    def __getattr__(name: str) -> object:
        # Python asks here for a module as well, before it imports one; a name with a dot in it can be neither.
        is_public = name == "__all__" or (name.isidentifier() and not name.startswith("_"))
        if is_public and find_spec(f"{__name__}.{name}") is None:
            from notifyctl import public_api

            if name == "__all__" or name in public_api.__all__:
                return getattr(public_api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted([*globals(), *__getattr__("__all__")])
