"""Vector instructions for numba: tiles of the product C G that stay in registers, which no loop in Python compiles to.

Numba turns a loop over small matrices into code that loads and stores every sum, as it cannot know that two arrays do not
overlap. These functions write LLVM's vectors directly. They need no compiler but LLVM, which comes with numba, and run on any
processor: LLVM splits vectors of LANES numbers into what it has.
"""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS, LANES = 4, 8  # filters of a tile, numbers of a vector
INT = ir.IntType(64)


class Code:
    """Writes vector code for arrays of one dtype."""

    def __init__(
        self, context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value], names: tuple[str, ...]
    ) -> None:
        """`names` are those of the first arguments of the function, all of them arrays."""
        self.builder = builder
        single = signature.args[0].dtype == types.float32
        self.bytes = 4 if single else 8
        self.vector = ir.VectorType(ir.FloatType() if single else ir.DoubleType(), LANES)
        described = zip(names, signature.args, values, strict=False)
        arrays = {name: context.make_array(kind)(context, builder, value) for name, kind, value in described}
        self.data = {name: array.data for name, array in arrays.items()}
        self.shape = {name: array.shape for name, array in arrays.items()}
        self.zero = ir.Constant(self.vector, [0.0] * LANES)

    def length(self, array: str) -> ir.Value:
        """Of the first axis."""
        return self.builder.extract_value(self.shape[array], 0)

    def place(self, row: ir.Value, width: ir.Value, column: ir.Value) -> ir.Value:
        """row width + column."""
        return self.builder.add(self.builder.mul(row, width), column)

    def plus(self, value: ir.Value, number: int) -> ir.Value:
        return self.builder.add(value, ir.Constant(INT, number))

    def number(self, array: str, index: ir.Value) -> ir.Value:
        """A number in all lanes of a vector."""
        builder, lanes = self.builder, ir.VectorType(ir.IntType(32), LANES)
        first = builder.insert_element(
            ir.Constant(self.vector, ir.Undefined),
            builder.load(builder.gep(self.data[array], [index])),
            ir.Constant(ir.IntType(32), 0),
        )
        return builder.shuffle_vector(first, first, ir.Constant(lanes, [0] * LANES))

    def load(self, array: str, index: ir.Value) -> ir.Value:
        """LANES numbers of an array."""
        return self.builder.load(self._pointer(array, index), align=self.bytes)

    def store(self, value: ir.Value, array: str, index: ir.Value) -> None:
        self.builder.store(value, self._pointer(array, index), align=self.bytes)

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a b + c, in one rounding where the processor can."""
        return self.builder.fadd(self.builder.fmul(a, b, flags=["contract"]), c, flags=["contract"])

    def relu(self, value: ir.Value) -> ir.Value:
        """max(0, value), and NaN for NaN."""
        return self.where("<=", value, self.zero, value)

    def where(self, comparison: str, value: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
        """`yes` where `value` compares so with 0, else `no`; also where `value` is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(comparison, value, self.zero), yes, no)

    def chances(self, z: ir.Value) -> tuple[ir.Value, ir.Value]:
        """s = 1 / (1 + e^z) and p = e^z s, neither of them ever 0; NaN for NaN.

        e^z = 2^k e^r where k = round(z / log 2), with the Taylor series of e^r.
        """
        builder, mantissa, bias, limit, terms = (
            self.builder,
            *((23, 127, 87.0, 7) if self.bytes == 4 else (52, 1023, 708.0, 13)),
        )
        # 2^k has no exponent bits beyond these limits, and of NaN no bits at all.
        z = builder.select(builder.fcmp_ordered(">", z, self.all(limit)), self.all(limit), z)
        z = builder.select(builder.fcmp_ordered("<", z, self.all(-limit)), self.all(-limit), z)
        number = builder.select(builder.fcmp_ordered("ord", z, z), z, self.zero)
        kind = f"llvm.floor.v{LANES}f{8 * self.bytes}"
        floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.vector, [self.vector]), kind)
        k = builder.call(floor, [self.multiply_add(number, self.all(1 / math.log(2)), self.all(0.5))])
        r = self.multiply_add(k, self.all(-math.log(2)), z)
        power = self.all(1 / math.factorial(terms))
        for term in range(terms - 1, -1, -1):
            power = self.multiply_add(power, r, self.all(1 / math.factorial(term)))
        whole = ir.VectorType(ir.IntType(8 * self.bytes), LANES)
        exponent = builder.add(builder.fptosi(k, whole), ir.Constant(whole, [bias] * LANES))
        scale = builder.bitcast(builder.shl(exponent, ir.Constant(whole, [mantissa] * LANES)), self.vector)
        one = self.all(1.0)
        s = builder.fdiv(one, self.multiply_add(power, scale, one))
        # Not 1 - s, which has no digits left where p is small.
        return s, builder.fmul(builder.fmul(power, scale), s)

    def all(self, number: float) -> ir.Value:
        """A constant in all lanes."""
        return ir.Constant(self.vector, [number] * LANES)

    def _pointer(self, array: str, index: ir.Value) -> ir.Value:
        return self.builder.bitcast(self.builder.gep(self.data[array], [index]), self.vector.as_pointer())


