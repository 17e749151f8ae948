"""Whether a model's flatbuffer holds together: what LiteRT checks before it loads one, and older runtimes do not.

Whether such a file crashes a runtime is a matter of chance: a wild offset may or may not point to mapped memory.
So one successful trial proves little, unless the structure is sound. Source: TensorFlow's ``schema.fbs``.
"""

from __future__ import annotations

import math

from ..modelfile import ITEM_SIZES, FlatTable, ModelFile, element_type

# Table -> field -> what it is: a table, a list of tables, or a vector whose items have so many bytes.
_SCHEMA: dict[str, dict[int, str | list[str] | int]] = {
    "Model": {1: ["OperatorCode"], 2: ["SubGraph"], 3: 1, 4: ["Buffer"], 5: 4, 6: ["Metadata"], 7: ["SignatureDef"]},
    "OperatorCode": {1: 1},
    "SubGraph": {0: ["Tensor"], 1: 4, 2: 4, 3: ["Operator"], 4: 1},
    "Tensor": {0: 4, 3: 1, 4: "Quantization", 6: "Sparsity", 7: 4},
    "Quantization": {0: 4, 1: 4, 2: 4, 3: 8, 5: "Details"},
    "Sparsity": {0: 4, 1: 4},
    "Details": {},
    "Operator": {1: 4, 2: 4, 4: "Options", 5: 1, 7: 1, 8: 4, 12: "Options"},
    "Options": {},
    "Buffer": {0: 1},
    "Metadata": {0: 1},
    "SignatureDef": {0: ["TensorMap"], 1: ["TensorMap"], 2: 1},
    "TensorMap": {0: 1},
}


def check_structure(model: ModelFile) -> None:
    """Checks every table, vector and index of the file.

    Raises:
        ModelFileError: something points outside of the file, or at a thing that is not there.
    """
    with model.damage():
        _walk(model.root, "Model")
        codes, buffers = model.root.tables(1), model.root.tables(4)
        graphs = model.root.tables(2)
        for graph in graphs:
            tensors = graph.tables(0)
            for tensor in tensors:
                _check_tensor(tensor, buffers)
            _check_indices("an input or output", (*graph.numbers(1, "i"), *graph.numbers(2, "i")), len(tensors), 0)
            for operator in graph.tables(3):
                _check_indices("an operator's code", (operator.number(0, "I"),), len(codes), 0)
                ends = (*operator.numbers(1, "i"), *operator.numbers(2, "i"), *operator.numbers(8, "i"))
                _check_indices("an operator's tensor", ends, len(tensors), -1)  # -1 leaves an optional one out
        for entry in model.root.tables(6):
            _check_indices("metadata's buffer", (entry.number(1, "I"),), len(buffers), 0)
        for signature in model.root.tables(7):
            _check_indices("a signature's subgraph", (signature.number(4, "I"),), len(graphs), 0)
            ends = tuple(entry.number(1, "I") for field in (0, 1) for entry in signature.tables(field))
            _check_indices("a signature's tensor", ends, len(graphs[signature.number(4, "I")].tables(0)), 0)


def _walk(table: FlatTable, kind: str) -> None:
    """No deeper than the schema: a chain of tables that came back to itself would have to repeat a kind."""
    table.check()
    for field, what in _SCHEMA[kind].items():
        if isinstance(what, int):
            table.vector(field, what)
        elif isinstance(what, list):
            for entry in table.tables(field):
                _walk(entry, what[0])
        elif inner := table.table(field):
            _walk(inner, what)


def _check_tensor(tensor: FlatTable, buffers: list[FlatTable]) -> None:
    _check_indices("a tensor's buffer", (tensor.number(2, "I"),), len(buffers), 0)
    shape, size = tensor.numbers(0, "i"), buffers[tensor.number(2, "I")].vector(0, 1)[1]
    dtype = element_type(tensor.number(1, "b"))
    if size and dtype in ITEM_SIZES and not tensor.table(6) and size != math.prod(shape) * ITEM_SIZES[dtype]:
        raise IndexError(f"a constant tensor of {dtype} {'x'.join(map(str, shape))} has {size} bytes of data")


def _check_indices(what: str, indices: tuple[int, ...], count: int, lowest: int) -> None:
    for index in indices:
        if not lowest <= index < count:
            raise IndexError(f"{what} is {index} of {count}")
