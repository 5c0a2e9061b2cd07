"""Number formats against ml_dtypes for every code, and quantisation against the released rules."""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from supertile.runtime import numerics
from supertile.runtime.numerics import F32, U8, U16, Scaled

VECTORS = Path(__file__).parents[1] / "data" / "deepseek_v4_deployed" / "vectors.npz"
BYTES = np.arange(256, dtype=np.uint8)
NIBBLES = np.arange(16, dtype=np.uint8)
HALVES = np.arange(65536, dtype=np.uint16)


def floats(*values: float) -> F32:
    return np.array(values, dtype=np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def normal(*shape: int) -> F32:
    return rng().standard_normal(shape, dtype=np.float32)


def same_bits(got: F32, expected: F32) -> bool:
    """Equal to the last bit, signs of zeros included; any NaN equals any NaN."""
    assert got.dtype == expected.dtype == np.float32
    equal = got.view(np.uint32) == expected.view(np.uint32)
    return bool((equal | (np.isnan(got) & np.isnan(expected))).all())


# --- BF16 ----------------------------------------------------------------------------------------


def test_bf16_bits_of_every_upper_half_and_the_lower_halves_around_the_tie() -> None:
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=np.uint32)
    x = ((HALVES.astype(np.uint32) << 16)[:, None] | lower).view(np.float32)
    with np.errstate(invalid="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert same_bits(numerics.round_bf16(x), expected)


def test_bf16_bits_and_back_for_every_pattern() -> None:
    values = numerics.bf16_from_bits(HALVES)
    assert same_bits(values, HALVES.view(ml_dtypes.bfloat16).astype(np.float32))
    numbers = ~np.isnan(values)
    assert np.array_equal(numerics.bf16_bits(values)[numbers], HALVES[numbers])


def test_bf16_of_nan_keeps_its_sign_and_large_values_overflow() -> None:
    x = np.array([0x7F800001, 0xFFFFFFFF, 0x7F7F7FFF, 0x7F7F8000], dtype=np.uint32)
    assert numerics.bf16_bits(x.view(np.float32)).tolist() == [0x7FC0, 0xFFFF, 0x7F7F, 0x7F80]


# --- E4M3 and E2M1 -------------------------------------------------------------------------------


def hard_cases(values: F32) -> F32:
    """Every BF16 and F16 value, and each code, each middle between codes and their neighbours."""
    finite = np.sort(values[np.isfinite(values)])
    edges = np.concatenate([finite, (finite[1:] + finite[:-1]) / 2])
    around = [np.nextafter(edges, floats(sign * np.inf)) for sign in (-1, 1)]
    bf16, f16 = numerics.bf16_from_bits(HALVES), HALVES.view(np.float16).astype(np.float32)
    return np.concatenate([bf16, f16, edges, *around])


def test_decoding_every_e4m3_byte() -> None:
    expected = BYTES.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert same_bits(numerics.decode_e4m3(BYTES), expected)


def test_encoding_e4m3_agrees_with_a_clipped_cast() -> None:
    x = hard_cases(numerics.decode_e4m3(BYTES))
    with np.errstate(invalid="ignore"):
        expected = np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    assert np.array_equal(numerics.encode_e4m3(x), expected)


def test_decoding_every_e2m1_code() -> None:
    expected = NIBBLES.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert same_bits(numerics.decode_e2m1(NIBBLES), expected)


def test_encoding_e2m1_agrees_with_a_clipped_cast() -> None:
    x = hard_cases(numerics.decode_e2m1(NIBBLES))
    x = x[~np.isnan(x)]
    expected = np.clip(x, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    assert np.array_equal(numerics.encode_e2m1(x), expected)


@pytest.mark.parametrize(
    ("encode", "x", "code"),
    [
        (numerics.encode_e4m3, 448.0, 0x7E),
        (numerics.encode_e4m3, 464.0, 0x7E),  # IEEE rules would overflow here
        (numerics.encode_e4m3, -np.inf, 0xFE),
        (numerics.encode_e4m3, np.nan, 0x7F),
        (numerics.encode_e4m3, -np.nan, 0xFF),
        (numerics.encode_e4m3, -0.0, 0x80),
        (numerics.encode_e4m3, 2.0**-10, 0x00),  # half the smallest subnormal: ties to zero
        (numerics.encode_e4m3, 3 * 2.0**-10, 0x02),
        (numerics.encode_e2m1, 0.25, 0),
        (numerics.encode_e2m1, 0.75, 2),
        (numerics.encode_e2m1, 1.25, 2),
        (numerics.encode_e2m1, 2.5, 4),
        (numerics.encode_e2m1, -5.0, 14),
        (numerics.encode_e2m1, -0.0, 8),
        (numerics.encode_e2m1, np.inf, 7),
    ],
)
def test_one_code(encode: Callable[[F32], U8], x: float, code: int) -> None:
    assert encode(floats(x)).tolist() == [code]


any_float32 = arrays.arrays(
    np.float32, arrays.array_shapes(max_dims=2), elements=st.floats(width=32, allow_nan=False)
)


@given(any_float32)
def test_encoding_any_float_agrees_with_a_clipped_cast(x: F32) -> None:
    e4m3 = np.clip(x, -448, 448).astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    e2m1 = np.clip(x, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)
    assert np.array_equal(numerics.encode_e4m3(x), e4m3)
    assert np.array_equal(numerics.encode_e2m1(x), e2m1)


def test_packing_puts_the_even_index_in_the_low_nibble() -> None:
    packed = numerics.pack_e2m1(np.array([1, 2, 15, 0], dtype=np.uint8))
    assert packed.tolist() == [0x21, 0x0F]


@given(arrays.arrays(np.uint8, arrays.array_shapes(max_dims=3)))
def test_unpacking_undoes_packing(packed: U8) -> None:
    assert np.array_equal(numerics.pack_e2m1(numerics.unpack_e2m1(packed)), packed)


# --- Powers of two -------------------------------------------------------------------------------


def test_decoding_and_encoding_every_e8m0_byte() -> None:
    values = numerics.decode_e8m0(BYTES)
    assert same_bits(values, BYTES.view(ml_dtypes.float8_e8m0fnu).astype(np.float32))
    assert np.array_equal(numerics.encode_e8m0(values[:255]), BYTES[:255])


def test_power_of_two_above_for_every_exponent() -> None:
    exponent = np.arange(-126, 127)
    power = np.ldexp(np.float32(1), exponent)
    above = np.nextafter(power, np.float32(np.inf))
    below = np.nextafter(2 * power, np.float32(0))
    assert same_bits(numerics.power_of_two_above(power), power)
    assert same_bits(numerics.power_of_two_above(above), 2 * power)
    assert same_bits(numerics.power_of_two_above(below), 2 * power)


# --- Quantisation --------------------------------------------------------------------------------


def grouped(x: F32, group: int) -> F32:
    return x.reshape(*x.shape[:-1], -1, group)


@pytest.mark.parametrize(("element", "group"), [("f8e4m3", 128), ("f8e4m3", 64), ("f4e2m1", 32)])
def test_the_largest_code_is_used_and_never_exceeded(element: str, group: int) -> None:
    limit = {"f8e4m3": 448, "f4e2m1": 6}[element]
    q = numerics.quantize(normal(8, 256) * 100, element, group)
    largest = np.abs(grouped(q.values(), group)).max(-1)
    assert (largest <= limit).all() and (largest >= limit / 2).all()


@pytest.mark.parametrize(
    ("element", "x", "scale"),
    [
        ("f8e4m3", 448.0, 1.0),
        ("f8e4m3", 449.0, 2.0),
        ("f8e4m3", 0.0, 2.0**-22),  # the floor 1e-4 / 448
        ("f8e4m3", 1e-9, 2.0**-22),
        ("f4e2m1", 6.0, 1.0),
        ("f4e2m1", 6.25, 2.0),
        ("f4e2m1", 0.0, 2.0**-126),
    ],
)
def test_scale_of_a_group(element: str, x: float, scale: float) -> None:
    assert numerics.quantize(floats(x, 0), element, 2).scale_values().tolist() == [scale]


def test_weights_have_a_lower_floor_than_activations() -> None:
    assert numerics.quantize_blocks(floats(448e-9)[None], "f8e4m3").values() >= 224
    assert numerics.quantize(floats(448e-9), "f8e4m3", 128).values() < 4


@pytest.mark.parametrize("element", ["f8e4m3", "f4e2m1"])
def test_blocks_match_the_rule_written_as_loops(element: str) -> None:
    w = normal(160, 200) * np.exp2(rng().integers(-9, 9, (160, 1))).astype(np.float32)
    q = numerics.quantize_blocks(w, element, (128, 64))
    limit = {"f8e4m3": 448, "f4e2m1": 6}[element]
    assert q.scales.shape == (2, 4)
    for i, j in np.ndindex(2, 4):
        at = np.s_[128 * i : 128 * (i + 1), 64 * j : 64 * (j + 1)]
        scale = 2.0 ** np.ceil(np.log2(np.abs(w[at]).max() / limit))
        assert q.scale_values()[i, j] == scale
        encode = numerics.encode_e4m3 if element == "f8e4m3" else numerics.encode_e2m1
        assert np.array_equal(q.codes[at], encode(w[at] / np.float32(scale)))


@settings(max_examples=50)
@given(st.integers(1, 70), st.sampled_from(["f8e4m3", "f4e2m1"]))
def test_a_partial_group_is_a_group_filled_with_zeros(size: int, element: str) -> None:
    x = normal(3, size)
    filled = np.pad(x, [(0, 0), (0, -size % 32)])
    part, whole = (numerics.quantize(a, element, 32) for a in (x, filled))
    assert np.array_equal(part.codes, whole.codes[:, :size])
    assert np.array_equal(part.scales, whole.scales)
    assert same_bits(part.dequantize(), whole.dequantize()[:, :size])


@pytest.mark.parametrize(("element", "group"), [("f8e4m3", 64), ("f4e2m1", 32)])
@pytest.mark.parametrize("shape", [(256,), (4, 256), (2, 3, 96), (0, 64), (2, 100)])
def test_round_trip_is_bf16_and_stable(element: str, group: int, shape: tuple[int, ...]) -> None:
    once = numerics.round_trip(normal(*shape), element, group)
    assert once.shape == shape
    assert same_bits(once, numerics.round_bf16(once))
    assert same_bits(once, numerics.round_trip(once, element, group))


@pytest.mark.parametrize(("element", "step"), [("f8e4m3", 2.0**-4), ("f4e2m1", 1 / 4)])
def test_round_trip_is_close(element: str, step: float) -> None:
    x = normal(16, 128)
    error = np.abs(numerics.round_trip(x, element, 32) - x)
    assert (error <= step * np.abs(grouped(x, 32)).max(-1).repeat(32, -1)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_group_that_is_not_finite_becomes_nan_alone(bad: float) -> None:
    x = normal(2, 64)
    x[0, 3] = bad
    q = numerics.quantize(x, "f8e4m3", 32)
    assert (q.codes[0, :32] == 0x7F).all() and q.scales[0, 0] == 255
    x[0, :32] = np.nan
    assert same_bits(np.isnan(q.dequantize()).astype(np.float32), np.isnan(x).astype(np.float32))


# --- Scaled --------------------------------------------------------------------------------------


def test_packed_codes_are_the_same_value_in_half_the_bytes() -> None:
    w = numerics.quantize_blocks(normal(2, 48, 96), "f4e2m1", (1, 32))
    packed = w.pack()
    assert packed.shape == w.shape == (2, 48, 96)
    assert 2 * packed.codes.nbytes == w.codes.nbytes
    assert same_bits(packed.values(), w.values())
    assert same_bits(packed.dequantize(), w.dequantize())


def test_scales_may_be_float32() -> None:
    codes = numerics.encode_e4m3(np.ones((3, 5), np.float32))
    w = Scaled(codes, floats(0.1, 0.2, 0.3, 0.4).reshape(2, 2), "f8e4m3", (2, 3))
    rows = [[0.1, 0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.3, 0.4, 0.4]]
    assert same_bits(w.dequantize(), np.array(rows, np.float32))


# --- Products ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("element", "block", "shape"),
    [
        ("f8e4m3", (128, 128), (6, 160, 384)),
        ("f8e4m3", (128, 128), (1, 64, 200)),
        ("f4e2m1", (1, 32), (5, 48, 384)),
        ("f4e2m1", (1, 32), (3, 7, 80)),
    ],
)
def test_product_is_the_product_of_what_is_held(
    element: str, block: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    M, N, K = shape
    x = numerics.quantize(normal(M, K) * 7, "f8e4m3", 128)
    w = numerics.quantize_blocks(normal(N, K) / 3, element, block)
    expected = x.dequantize().astype(np.float64) @ w.dequantize().astype(np.float64).T
    assert np.abs(numerics.scaled_product(x, w) - expected).max() < 1e-5 * np.abs(expected).max()


def test_float32_scales_multiply_the_partial_sums() -> None:
    x = numerics.quantize(normal(4, 256), "f8e4m3", 128)
    w = numerics.quantize_blocks(normal(160, 256), "f8e4m3")
    tenth = Scaled(w.codes, w.scale_values() * np.float32(0.1), "f8e4m3", (128, 128))
    expected = 0.1 * numerics.scaled_product(x, w)
    assert np.allclose(numerics.scaled_product(x, tenth), expected, rtol=1e-5, atol=1e-5)


def test_extreme_scales_stay_exact() -> None:
    x = Scaled(np.full((1, 1), 1, np.uint8), np.full((1, 1), 254, np.uint8), "f8e4m3", (1, 128))
    w = Scaled(np.full((1, 1), 1, np.uint8), np.zeros((1, 1), np.uint8), "f8e4m3", (128, 128))
    assert numerics.scaled_product(x, w).item() == 2.0**-18


@pytest.mark.parametrize("size", [1, 2, 8, 64, 128])
def test_hadamard_is_the_sylvester_matrix(size: int) -> None:
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    x = normal(5, size)
    assert np.allclose(numerics.hadamard(x), x @ matrix / np.sqrt(size), atol=1e-5)
    assert np.allclose(numerics.hadamard(numerics.hadamard(x)), x, atol=1e-5)


# --- Errors --------------------------------------------------------------------------------------


def scaled(shape: tuple[int, int], scales: tuple[int, int], **changes: object) -> Scaled:
    fields = {"codes": np.zeros(shape, np.uint8), "scales": np.zeros(scales, np.uint8)}
    fields |= {"element": "f8e4m3", "block": (1, 128), **changes}
    return Scaled(**fields)  # type: ignore[arg-type]


def product(x: Scaled, w: Scaled) -> Callable[[], object]:
    return lambda: numerics.scaled_product(x, w)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numerics.encode_e2m1(floats(1, np.nan)), "no code for NaN"),
        (lambda: numerics.encode_e8m0(floats(1, 3)), "powers of two .* got 3.0"),
        (lambda: numerics.encode_e8m0(floats(-1)), "got -1.0"),
        (lambda: numerics.encode_e8m0(floats(0)), "got 0.0"),
        (lambda: numerics.encode_e8m0(floats(np.inf)), "got inf"),
        (lambda: numerics.encode_e8m0(floats(2.0**-128)), "got 2.9"),
        (lambda: numerics.pack_e2m1(np.zeros((2, 3), np.uint8)), "even last axis"),
        (lambda: numerics.power_of_two_above(floats(1, 0)), "positive normal .* got 0.0"),
        (lambda: numerics.power_of_two_above(floats(2.0**-127)), "positive normal"),
        (lambda: numerics.quantize(floats(1), "f6", 32), "unknown element 'f6'; there are f8e4m3"),
        (lambda: numerics.quantize(floats(1, np.nan), "f4e2m1", 32), "cannot hold NaN"),
        (lambda: numerics.quantize(floats(1, np.inf), "f4e2m1", 32), "or infinity"),
        (lambda: numerics.quantize(floats(1), "f8e4m3", 0), "do not fit"),
        (lambda: numerics.hadamard(normal(2, 12)), "power of two; got shape"),
        (lambda: scaled((2, 256), (2, 3)), r"needs scales of shape \(2, 2\); got \(2, 3\)"),
        (lambda: scaled((2, 256), (2, 2), packed=True), "only f4e2m1"),
        (lambda: scaled((2, 256), (2, 2), codes=normal(2, 256)), "must be uint8; got float32"),
        (product(scaled((2, 256), (2, 2)), scaled((2, 128), (2, 1))), r"\[M, K\] and \[N, K\]"),
        (
            product(scaled((2, 256), (2, 2)), scaled((2, 256), (2, 1), block=(1, 256))),
            "do not lie in single groups",
        ),
    ],
)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# --- Bit for bit against the released formats ----------------------------------------------------


