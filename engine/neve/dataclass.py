"""Frozen dataclasses that cost little until they are used: the standard library's, made later.

It compiles six methods of each class when that is defined, which took a new process half of its own time; of the two
hundred classes that the modules of a query define, few are ever made. Here `__init__` is compiled by its first call,
and what is the same for all classes is shared. `fields`, `replace`, `match`, `pickle` and `copy` do as they do there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(**options: bool) -> Callable[[type], type]:
        """As `dataclasses.dataclass`; whatever is not frozen and slotted is left to it."""
        if not (options.get("frozen") and options.get("slots")):
            return dataclasses.dataclass(**options)
        equal = options.pop("eq", True)
        plain = dataclasses.dataclass(**options | {"frozen": False, "init": False, "repr": False, "eq": False})

        def frozen(cls: type) -> type:
            own = cls.__dict__
            methods = _METHODS | ({"__eq__": _eq, "__hash__": _hash} if equal else {})
            kept = {name: method for name, method in methods.items() if name not in own}
            cls.__doc__ = cls.__doc__ or cls.__qualname__  # else a signature is made of `__init__`, which takes longer
            cls = plain(cls)
            for name, method in kept.items():
                setattr(cls, name, method)
            cls.__init__ = _first_init(cls)
            return cls

        return frozen


_MISSING = dataclasses.MISSING


def _first_init(cls: type) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **named: Any) -> None:
        init = _compiled(cls)
        if cls.__dict__["__init__"] is __init__:  # else another thread was first
            cls.__init__ = init  # type: ignore[misc]
        init(self, *args, **named)

    return __init__


def _compiled(cls: type) -> Callable[..., None]:
    """The `__init__` of a class with slots, which are set past its `__setattr__`."""
    positional, named, body = ["self"], list[str](), list[str]()
    scope: dict[str, Any] = {"_MISSING": _MISSING}
    for field in dataclasses.fields(cls):
        if not field.init:  # for `__post_init__` to set
            continue
        name, value = field.name, field.name
        scope[f"_set_{name}"] = getattr(cls, name).__set__
        parameter = name
        if field.default_factory is not _MISSING:
            scope[f"_make_{name}"] = field.default_factory
            parameter, value = f"{name}=_MISSING", f"_make_{name}() if {name} is _MISSING else {name}"
        elif field.default is not _MISSING:
            scope[f"_default_{name}"] = field.default
            parameter = f"{name}=_default_{name}"
        (named if field.kw_only else positional).append(parameter)
        body.append(f" _set_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *named] if named else [])])
    exec(f"def __init__({parameters}):\n" + "\n".join(body or [" pass"]), scope)  # noqa: S102, names of fields alone
    init: Callable[..., None] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


@cache
def _compared(cls: type[Any]) -> Callable[[Any], Any]:
    """What instances of a class are compared by."""
    names = [field.name for field in dataclasses.fields(cls) if field.compare]
    return attrgetter(*names) if names else lambda _: None


@recursive_repr()
def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    values = _compared(self.__class__)
    return values(self) == values(other)


def _hash(self: Any) -> int:
    return hash(_compared(self.__class__)(self))


def _setattr(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_METHODS: dict[str, Callable[..., Any]] = {
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__getstate__": _getstate,
    "__setstate__": _setstate,
}
