"""Number formats bit by bit: BF16, E4M3, E2M1, E8M0, INT8, and what is computed in them.

The one place that knows bits. Everything else holds float32 arrays, or a `Scaled`: codes of
eight or four bits with one scale per block. Values enter and leave as float32, and each rounding
is a call with a name. Rounding is always to nearest, ties to the even code.

Source of the rules: the released DeepSeek-V4 inference code (`act_quant`, `fp8_gemm`, `fp4_gemm`);
the formats are those of the OCP Microscaling specification 1.0. INT8 is symmetric, as W8A8 kernels
have it: codes -127 to 127, float32 scales.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
Scalar = TypeVar("Scalar", bound=np.generic)

# --- BF16: the upper half of a float32 -----------------------------------------------------------


def bf16_bits(x: npt.ArrayLike) -> U16:
    """The nearest BF16 of each float32, as 16 bits; same shape as `x`.

    Values beyond the largest BF16 by half a step or more become infinite; NaN stays NaN.
    """
    values = np.asarray(x, dtype=np.float32)
    bits = values.view(np.uint32)
    # Half a step, less one bit when the result would stay even: this carries exactly when the
    # dropped half is above the middle, or at the middle of an odd number.
    rounded = bits >> 16
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    rounded >>= np.uint32(16)
    missing = np.isnan(values)
    if missing.any():  # the carry could turn a NaN into an infinity or a zero
        rounded = np.where(missing, (bits >> 16) | np.uint32(0x0040), rounded)
    return rounded.astype(np.uint16)


def bf16_from_bits(bits: U16) -> F32:
    """The float32 values of BF16 bits; exact, same shape."""
    wide = np.asarray(bits, dtype=np.uint16).astype(np.uint32)
    return (wide << 16).view(np.float32)


def round_bf16(x: npt.ArrayLike) -> F32:
    """`x` rounded to BF16 and held as float32; same shape. See `bf16_bits`."""
    return bf16_from_bits(bf16_bits(x))


# --- Eight and four bit codes: tables of values, and tables of roundings -------------------------

E2M1_LARGEST = 6.0
E4M3_LARGEST = 448.0
E4M3_NAN = 0x7F
E8M0_NAN = 0xFF
I8_LARGEST = 127.0


def _e4m3_values() -> F32:
    """Sign bit 7, exponent bits 6-3 with bias 7, mantissa bits 2-0; no infinities."""
    byte = np.arange(128)
    exponent, mantissa = byte >> 3, byte & 7
    significand = mantissa + 8 * (exponent > 0)
    positive = np.ldexp(significand.astype(np.float32), np.maximum(exponent, 1) - 10)
    positive[E4M3_NAN] = np.nan
    return np.concatenate([positive, -positive])


def _e8m0_values() -> F32:
    """2^(byte - 127); byte 0 is a subnormal float32, byte 255 is NaN."""
    powers = np.ldexp(np.float32(1), np.arange(255) - 127)
    return np.append(powers, np.float32(np.nan))


_E2M1_POSITIVE = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
_E2M1_VALUES: F32 = np.concatenate([_E2M1_POSITIVE, -_E2M1_POSITIVE])
_E4M3_VALUES = _e4m3_values()
_E8M0_VALUES = _e8m0_values()

# Both values of a byte of packed E2M1 as one 64-bit entry, so that unpacking is one look-up.
_BYTES = np.arange(256)
_E2M1_PAIRS = np.stack([_E2M1_VALUES[_BYTES & 15], _E2M1_VALUES[_BYTES >> 4]], -1).view(np.uint64)
_E2M1_PAIRS = _E2M1_PAIRS.reshape(256)


def _rounding_table(positive: F32, sign: int, not_a_number: int) -> U8:
    """The nearest code of every float32, by its `_rounding_index`.

    positive: the ascending values of codes 0, 1, ...; larger magnitudes get the last code.
    """
    magnitude = np.abs(bf16_from_bits(np.arange(65536, dtype=np.uint16)))
    middle = (positive[1:] + positive[:-1]) / 2
    code = np.searchsorted(middle, magnitude)  # a tie goes to the lower code ...
    tie = magnitude == middle[np.minimum(code, len(middle) - 1)]
    code += tie & (code % 2 == 1)  # ... unless that code is odd
    code[np.isnan(magnitude)] = not_a_number
    code[32768:] |= sign
    return code.astype(np.uint8)


def _rounding_index(x: F32) -> npt.NDArray[np.uint32]:
    """The upper 16 bits of each float32, the last one set if any lower bit is.

    That decides every rounding to a few bits: all values and all middles between neighbours have
    at most 5 significant bits, so the last of the 8 bits kept is zero in each of them, and a number
    with that bit set lies strictly between two of them however the lower bits continue.
    """
    bits = x.view(np.uint32)
    index = bits & np.uint32(0xFFFF)
    index += np.uint32(0xFFFF)
    index |= bits
    index >>= np.uint32(16)
    return index


_E2M1_CODES = _rounding_table(_E2M1_POSITIVE, sign=8, not_a_number=0)
_E4M3_CODES = _rounding_table(_E4M3_VALUES[:E4M3_NAN], sign=0x80, not_a_number=E4M3_NAN)


def decode_e4m3(codes: U8) -> F32:
    """The values of E4M3 bytes; same shape. 0x7F and 0xFF are NaN."""
    return _E4M3_VALUES[codes]


def encode_e4m3(x: npt.ArrayLike) -> U8:
    """The nearest E4M3 byte of each float32; same shape.

    Magnitudes above 448, infinity too, become 448: `act_quant` clips before it casts.
    NaN becomes 0x7F or 0xFF by its sign.
    """
    return _E4M3_CODES[_rounding_index(np.asarray(x, dtype=np.float32))]


def decode_e2m1(codes: U8) -> F32:
    """The values of E2M1 codes 0 to 15, one per byte; same shape. IndexError for other codes."""
    return _E2M1_VALUES[codes]


def encode_e2m1(x: npt.ArrayLike) -> U8:
    """The nearest E2M1 code of each float32, one per byte; same shape. Zeros keep their sign.

    Magnitudes above 6, infinity too, become 6. ValueError for NaN, which E2M1 cannot hold.
    """
    values = np.asarray(x, dtype=np.float32)
    if np.isnan(values).any():
        raise ValueError("E2M1 has no code for NaN; the input holds at least one")
    return _E2M1_CODES[_rounding_index(values)]


def decode_i8(codes: U8) -> F32:
    """The values of INT8 codes, a byte each in two's complement; same shape."""
    return codes.view(np.int8).astype(np.float32)


