"""What the attributes of a ctypes structure are, in the words of type checkers: the generated
stubs of the declared structures consist of it. There is no such module at run time."""

from collections.abc import Iterator
from typing import Generic, TypeVar, overload

from typing_extensions import Never

from hvmctx.abi.declare import SaveStructure, SaveUnion

_T = TypeVar("_T")

class Field(Generic[_T]):
    """A field: its value off an instance, its place off the class."""

    @property
    def offset(self) -> int: ...
    @property
    def size(self) -> int: ...
    @overload
    def __get__(self, instance: None, owner: type[object]) -> Field[_T]: ...
    @overload
    def __get__(self, instance: object, owner: type[object]) -> _T: ...
    def __set__(self, instance: object, value: _T) -> None: ...

class Array(Generic[_T]):
    """An array of integers or of structures."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...
    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __setitem__(self, index: int, value: _T) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

# ctypes says that a structure has attributes of any name. Of the declared ones all fields are
# known: another name is an error, to read and to set.

class KnownStructure(SaveStructure):
    __getattr__: None  # type: ignore[assignment, misc]  # pyright: ignore
    def __setattr__(self, name: str, value: Never) -> None: ...

class KnownUnion(SaveUnion):
    __getattr__: None  # type: ignore[assignment, misc]  # pyright: ignore
    def __setattr__(self, name: str, value: Never) -> None: ...