@pytest.fixture(scope="module")
def vectors() -> dict[str, U8 | U16]:
    with np.load(VECTORS) as file:
        return {name: file[name] for name in file if not name.startswith("attention.")}


def values(vectors: dict[str, U8 | U16], name: str) -> F32:
    return numerics.bf16_from_bits(vectors[name + ".bf16"].astype(np.uint16))


def one_step_at_most(got: F32, expected: U8 | U16) -> bool:
    """99% of the BF16 results equal, the rest neighbours: sums in float32 have a free order."""

    def position(bits: U16) -> U16:
        signed = bits.astype(np.int32)
        return np.where(signed < 0x8000, signed, 0x8000 - signed)

    steps = np.abs(position(numerics.bf16_bits(got)) - position(expected))
    return bool((steps == 0).mean() >= 0.99 and steps.max() <= 1)


@pytest.mark.parametrize("group", [64, 128])
def test_fp8_codec_vectors(vectors: dict[str, U8], group: int) -> None:
    q = numerics.quantize(values(vectors, "codec.input"), "f8e4m3", group)
    assert np.array_equal(q.codes, vectors[f"codec.fp8_group{group}.codes"])
    assert np.array_equal(q.scales, vectors[f"codec.fp8_group{group}.scales"])


def test_fp4_codec_vectors(vectors: dict[str, U8]) -> None:
    q = numerics.quantize(values(vectors, "codec.input"), "f4e2m1", 32)
    assert np.array_equal(q.pack().codes, vectors["codec.fp4_group32.packed"])
    assert np.array_equal(q.scales, vectors["codec.fp4_group32.scales"])


