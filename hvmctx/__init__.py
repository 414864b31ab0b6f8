"""hvmctx reads, checks, edits and writes what Xen saves of a guest.

The names below are the library's front page. Each is imported when it is first used, so that
`import hvmctx` costs nothing; type checkers see the imports.

`verify` and `edit` are functions, and rooms of the package too (`hvmctx.verify.views`): at
run time the name is that of the room, which can be called as the function.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.abi.releases import Release as Release
    from hvmctx.context.hvm_context import HvmContext as HvmContext
    from hvmctx.context.record import Record as Record
    from hvmctx.context.vmport import VmportState as VmportState
    from hvmctx.edit.diff import diff as diff
    from hvmctx.edit.editor import Editor as Editor
    from hvmctx.edit.editor import edit as edit
    from hvmctx.errors import FieldError as FieldError
    from hvmctx.errors import FormatError as FormatError
    from hvmctx.errors import HvmctxError as HvmctxError
    from hvmctx.errors import InputError as InputError
    from hvmctx.errors import LimitError as LimitError
    from hvmctx.errors import MissingPageError as MissingPageError
    from hvmctx.errors import MissingRecordError as MissingRecordError
    from hvmctx.errors import RestoreRefused as RestoreRefused
    from hvmctx.errors import TranslationError as TranslationError
    from hvmctx.errors import UsageError as UsageError
    from hvmctx.findings import Finding as Finding
    from hvmctx.image.image import Image as Image
    from hvmctx.image.image import open_image as open_image
    from hvmctx.json_form.document import dumps_json as dumps_json
    from hvmctx.json_form.document import loads_json as loads_json
    from hvmctx.limits import Limits as Limits
    from hvmctx.mend.repair import repair as repair
    from hvmctx.restore.guest import Guest as Guest
    from hvmctx.restore.image import would_restore as would_restore
    from hvmctx.restore.machine import Machine as Machine
    from hvmctx.restore.rules import Rule as Rule
    from hvmctx.restore.verdict import Verdict as Verdict
    from hvmctx.verify.views import verify as verify

    __version__: str  # of `revision`

_WHERE = {
    "Editor": "edit.editor",
    "FieldError": "errors",
    "Finding": "findings",
    "FormatError": "errors",
    "Guest": "restore.guest",
    "HvmContext": "context.hvm_context",
    "HvmctxError": "errors",
    "Image": "image.image",
    "InputError": "errors",
    "LimitError": "errors",
    "Limits": "limits",
    "Machine": "restore.machine",
    "MissingPageError": "errors",
    "MissingRecordError": "errors",
    "Record": "context.record",
    "Release": "abi.releases",
    "RestoreRefused": "errors",
    "Rule": "restore.rules",
    "TranslationError": "errors",
    "UsageError": "errors",
    "Verdict": "restore.verdict",
    "VmportState": "context.vmport",
    "diff": "edit.diff",
    "dumps_json": "json_form.document",
    "edit": "edit.editor",
    "loads_json": "json_form.document",
    "open_image": "image.image",
    "repair": "mend.repair",
    "verify": "verify.views",
    "would_restore": "restore.image",
}
"""The same, for run time: name -> its module here."""

__all__ = [
    "Editor",
    "FieldError",
    "Finding",
    "FormatError",
    "Guest",
    "HvmContext",
    "HvmctxError",
    "Image",
    "InputError",
    "LimitError",
    "Limits",
    "Machine",
    "MissingPageError",
    "MissingRecordError",
    "Record",
    "Release",
    "RestoreRefused",
    "Rule",
    "TranslationError",
    "UsageError",
    "Verdict",
    "VmportState",
    "diff",
    "dumps_json",
    "edit",
    "loads_json",
    "open_image",
    "repair",
    "verify",
    "would_restore",
]

if not TYPE_CHECKING:
    _module = type(sys)

    class _Room(_module):
        """A room of the name of one of its functions."""

        @property
        def __wrapped__(self):  # where `inspect` and `help` look for the signature
            return _find(self.__name__.rpartition(".")[2])

        def __call__(self, *args, **named):
            return self.__wrapped__(*args, **named)

        def __reduce__(self):  # so that a pool of processes can be given the function
            return _room, (self.__name__,)

    class _FrontPage(_module):
        def __setattr__(self, name, value):
            """Importing a room sets it as an attribute, whoever imports it."""
            if name in _WHERE and isinstance(value, _module):
                value.__class__ = _Room
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _FrontPage

    def _find(name):
        import importlib

        return getattr(importlib.import_module(f"hvmctx.{_WHERE[name]}"), name)

    def _room(name):
        import importlib

        return importlib.import_module(name)

    def __getattr__(name):
        if name == "__version__":
            from hvmctx.revision import __version__

            return __version__
        if name not in _WHERE:
            raise AttributeError(f"module 'hvmctx' has no attribute {name!r}")
        found = _find(name)
        return globals().setdefault(name, found)  # a room is there by now

    def __dir__():
        return sorted({*globals(), *__all__})
