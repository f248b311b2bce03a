"""Which convolution feeds a norm, found without an input."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

from torch import fx, nn


@dataclass(frozen=True)
class Feed:
    """What a norm's input comes from.

    Attributes:
        name: Of the convolution in the model, None where there is none.
        conv: The convolution.
        reason: Where there is none, what there is in its place.
        shared: Whether something beside the norms in question reads the convolution's output as well.
    """

    name: str | None = None
    conv: Any = None
    reason: str = ''
    shared: bool = False


def is_convolution(module: nn.Module) -> bool:
    """Recognize convolutions of any library: transposed and deformable ones are no ``nn.Conv2d``."""
    return hasattr(module, 'kernel_size') and getattr(module, 'weight', None) is not None


def registered_pairs(
    model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]
) -> Iterator[tuple[str, Any, str | None, Any]]:
    """Yield every norm of ``kinds`` with the nearest convolution registered before it under its parent.

    Yields:
        Name and norm, name and convolution; the latter two None where there is none.
    """
    for parent_name, parent in model.named_modules():
        prefix = f'{parent_name}.' if parent_name else ''
        conv_name = conv = None
        for name, child in parent.named_children():
            if isinstance(child, kinds):
                yield prefix + name, child, conv_name, conv
            elif is_convolution(child):
                conv_name, conv = prefix + name, child


def feeds(model: nn.Module, norms: dict[str, nn.Module]) -> dict[str, Feed]:
    """Find what feeds each of ``norms``.

    The forward pass of the module that owns a norm is traced by ``torch.fx`` with all modules in it as
    leaves, which shows what the norm's input is made by. Where it cannot be traced (it asks for values or
    shapes) or does not call the norm, the convolution is the nearest one registered before the norm under the
    same parent.

    Args:
        model: Any module.
        norms: Some of its modules by their names.
    """
    found: dict[str, Feed] = {}
    by_owner: dict[str, list[str]] = {}
    for name in norms:
        by_owner.setdefault(_owner(model, name), []).append(name)
    registered = {name: pair for name, _, *pair in registered_pairs(model, tuple(map(type, norms.values())))}
    for owner, names in by_owner.items():
        traced = _Calls(model.get_submodule(owner), owner)
        for name in names:
            feed = traced.feed(norms[name], set(norms.values()))
            found[name] = feed or _registered(*registered.get(name, (None, None)))
    return found


def _registered(name: str | None, conv: nn.Module | None) -> Feed:
    if conv is None:
        return Feed(reason='no convolution is registered before it under the same parent')
    return Feed(name, conv)


def _owner(model: nn.Module, name: str) -> str:
    """Return the nearest module around ``name`` that has a forward pass."""
    while name:
        name = name.rpartition('.')[0]
        if type(model.get_submodule(name)).forward is not nn.Module.forward:
            break
    return name


class _Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


class _Calls:
    """The calls of modules in one forward pass, none where it cannot be traced."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        self._owner = owner
        self._prefix = f'{name}.' if name else ''
        try:
            # A copy, on which a forward pass leaves what it writes to itself.
            self._nodes = list(_Leaves().trace(copy(owner)).nodes)
        except Exception:  # whatever the forward pass of a user does with what is no tensor
            self._nodes = []

    def feed(self, norm: nn.Module, norms: set[nn.Module]) -> Feed | None:
        """Return what feeds ``norm``, one of ``norms``; None where it is not called."""
        makers = {self._maker(node) for node in self._nodes if self._module(node) is norm}
        if not makers:
            return None
        names = {self._describe(maker) for maker in makers}
        if len(names) > 1:
            return Feed(reason=f'it follows several modules: {", ".join(sorted(names))}')
        name, conv = self._last_module(next(iter(makers)))
        if conv is None or not is_convolution(conv):
            return Feed(reason=f'it follows {names.pop()}, not a convolution (pre-activation)')
        users = [self._module(user) for maker in makers if maker for user in self._users(maker)]
        return Feed(self._prefix + name, conv, shared=not norms.issuperset(users))

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self._owner.get_submodule(str(node.target)) if node.op == 'call_module' else None

    def _maker(self, node: fx.Node) -> fx.Node | None:
        """Return what made the input of a call, behind ``nn.Identity``."""
        values = (*node.args, *node.kwargs.values())
        maker = values[0] if values and isinstance(values[0], fx.Node) else None
        if maker is not None and isinstance(self._module(maker), nn.Identity):
            return self._maker(maker)
        return maker

    def _users(self, node: fx.Node) -> Iterator[fx.Node]:
        for user in node.users:
            if isinstance(self._module(user), nn.Identity):
                yield from self._users(user)
            else:
                yield user

    def _last_module(self, node: fx.Node | None) -> tuple[str, nn.Module | None]:
        """Return the module that a call ends with: of an ``nn.Sequential`` the last one."""
        if node is None:
            return '', None
        name, module = str(node.target), self._module(node)
        while type(module) is nn.Sequential and len(module):
            last, module = list(module.named_children())[-1]
            name = f'{name}.{last}'
        return name, module

    def _describe(self, node: fx.Node | None) -> str:
        if node is None or node.op == 'placeholder':
            return f'the input of {type(self._owner).__name__}'
        if node.op != 'call_module':
            return f'{getattr(node.target, "__name__", node.target)}()'
        name, module = self._last_module(node)
        return f'{self._prefix}{name} ({type(module).__name__})'
