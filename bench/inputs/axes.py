"""Which sizes the inputs of a file have, and which axis is the batch: from the file and what the user says of it.

The rule, in order: the axis that `--input` marks with N; the axis whose symbol is that of the batch; a free first
axis without a symbol; where every size is fixed, the first axis if all inputs share it. The batch's symbol is the
first that says so by its name (`N`, `batch_size`), else that of the first input whose first axis is free.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import InvalidInput, Unsupported, unknown
from bench.formats.declared import Declared, Dim, describe
from bench.types import AskedInput, TensorSpec

BATCH_NAMES = re.compile(r"(?:n|b|bs|.*batch.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """`specs`: every size fixed but the batch. `sizes`: symbol -> what it became. `batch`: the batch's symbol, if any."""

    specs: tuple[TensorSpec, ...]
    sizes: Mapping[str, int]
    batch: str | None


def settle(declared: Sequence[Declared], asked: Sequence[AskedInput], file: Path) -> Settled:
    """The inputs with what the user says of them.

    Raises `InvalidInput` for a name that is not there or a size or type that the file contradicts, and `Unsupported`
    for a free axis that has no size, naming the option that gives it.
    """
    by_name = {item.name: item for item in asked}
    for name in by_name:
        if name not in {item.name for item in declared}:
            raise unknown(f"input of {file.name} in --input", name, [item.name for item in declared])
    sizes = _find_sizes(declared, by_name, file)
    fixed = [_replace(item, by_name.get(item.name), sizes) for item in declared]
    batch = _find_symbol(fixed, declared, by_name)
    if _is_static(fixed):
        specs = _settle_static(fixed, by_name)
    else:
        specs = tuple(_settle(item, by_name.get(item.name), batch) for item in fixed)
    _refuse_free(specs, fixed, file)
    return Settled(specs=specs, sizes=sizes, batch=batch)


def find_output_axis(output: Declared, inputs: Sequence[Declared], settled: Settled) -> tuple[bool, int | None]:
    """Whether the file says where the samples of an output lie, and on which axis that is.

    It does by the batch's symbol, or by the one axis without a size where the batch of the inputs has no symbol.
    """
    if settled.batch is not None:
        places = [place for place, dim in enumerate(output.dims) if dim == settled.batch]
        return (True, places[0]) if places else (False, None)
    unnamed = any(None in item.dims for item in inputs)
    places = [place for place, dim in enumerate(output.dims) if dim is None]
    if unnamed and len(places) == 1:
        return True, places[0]
    has_batch = any(spec.axis is not None for spec in settled.specs)
    return (False, None) if has_batch else (True, None)


def _find_sizes(declared: Sequence[Declared], asked: Mapping[str, AskedInput], file: Path) -> dict[str, int]:
    """Symbol -> size, of what the user says; checks it against the file."""
    sizes: dict[str, int] = {}
    for item in declared:
        given = asked.get(item.name)
        if given is None:
            continue
        _check_against_file(item, given, file)
        for dim, size in zip(item.dims, given.sizes, strict=True):
            if not isinstance(dim, str) or size is None:
                continue
            if sizes.setdefault(dim, size) != size:
                raise InvalidInput(
                    f"{file.name}: --input {given} gives the axis {dim!r} {size}, another --input {sizes[dim]}: "
                    "axes of one symbol have one size"
                )
    return sizes


def _check_against_file(item: Declared, given: AskedInput, file: Path) -> None:
    fits = len(item.dims) == len(given.sizes) and all(
        not isinstance(dim, int) or size in (None, dim) for dim, size in zip(item.dims, given.sizes, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"{file.name}: --input {given} does not fit: the file's {item.name!r} has shape ({describe(item.dims)})"
        )
    if given.dtype and given.dtype != item.dtype:
        raise InvalidInput(f"{file.name}: --input {given} does not fit: the file's {item.name!r} is {item.dtype}")


def _replace(item: Declared, given: AskedInput | None, sizes: Mapping[str, int]) -> Declared:
    """The input with every size that the user gives; one symbol has one size everywhere."""
    dims = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in item.dims]
    if given is not None:
        dims = [dim if size is None else size for dim, size in zip(dims, given.sizes, strict=True)]
    return replace(item, dims=tuple(dims))


def _find_symbol(
    inputs: Sequence[Declared], declared: Sequence[Declared], asked: Mapping[str, AskedInput]
) -> str | None:
    marked = (
        dim
        for item in declared
        if item.name in asked
        for dim, size in zip(item.dims, asked[item.name].sizes, strict=True)
        if size is None
    )
    named = (dim for item in inputs for dim in item.dims if isinstance(dim, str) and BATCH_NAMES.fullmatch(dim))
    first = (item.dims[0] for item in inputs if item.dims and not isinstance(item.dims[0], int))
    found = next((dim for source in (marked, named, first) for dim in source), None)
    return found if isinstance(found, str) else None


def _is_static(inputs: Sequence[Declared]) -> bool:
    return all(isinstance(dim, int) for item in inputs for dim in item.dims)


def _settle_static(inputs: Sequence[Declared], asked: Mapping[str, AskedInput]) -> tuple[TensorSpec, ...]:
    """The first axis is the batch where all inputs share it; none is where they differ, but what the user marks."""
    marked = {name: item.sizes.index(None) for name, item in asked.items() if None in item.sizes}
    firsts = {item.dims[0] for item in inputs if item.dims}
    shared = 0 if len(firsts) == 1 and not marked else None
    return tuple(_spec(item, marked.get(item.name, shared)) for item in inputs)


def _settle(item: Declared, given: AskedInput | None, batch: str | None) -> TensorSpec:
    if given is not None and None in given.sizes:
        return _spec(item, given.sizes.index(None))
    if batch is not None and batch in item.dims:
        return _spec(item, item.dims.index(batch))
    return _spec(item, 0 if item.dims and item.dims[0] is None else None)


def _spec(item: Declared, axis: int | None) -> TensorSpec:
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in item.dims)
    return TensorSpec(
        name=item.name,
        shape=shape,
        dtype=item.dtype,
        batch_axis=axis if shape else None,
        integers=item.integers,
        is_mask=item.is_mask,
    )


def _refuse_free(specs: Sequence[TensorSpec], inputs: Sequence[Declared], file: Path) -> None:
    """Raises `Unsupported` naming every free size. One option gives all sizes of one symbol."""
    named: set[Dim] = set()
    said, options = [], []
    for spec, item in zip(specs, inputs, strict=True):
        left = [place for place, size in enumerate(spec.shape) if size == -1 and place != spec.axis]
        if all(item.dims[place] in named for place in left):
            continue
        named |= {item.dims[place] for place in left} - {None}
        axes = ", ".join(f"axis {place}" + (f" ({item.dims[place]!r})" if item.dims[place] else "") for place in left)
        said.append(f"input {spec.name!r} has free sizes: {axes}")
        options.append(f"--input {spec.name}={','.join(_show_sizes(spec, item))}")
    if said:
        raise Unsupported(f"{file.name}: {'; '.join(said)}; give them: {' '.join(options)}")


def _show_sizes(spec: TensorSpec, item: Declared) -> Iterator[str]:
    for place, size in enumerate(spec.shape):
        yield "N" if place == spec.axis else str(size) if size > 0 else f"<{item.dims[place] or 'size'}>"