def forward(vectors: int) -> Callable[..., None]:
    """A function that computes a tile of ROWS filters and LANES `vectors` patches."""

    @intrinsic
    def tile(
        _: Any, initial: Any, span: Any, gram: Any, share: Any, products: Any, outputs: Any, depth: Any, p: Any, k: Any
    ) -> Any:
        """products = initial + span @ gram, and outputs += share relu(products), for filters p.. and patches k.. .

        initial, span, products are [P, K], gram is [K, K], share [P], outputs [K]. The first `depth` patches are no padding.
        """

        def code(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
            names = ("initial", "span", "gram", "share", "products", "outputs")
            write, (depth, p, k) = Code(context, builder, signature, values, names), values[-3:]
            width = write.length("outputs")
            corner = [
                [write.plus(write.place(write.plus(p, r), width, k), LANES * v) for v in range(vectors)] for r in range(ROWS)
            ]
            sums = [[cgutils.alloca_once_value(builder, write.load("initial", index)) for index in row] for row in corner]
            with cgutils.for_range(builder, depth, intp=INT) as loop:
                rows = [write.load("gram", write.plus(write.place(loop.index, width, k), LANES * v)) for v in range(vectors)]
                for r in range(ROWS):
                    factor = write.number("span", write.place(write.plus(p, r), width, loop.index))
                    for total, row in zip(sums[r], rows, strict=True):
                        builder.store(write.multiply_add(factor, row, builder.load(total)), total)
            for v in range(vectors):
                output = write.load("outputs", write.plus(k, LANES * v))
                for r in range(ROWS):
                    product = builder.load(sums[r][v])
                    write.store(product, "products", corner[r][v])
                    output = write.multiply_add(write.number("share", write.plus(p, r)), write.relu(product), output)
                write.store(output, "outputs", write.plus(k, LANES * v))
            return context.get_dummy_value()

        return types.void(initial, span, gram, share, products, outputs, depth, p, k), code

    return tile


def backward(vectors: int) -> Callable[..., None]:
    """A function that moves a tile of ROWS filters and LANES `vectors` patches."""

    @intrinsic
    def tile(_: Any, products: Any, push: Any, share: Any, span: Any, p: Any, k: Any) -> Any:
        """span += share push where products > 0, for filters p.. and patches k.. .

        products and span are [P, K], push is [K], share is [P].
        """

        def code(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
            names = ("products", "push", "share", "span")
            write, p, k = Code(context, builder, signature, values, names), *values[-2:]
            width = write.length("push")
            pushes = [write.load("push", write.plus(k, LANES * v)) for v in range(vectors)]
            for r in range(ROWS):
                row = write.plus(p, r)
                share = write.number("share", row)
                for v, pushed in enumerate(pushes):
                    index = write.plus(write.place(row, width, k), LANES * v)
                    step = write.where(">", write.load("products", index), builder.fmul(share, pushed), write.zero)
                    write.store(builder.fadd(write.load("span", index), step), "span", index)
            return context.get_dummy_value()

        return types.void(products, push, share, span, p, k), code

    return tile


def of_chances(divided: bool) -> Callable[..., None]:
    """A function that turns LANES margins into slopes of losses of the form OfChances (lnt/slopes.py)."""

    @intrinsic
    def tile(_: Any, values: Any, coefficients: Any, i: Any) -> Any:
        """values <- a s + b p + c s p for LANES of them from i on; `divided` by d s + e p.

        values are [N]; coefficients are [5, N]: a, b, c, d, e.
        """

        def code(context: Any, builder: ir.IRBuilder, signature: Any, given: list[ir.Value]) -> ir.Value:
            write, first = Code(context, builder, signature, given, ("values", "coefficients")), given[-1]
            s, p = write.chances(write.load("values", first))

            def sum_of(row: int, *terms: ir.Value) -> ir.Value:
                """The terms times their coefficients, which stand in the rows from this one on."""
                total = write.zero
                for number, term in enumerate(terms, row):
                    place = write.place(ir.Constant(INT, number), write.length("values"), first)
                    total = write.multiply_add(write.load("coefficients", place), term, total)
                return total

            slope = sum_of(0, s, p, builder.fmul(s, p))
            write.store(builder.fdiv(slope, sum_of(3, s, p)) if divided else slope, "values", first)
            return context.get_dummy_value()

        return types.void(values, coefficients, i), code

    return tile


def test(vectors: int) -> Callable[..., None]:
    """A function that adds the activations of a tile of ROWS filters on LANES `vectors` samples."""

    @intrinsic
    def tile(_: Any, filters: Any, patches: Any, bias: Any, share: Any, outputs: Any, depth: Any, p: Any, k: Any) -> Any:
        """outputs += share relu(filters @ patches + bias), for filters p.. and samples k.., with `depth` coordinates.

        filters are [P, D], patches [D, N], bias and share [P], outputs [N].
        """

        def code(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
            names = ("filters", "patches", "bias", "share", "outputs")
            write, (depth, p, k) = Code(context, builder, signature, values, names), values[-3:]
            width, inner = write.length("outputs"), write.length("patches")
            first = [write.number("bias", write.plus(p, r)) for r in range(ROWS)]
            sums = [[cgutils.alloca_once_value(builder, value) for _ in range(vectors)] for value in first]
            with cgutils.for_range(builder, depth, intp=INT) as loop:
                rows = [write.load("patches", write.plus(write.place(loop.index, width, k), LANES * v)) for v in range(vectors)]
                for r in range(ROWS):
                    factor = write.number("filters", write.place(write.plus(p, r), inner, loop.index))
                    for total, row in zip(sums[r], rows, strict=True):
                        builder.store(write.multiply_add(factor, row, builder.load(total)), total)
            for v in range(vectors):
                output = write.load("outputs", write.plus(k, LANES * v))
                for r in range(ROWS):
                    positive = write.relu(builder.load(sums[r][v]))
                    output = write.multiply_add(write.number("share", write.plus(p, r)), positive, output)
                write.store(output, "outputs", write.plus(k, LANES * v))
            return context.get_dummy_value()

        return types.void(filters, patches, bias, share, outputs, depth, p, k), code

    return tile