def encode_i8(x: npt.ArrayLike) -> U8:
    """The nearest integer of each float32 as a byte in two's complement, ties to even; same shape.

    Magnitudes above 127, infinity too, become 127. NaN becomes 0: its scale must tell.
    """
    values = np.clip(np.rint(np.asarray(x, dtype=np.float32)), -I8_LARGEST, I8_LARGEST)
    codes: U8 = np.nan_to_num(values).astype(np.int8).view(np.uint8)
    return codes


def decode_e8m0(codes: U8) -> F32:
    """The powers of two 2^(byte - 127) of E8M0 bytes; same shape. Byte 255 is NaN."""
    return _E8M0_VALUES[codes]


def encode_e8m0(x: npt.ArrayLike) -> U8:
    """The E8M0 bytes of powers of two from 2^-127 to 2^127; same shape. ValueError for others."""
    values = np.asarray(x, dtype=np.float32)
    codes = (values.view(np.uint32) >> 23).astype(np.uint8)
    exact = decode_e8m0(codes) == values
    if not exact.all():
        example = values[~exact].flat[0]
        raise ValueError(f"E8M0 holds powers of two from 2^-127 to 2^127; got {example}")
    return codes


def pack_e2m1(codes: U8) -> U8:
    """[..., K] codes -> [..., K/2] bytes; the even index lies in the low nibble.

    ValueError when K is odd.
    """
    if codes.shape[-1] % 2:
        raise ValueError(f"packing needs an even last axis; got shape {codes.shape}")
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def unpack_e2m1(packed: U8) -> U8:
    """[..., K/2] bytes -> [..., K] codes, one per byte; undoes `pack_e2m1`."""
    codes: U8 = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)
    return codes.reshape(*packed.shape[:-1], 2 * packed.shape[-1])