def test_weights_survive_being_quantised_again(vectors: dict[str, U8]) -> None:
    fp8 = Scaled(vectors["product.fp8.weight"], vectors["product.fp8.scale"], "f8e4m3", (128, 128))
    # Only the values: a maximum that was rounded down to 224 = 448 / 2 gets half the scale.
    again = numerics.quantize_blocks(fp8.dequantize(), "f8e4m3")
    assert same_bits(again.dequantize(), fp8.dequantize())


def test_fp8_product_vectors(vectors: dict[str, U8]) -> None:
    x = numerics.quantize(values(vectors, "product.input")[:, :256], "f8e4m3", 128)
    w = Scaled(vectors["product.fp8.weight"], vectors["product.fp8.scale"], "f8e4m3", (128, 128))
    assert one_step_at_most(numerics.scaled_product(x, w), vectors["product.fp8.output.bf16"])


def test_fp4_product_vectors(vectors: dict[str, U8]) -> None:
    x = numerics.quantize(values(vectors, "product.input"), "f8e4m3", 128)
    codes, scales = vectors["product.fp4.weight"], vectors["product.fp4.scale"]
    w = Scaled(codes, scales, "f4e2m1", (1, 32), packed=True)
    assert one_step_at_most(numerics.scaled_product(x, w), vectors["product.fp4.output.bf16"])


