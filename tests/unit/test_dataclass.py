"""Our dataclasses against the standard library's: whatever can be seen of the one is so of the other."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, astuple, field, fields, replace
from typing import Any

import pytest

from neve import dataclass as ours

Decorator = Callable[..., Any]
KINDS = {"ours": ours.dataclass, "standard": dataclasses.dataclass}


def family(dataclass: Decorator) -> dict[str, Any]:
    """Classes of every form that the engine has."""

    @dataclass(frozen=True, slots=True)
    class Plain:
        """Said."""

        a: int
        b: str = "b"
        c: list[int] = field(default_factory=list, compare=False)
        d: bytes = field(default=b"secret", repr=False)

    @dataclass(frozen=True, slots=True)
    class Checked(Plain):
        e: int = field(init=False)

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("negative")
            object.__setattr__(self, "e", self.a + 1)

        @property
        def twice(self) -> int:
            return 2 * self.a

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        x: float
        y: float = 0.0

    @dataclass(frozen=True, slots=True, eq=False)
    class Identity:
        one: object

    @dataclass(frozen=True, slots=True)
    class Shown:
        a: int

        def __repr__(self) -> str:
            return "shown"

    @dataclass(frozen=True, slots=True)
    class Empty:
        pass

    @dataclass(slots=True)
    class Mutable:
        a: int = 0

    return {name: value for name, value in locals().items() if isinstance(value, type)}


def seen(act: Callable[[], object]) -> object:
    """What an act comes to, told alike for classes that have the same name."""
    try:
        return repr(act())
    except Exception as error:
        return type(error).__name__


@pytest.fixture(scope="module")
def both() -> list[dict[str, Any]]:
    return [family(dataclass) for dataclass in KINDS.values()]


def alike(both: list[dict[str, Any]], act: Callable[[dict[str, Any]], object]) -> object:
    """What an act comes to, which is the same with both."""
    first, second = (seen(lambda classes=classes: act(classes)) for classes in both)
    assert first == second
    return first


def local(text: object) -> object:
    return str(text).replace("family.<locals>.", "")


def test_making(both: list[dict[str, Any]]) -> None:
    assert local(alike(both, lambda c: c["Plain"](1))) == "Plain(a=1, b='b', c=[])"
    assert local(alike(both, lambda c: c["Checked"](1, c=[2]))) == "Checked(a=1, b='b', c=[2], e=2)"
    assert local(alike(both, lambda c: c["Named"](x=1.0))) == "Named(x=1.0, y=0.0)"
    assert alike(both, lambda c: c["Shown"](1)) == "shown"
    assert local(alike(both, lambda c: c["Empty"]())) == "Empty()"
    for wrong in (
        lambda c: c["Plain"](),
        lambda c: c["Plain"](1, a=2),
        lambda c: c["Plain"](1, z=2),
        lambda c: c["Named"](1.0),
        lambda c: c["Empty"](1),
    ):
        assert alike(both, wrong) == "TypeError"
    assert alike(both, lambda c: c["Checked"](-1)) == "ValueError"
    assert alike(both, lambda c: c["Plain"](1).c is c["Plain"](1).c) == "False"


def test_comparing(both: list[dict[str, Any]]) -> None:
    for act, expected in (
        (lambda c: c["Plain"](1) == c["Plain"](1, c=[3]), "True"),
        (lambda c: c["Plain"](1) == c["Plain"](1, d=b""), "False"),
        (lambda c: c["Plain"](1) == c["Checked"](1), "False"),
        (lambda c: c["Plain"](1) == 1, "False"),
        (lambda c: len({c["Plain"](1), c["Plain"](1, c=[3]), c["Plain"](2)}), "2"),
        (lambda c: c["Identity"](1) == c["Identity"](1), "False"),
        (lambda c: len({c["Identity"](1), c["Identity"](1)}), "2"),
        (lambda c: c["Empty"]() == c["Empty"](), "True"),
        (lambda c: c["Mutable"]() == c["Mutable"](), "True"),
        (lambda c: hash(c["Mutable"]()), "TypeError"),
    ):
        assert alike(both, act) == expected


def test_what_is_frozen_stays(both: list[dict[str, Any]]) -> None:
    assert alike(both, lambda c: setattr(c["Checked"](1), "a", 2)) == "FrozenInstanceError"
    assert alike(both, lambda c: delattr(c["Checked"](1), "a")) == "FrozenInstanceError"
    assert alike(both, lambda c: hasattr(c["Plain"](1), "__dict__")) == "False"
    assert alike(both, lambda c: setattr(c["Mutable"](), "a", 2)) == "None"
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'a'"):
        both[0]["Plain"](1).a = 2


def test_what_the_standard_library_does_with_them(both: list[dict[str, Any]]) -> None:
    for name in ("Plain", "Checked", "Named", "Identity", "Empty"):
        assert alike(both, lambda c, name=name: [(f.name, f.compare, f.init) for f in fields(c[name])]) != "TypeError"
        assert alike(both, lambda c, name=name: c[name].__match_args__) != "AttributeError"
        assert alike(both, lambda c, name=name: c[name].__slots__) != "AttributeError"
    assert local(alike(both, lambda c: replace(c["Plain"](1), a=2))) == "Plain(a=2, b='b', c=[])"
    assert alike(both, lambda c: replace(c["Plain"](1), z=2)) == "TypeError"
    assert alike(both, lambda c: asdict(c["Plain"](1))) == "{'a': 1, 'b': 'b', 'c': [], 'd': b'secret'}"
    assert alike(both, lambda c: astuple(c["Checked"](1))) == "(1, 'b', [], b'secret', 2)"
    assert local(alike(both, lambda c: copy.deepcopy(c["Checked"](1)))) == "Checked(a=1, b='b', c=[], e=2)"
    assert alike(both, lambda c: c["Checked"](3).twice) == "6"
    assert alike(both, lambda c: c["Plain"].__doc__) == "'Said.'"

    def matched(classes: dict[str, Any]) -> object:
        plain = classes["Plain"]
        match plain(1, "x"):
            case plain(a, "x"):
                return a
        return None

    assert alike(both, matched) == "1"


def test_an_init_has_its_parameters_once_it_is_compiled(both: list[dict[str, Any]]) -> None:
    mine, standard = (classes["Plain"] for classes in both)
    mine(1)
    assert list(inspect.signature(mine).parameters) == list(inspect.signature(standard).parameters)


@ours.dataclass(frozen=True, slots=True)
class Sent:
    """One that pickle can find."""

    a: int
    b: tuple[int, ...] = ()


def test_pickle() -> None:
    assert pickle.loads(pickle.dumps(Sent(1, (2,)))) == Sent(1, (2,))
    with pytest.raises(FrozenInstanceError):
        pickle.loads(pickle.dumps(Sent(1))).a = 2


def test_threads_may_make_the_first_ones_together() -> None:
    classes = [family(ours.dataclass)["Checked"] for _ in range(50)]
    made: list[object] = []
    start = threading.Barrier(4)

    def make() -> None:
        start.wait()
        made.extend(cls(1).e for cls in classes)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [2] * 200