def power_of_two_above(x: npt.ArrayLike) -> F32:
    """2^ceil(log2 x), read off the bits; same shape.

    Infinite above 2^127. ValueError unless all are positive, normal and finite.
    """
    values = np.asarray(x, dtype=np.float32)
    usable = (values >= np.finfo(np.float32).smallest_normal) & (values < np.inf)
    if not usable.all():
        example = values[~usable].flat[0]
        raise ValueError(f"a power of two above needs positive normal numbers; got {example}")
    # Adding a mantissa of ones carries into the exponent unless the mantissa is zero.
    carried = values.view(np.uint32) + np.uint32(0x007FFFFF)
    return (carried & np.uint32(0xFF800000)).view(np.float32)


class _Element(NamedTuple):
    """How a code relates to its scale: `act_quant` scales a group to reach at most `largest`."""

    largest: float
    floor: float
    """Smallest magnitude that a scale is computed from."""
    encode: Callable[[npt.ArrayLike], U8]
    decode: Callable[[U8], F32]
    broken: int
    """Code in a group with NaN or infinity, whose scale is NaN."""
    powers: bool
    """Scales are powers of two, held as E8M0; else any float32."""


# INT8's floor makes the smallest scale the smallest normal float32.
_ELEMENTS = {
    "f8e4m3": _Element(E4M3_LARGEST, 1e-4, encode_e4m3, decode_e4m3, E4M3_NAN, True),
    "f4e2m1": _Element(E2M1_LARGEST, 6 * 2.0**-126, encode_e2m1, decode_e2m1, 0, True),
    "i8": _Element(I8_LARGEST, I8_LARGEST * 2.0**-126, encode_i8, decode_i8, 0, False),
}


def _element(name: str) -> _Element:
    if name not in _ELEMENTS:
        raise ValueError(f"unknown element {name!r}; there are {', '.join(_ELEMENTS)}")
    return _ELEMENTS[name]