def test_hadamard_vectors(vectors: dict[str, U8]) -> None:
    got = numerics.hadamard(values(vectors, "hadamard128.input"))
    assert one_step_at_most(got, vectors["hadamard128.output.bf16"])


def test_query_norm_vectors(vectors: dict[str, U8]) -> None:
    r = numerics.round_bf16
    q = values(vectors, "query_norm.input")
    mean = r(r(q * q).mean(-1, keepdims=True))
    got = q * r(1 / np.sqrt(r(mean + np.float32(1e-6))))
    assert one_step_at_most(got, vectors["query_norm.output.bf16"])


def test_every_row_and_column_has_scales_of_its_own() -> None:
    """Blocks of one row of x and of several columns of w, scales that are no powers of two."""
    x = Scaled(codes_of(3, 8, 1), floats(5, 7, 11, 13, 17, 19).reshape(3, 2), "f8e4m3", (1, 4))
    w = Scaled(codes_of(4, 8, 2), floats(3, 1.5, 0.7, 0.3).reshape(2, 2), "f8e4m3", (2, 4))
    expected = x.dequantize().astype(np.float64) @ w.dequantize().astype(np.float64).T
    assert np.allclose(numerics.scaled_product(x, w), expected, rtol=1e-5, atol=1e-5)


def codes_of(rows: int, columns: int, seed: int) -> U8:
    """Codes of numbers of ordinary size."""
    held = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    return numerics.quantize(held, "f8e4m3", columns).codes