# --- Codes with one scale per block --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scaled:
    """An array held as codes of eight or four bits times one scale per block.

    ValueError when the parts do not fit together.
    """

    codes: U8
    """[..., N, K] one code per byte; [..., N, K/2] when packed."""
    scales: npt.NDArray[Any]
    """E8M0 bytes (uint8) or float32 factors, shaped like the value but one per block."""
    element: str
    """Format of the codes: "f8e4m3", "f4e2m1" or "i8"."""
    block: tuple[int, ...]
    """Block size along the trailing axes, such as (128, 128); the last blocks may be partial."""
    packed: bool = False
    """Two E2M1 codes per byte, as checkpoints store them; unpacked only to compute values."""

    def __post_init__(self) -> None:
        _element(self.element)
        if self.packed and self.element != "f4e2m1":
            raise ValueError(f"only f4e2m1 codes can be packed; got {self.element}")
        if self.codes.dtype != np.uint8:
            raise ValueError(f"codes must be uint8; got {self.codes.dtype}")
        if self.scales.dtype not in (np.uint8, np.float32):
            raise ValueError(f"scales must be uint8 or float32; got {self.scales.dtype}")
        expected = _block_counts(self.shape, self.block)
        if self.scales.shape != expected:
            raise ValueError(
                f"shape {self.shape} in blocks of {self.block} needs scales of shape {expected}; "
                f"got {self.scales.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value, whether or not the codes are packed."""
        if not self.packed:
            return self.codes.shape
        return (*self.codes.shape[:-1], 2 * self.codes.shape[-1])

    def values(self) -> F32:
        """What the codes stand for, without the scales; `shape`."""
        if not self.packed:
            return _element(self.element).decode(self.codes)
        return _E2M1_PAIRS[np.ascontiguousarray(self.codes)].view(np.float32)

    def scale_values(self) -> F32:
        """The scales as float32; one per block."""
        return decode_e8m0(self.scales) if self.scales.dtype == np.uint8 else self.scales

    def dequantize(self) -> F32:
        """Values times scales; `shape`. Exact for E8M0 scales unless a product passes 2^128."""
        blocks = _split(self.values(), self.block)
        factors = _beside_blocks(self.scale_values(), self.block)
        return _join(blocks * factors, self.shape)

    def pack(self) -> "Scaled":
        """The same value with two E2M1 codes per byte. ValueError if K is odd, or for E4M3."""
        if self.packed:
            return self
        return replace(self, codes=pack_e2m1(self.codes), packed=True)


def _block_counts(shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scales: trailing axes divided by the block size, rounded up."""
    if not 0 < len(block) <= len(shape) or min(block) < 1:
        raise ValueError(f"blocks of {block} do not fit the shape {shape}")
    lead = len(shape) - len(block)
    counts = (-(-size // step) for size, step in zip(shape[lead:], block, strict=True))
    return (*shape[:lead], *counts)


def _split(x: F32, block: tuple[int, ...]) -> F32:
    """Each trailing axis -> (count, size), filled with zeros to whole blocks: [..., a, n, b, k]."""
    counts = _block_counts(x.shape, block)
    lead = x.ndim - len(block)
    missing = [
        count * step - size
        for count, step, size in zip(counts[lead:], block, x.shape[lead:], strict=True)
    ]
    if any(missing):
        x = np.pad(x, [(0, 0)] * lead + [(0, extra) for extra in missing])
    pairs = [size for pair in zip(counts[lead:], block, strict=True) for size in pair]
    return x.reshape(*counts[:lead], *pairs)


def _join(blocks: npt.NDArray[Scalar], shape: tuple[int, ...]) -> npt.NDArray[Scalar]:
    """Undoes `_split`: merges (count, size) pairs and drops the filling."""
    lead = 2 * len(shape) - blocks.ndim
    pairs = range(lead, blocks.ndim, 2)
    whole = blocks.reshape(*shape[:lead], *(prod(blocks.shape[at : at + 2]) for at in pairs))
    return whole if whole.shape == shape else whole[tuple(map(slice, shape))].copy()


def _beside_blocks(scales: F32, block: tuple[int, ...]) -> F32:
    """Scales [..., a, b] -> [..., a, 1, b, 1], to be broadcast against `_split`."""
    return np.expand_dims(scales, tuple(range(-1, -2 * len(block), -2)))


# --- Quantisation --------------------------------------------------------------------------------


def quantize(x: npt.ArrayLike, element: str, group: int) -> Scaled:
    """Dynamic quantisation of [..., K] in groups along the last axis, as `act_quant` does it.

    Per group: a = the largest magnitude, at least the floor of the element; scale =
    2^ceil(log2(a * float32(1 / largest code))), or a / 127 for INT8; codes = x / scale, clipped
    and rounded. The last group may be partial. A group with NaN or infinity becomes all NaN, its
    scale too; for E2M1, which has no NaN and whose scales have none here, it is a ValueError.
    """
    values = np.asarray(x, dtype=np.float32)
    block = (1, group) if values.ndim > 1 else (group,)
    return _quantize(values, element, block, _dynamic_scale)


def quantize_blocks(w: npt.ArrayLike, element: str, block: tuple[int, ...] = (128, 128)) -> Scaled:
    """Weight quantisation of [..., N, K] in blocks, with power-of-two scales unless INT8.

    As `quantize`, but E4M3 weights divide by 448 instead of multiplying by its inverse, and floor
    at 1e-30 instead of 1e-4. E2M1 codes are unpacked; see `Scaled.pack`.
    """
    rule = _weight_scale if element == "f8e4m3" else _dynamic_scale
    return _quantize(np.asarray(w, dtype=np.float32), element, block, rule)


def round_trip(x: npt.ArrayLike, element: str, group: int) -> F32:
    """`x` quantised and dequantised to BF16, as the caches hold it; same shape. See `quantize`."""
    # A code has at most 4 significant bits and scales are powers of two: already BF16.
    return quantize(x, element, group).dequantize()


def _dynamic_scale(magnitude: F32, element: _Element) -> F32:
    floored = np.maximum(magnitude, np.float32(element.floor))
    if not element.powers:
        scale: F32 = np.divide(floored, np.float32(element.largest), dtype=np.float32)
        return scale
    return power_of_two_above(floored * np.float32(1 / element.largest))


def _weight_scale(magnitude: F32, element: _Element) -> F32:
    floored = np.maximum(magnitude, np.float32(1e-30))
    return power_of_two_above(floored / np.float32(element.largest))


def _quantize(
    x: F32, name: str, block: tuple[int, ...], scale_rule: Callable[[F32, _Element], F32]
) -> Scaled:
    element = _element(name)
    blocks = _split(x, block)
    within = tuple(range(-1, -2 * len(block), -2))
    largest = np.abs(blocks).max(axis=within)
    broken = ~np.isfinite(largest)
    if broken.any() and name == "f4e2m1":
        raise ValueError("E2M1 cannot hold NaN or infinity; the input has at least one")
    scale = scale_rule(np.where(broken, np.float32(1), largest), element)
    codes = element.encode(blocks / _beside_blocks(scale, block))
    scales: npt.NDArray[Any] = encode_e8m0(scale) if element.powers else scale
    if broken.any():
        codes[np.broadcast_to(np.expand_dims(broken, within), codes.shape)] = element.broken
        scales[broken] = E8M0_NAN if element.powers else np.nan
    return Scaled(_join(codes, x.shape), scales, name, block)


# --- Products ------------------------------------------------------------------------------------


def scaled_product(x: Scaled, w: Scaled, multiply: Callable[[F32, F32], F32] = np.matmul) -> F32:
    """x [M, K] times the transpose of w [N, K] -> [M, N] float32, as the FP8 and FP4 kernels do.

    The sum over the K blocks of `w`, in order, of (codes @ codes.T) * scale of x * scale of w.
    INT8 codes are summed exactly, as int32 does, and each block's sum is rounded to float32 once.
    Others are multiplied by `multiply`, [M, K] by [K, N].
    ValueError unless both are matrices of one K and each block of `w` lies in one group of `x`.
    """
    step = _common_step(x, w)
    product = _integer_product if x.element == w.element == "i8" else multiply
    rows, columns = x.shape[0], w.shape[0]
    total = np.zeros((rows, columns), dtype=np.float32)
    # Powers of two scale without rounding, so E8M0 scales go into the operands once instead of
    # into every partial product; even the smallest code and scale, 2^-9 and 2^-127, stay exact.
    # One BLAS call over all of K would be faster for many rows, but would add in another order.
    exact = x.scales.dtype == w.scales.dtype == np.uint8
    left, right = (x.dequantize(), w.dequantize()) if exact else (x.values(), w.values())
    x_scale = x.scale_values().repeat(x.block[0], axis=0)[:rows]
    w_scale = w.scale_values().repeat(w.block[0], axis=0)[:columns]
    for start in range(0, x.shape[1], step):
        span = slice(start, start + step)
        part = product(left[:, span], right[:, span].T)
        if not exact:
            part *= x_scale[:, start // x.block[1], None]
            part *= w_scale[:, start // w.block[1]]
        total += part
    return total


# So many products of two bytes have a sum within 2^24: exact in float32 in any order.
_EXACT_TERMS = 2**24 // 128**2
_INT32_TERMS = (2**31 - 1) // 128**2


def _integer_product(x: F32, w: F32) -> F32:
    """Exact sums of products of INT8 codes, [M, K] by [K, N], each rounded once to float32.

    ValueError where int32, in which machines sum, could overflow.
    """
    width = x.shape[1]
    if width > _INT32_TERMS:
        raise ValueError(f"int32 sums at most {_INT32_TERMS} products of INT8; got {width}")
    total = np.zeros((x.shape[0], w.shape[1]), dtype=np.int32)
    for start in range(0, width, _EXACT_TERMS):
        span = slice(start, start + _EXACT_TERMS)
        total += np.matmul(x[:, span], w[span]).astype(np.int32)
    return total.astype(np.float32)


def _common_step(x: Scaled, w: Scaled) -> int:
    """Width of the K blocks that `scaled_product` sums, once the operands are known to fit."""
    if len(x.shape) != 2 or len(w.shape) != 2 or x.shape[1] != w.shape[1]:
        raise ValueError(f"a scaled product needs [M, K] and [N, K]; got {x.shape} and {w.shape}")
    if len(x.block) != 2 or len(w.block) != 2 or x.block[1] % w.block[1]:
        raise ValueError(f"blocks of {w.block} do not lie in single groups of {x.block}")
    return w.block[1]


def hadamard(x: npt.ArrayLike) -> F32:
    """The orthonormal Sylvester-Hadamard transform of the last axis; same shape.

    Float32 throughout, the factor applied once at the end. ValueError when the last axis is not a
    power of two.
    """
    result = np.asarray(x, dtype=np.float32)
    size = result.shape[-1]
    if size < 1 or size & (size - 1):
        raise ValueError(f"a Hadamard transform needs a power of two; got shape {result.shape}")
    # Each step transforms the lowest bit of the index and moves it to the top; after log2(size)
    # steps every bit has had its turn and is back in its place.
    for _ in range(size.bit_length() - 1):
        even, odd, result = result[..., 0::2], result[..., 1::2], np.empty_like(result)
        np.add(even, odd, out=result[..., : size // 2])
        np.subtract(even, odd, out=result[..., size // 2 :])
    return result * np.float32(size**-0.5)
