"""The weights file: what is decoded is what was encoded, whatever it is; what nobody encoded is refused."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from bench.compress.coding import huffman
from bench.compress.coding.entropy import MAGIC, Hashing, encode_weights
from bench.compress.coding.entropy_read import decode_weights
from bench.compress.coding.hashing import buckets
from bench.compress.coding.varint import Reader, varint
from bench.errors import InvalidInput

BITS = st.sampled_from([0, 0, 0, 0x80000000, 0x3F800000, 0x7FC00001, 0x7F800001, 0xFF800000, 1, 0x40490FDB])


def textbook_bits(counts: list[int]) -> int:
    """Total length of a Huffman code: merge the two rarest until one is left, and add up every merge."""
    left, total = sorted(count for count in counts if count), 0
    while len(left) > 1:
        merged = left[0] + left[1]
        total += merged
        left = sorted([*left[2:], merged])
    return total


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


@st.composite
def tensors(draw: st.DrawFn) -> np.ndarray:
    shape = draw(nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    kind = draw(st.sampled_from(["any", "few", "other"]))
    if kind == "few":
        return draw(nps.arrays(np.uint32, shape, elements=BITS)).view(np.float32).reshape(shape)
    if kind == "any":
        return draw(nps.arrays(np.uint32, shape)).view(np.float32).reshape(shape)
    return draw(nps.arrays(draw(st.sampled_from([np.int64, np.float16, np.uint8, np.bool_, np.float64])), shape))


@given(st.dictionaries(st.text(max_size=12), tensors(), max_size=5))
def test_what_is_decoded_is_what_was_encoded_to_the_bit(state):
    assert same(decode_weights(encode_weights(state)), state)


@given(st.integers(0, 2**32), st.integers(0, 5000), st.floats(0, 1), st.sampled_from([0, 1, 2, 16, 300]))
@example(0, 0, 0.5, 16)
@example(1, 5000, 0.0, 16)
@example(2, 5000, 1.0, 1)
@example(3, 2048, 0.999, 0)
@settings(max_examples=60)
def test_pruned_and_shared_layers_come_back_to_the_bit(seed, size, zeros, distinct):
    generator = np.random.default_rng(seed)
    book = generator.standard_normal(max(distinct, 1)).astype(np.float32)
    values = book[generator.integers(0, len(book), size)] if distinct else generator.standard_normal(size)
    weights = np.where(generator.random(size) < zeros, 0, values).astype(np.float32)
    state = {"weight": weights, "bias": generator.standard_normal(3).astype(np.float32)}
    content = encode_weights(state)
    assert same(decode_weights(content), state)
    assert len(content) <= 4 * (size + 3) + 60


@given(st.lists(st.integers(0, 10_000), max_size=80))
def test_a_huffman_code_is_as_short_as_the_textbooks(counts):
    lengths = huffman.code_lengths(np.array(counts, dtype=np.int64))
    assert int(np.array(counts, dtype=np.int64) @ lengths.astype(np.int64)) == textbook_bits(counts)


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=80))
def test_a_huffman_code_is_within_a_bit_of_the_entropy_and_complete(counts):
    lengths = huffman.code_lengths(np.array(counts))
    total = sum(counts)
    entropy = -sum(count / total * math.log2(count / total) for count in counts)
    mean = sum(count * int(length) for count, length in zip(counts, lengths, strict=True)) / total
    assert entropy - 1e-9 <= mean < entropy + 1
    assert sum(2.0 ** -int(length) for length in lengths) == 1.0


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40))
def test_canonical_codes_are_free_of_prefixes_and_grow_with_length_and_symbol(counts):
    lengths = huffman.code_lengths(np.array(counts))
    codes = huffman.codes_of(lengths)
    texts = [format(int(code), f"0{n}b") for code, n in zip(codes, lengths, strict=True) if n]
    assert not any(a != b and b.startswith(a) for a in texts for b in texts)
    ordered = sorted((int(n), symbol) for symbol, n in enumerate(lengths) if n)
    lined_up = [int(codes[symbol]) << (64 - n) for n, symbol in ordered]
    assert lined_up == sorted(set(lined_up))


def test_codes_as_long_as_counts_that_grow_like_fibonaccis_make_them():
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    lengths = huffman.code_lengths(np.array(counts))
    assert lengths.max() == 29
    symbols = np.random.default_rng(0).permutation(np.repeat(np.arange(20), counts[:20]))
    content = huffman.encode(symbols, 20)
    assert len(content) == huffman.coded_bytes(np.bincount(symbols))
    assert np.array_equal(huffman.decode(Reader(content, "f"), 20, most=len(symbols)), symbols)


@given(st.integers(0, 3 * huffman.BLOCK), st.integers(1, 70), st.integers(0, 99))
@settings(max_examples=40)
def test_symbols_come_back_at_every_length_of_the_last_block_and_the_size_is_foretold(count, alphabet, seed):
    symbols = np.random.default_rng(seed).geometric(0.2, count) % alphabet
    content = huffman.encode(symbols, alphabet)
    assert len(content) == huffman.coded_bytes(np.bincount(symbols, minlength=alphabet))
    assert np.array_equal(huffman.decode(Reader(content, "f"), alphabet, most=count), symbols)


@given(st.binary(max_size=200))
def test_bytes_nobody_wrote_are_refused(content):
    with pytest.raises(InvalidInput, match="mine"):
        decode_weights(content, name="mine")


SAMPLE = encode_weights(
    {
        "fc.weight": np.where(np.arange(3000) % 7 == 0, np.float32(0.3) * (np.arange(3000) % 5), 0).astype(np.float32),
        "fc.bias": np.random.default_rng(0).standard_normal(10).astype(np.float32),
        "conv.weight": np.where(np.arange(90) % 3 == 0, np.random.default_rng(1).standard_normal(90), 0).astype("f4"),
        "ternary.weight": np.where(np.arange(400) % 3, np.arange(400) // 40 * np.float32(0.3) + 1, 0)
        .astype("f4")
        .reshape(10, 40),
        "steps": np.array(3),
    }
)


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


@given(st.integers(0, len(SAMPLE) - 5), st.integers(1, 255), st.integers(0, 40))
@settings(max_examples=300)
def test_a_forged_file_with_a_good_checksum_is_read_within_its_limit_or_refused(place, change, cut):
    body = bytearray(SAMPLE[:-4])
    body[place] ^= change
    try:
        found = decode_weights(sealed(bytes(body[: len(body) - cut])), limit_bytes=1 << 16)
    except InvalidInput:
        return
    assert sum(array.nbytes for array in found.values()) <= 1 << 16


@pytest.mark.parametrize("place", range(0, len(SAMPLE), 7))
def test_a_damaged_or_cut_file_is_refused(place):
    damaged = bytearray(SAMPLE)
    damaged[place] ^= 1
    for content in (bytes(damaged), SAMPLE[:place]):
        with pytest.raises(InvalidInput):
            decode_weights(content)


def test_a_file_that_claims_a_terabyte_is_refused_before_any_is_allocated():
    zeros = varint(7) + varint(0) + b"\0\0"
    head = MAGIC + varint(0) + varint(1) + varint(1) + b"w" + bytes([0, 2]) + varint(2) + varint(2**20) + varint(2**20)
    with pytest.raises(InvalidInput, match=r"'w' of shape .* would take over 268435456 bytes"):
        decode_weights(sealed(head + zeros + b"\4"))
    small = MAGIC + varint(0) + varint(1) + varint(1) + b"w" + bytes([0, 2]) + varint(1) + varint(9)
    assert not decode_weights(sealed(small + zeros + b"\4"))["w"].any()


def test_pruned_and_shared_weights_take_about_their_entropy():
    generator = np.random.default_rng(0)
    book = generator.standard_normal(16).astype(np.float32)
    index = np.clip(generator.normal(8, 2, 300_000), 0, 15).astype(int)
    kept = generator.random(300_000) < 0.08
    weights = np.where(kept, book[index], 0).astype(np.float32)
    shares = np.bincount(index[kept]) / kept.sum()
    values = -sum(p * math.log2(p) for p in shares if p)
    places = -(0.08 * math.log2(0.08) + 0.92 * math.log2(0.92)) / 0.08
    bits = 8 * len(encode_weights({"w": weights})) / kept.sum()
    assert values + places < bits < 1.03 * (values + places)


def test_a_codebook_shared_over_layers_is_written_once():
    book = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    index = np.random.default_rng(1).integers(0, 256, (6, 5000))
    one = len(encode_weights({"0": book[index[0]]}))
    six = len(encode_weights({str(layer): book[index[layer]] for layer in range(6)}))
    assert six < 6 * one - 5 * 1024 + 60


def test_ternary_filters_with_a_scale_each_take_two_numbers_a_filter_and_under_two_bits_a_weight():
    generator = np.random.default_rng(0)
    signs = generator.choice([-1, 0, 1], (64, 32, 3, 3))
    weights = (signs * generator.random((64, 1, 1, 1))).astype(np.float32)
    content = encode_weights({"w": weights})
    assert same(decode_weights(content), {"w": weights})
    assert len(content) < 64 * 2 * 4 + 64 * 32 * 9 * 2 / 8
    binary = np.where(weights >= 0, np.abs(weights).max(axis=(1, 2, 3), keepdims=True), -1).astype(np.float32)
    content = encode_weights({"w": binary})
    assert same(decode_weights(content), {"w": binary})
    assert len(content) < 64 * 2 * 4 + 64 * 32 * 9 / 8 + 100


def test_hashed_weights_take_a_number_a_bucket():
    values = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    weights = np.empty(5000, dtype=np.float32)
    for place, bucket in buckets("fc.weight", 5000, 50, 7):
        weights[place] = values[bucket]
    state = {"fc.weight": weights.reshape(50, 100)}
    content = encode_weights(state, {"fc.weight": Hashing(buckets=50, seed=7)})
    assert len(content) == 4 * 50 + 28
    assert same(decode_weights(content), state)
    weights[7] += 1
    assert same(decode_weights(encode_weights(state, {"fc.weight": Hashing(buckets=50, seed=7)})), state)


def test_the_hash_is_the_documented_one_and_even():
    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    start = zlib.crc32(b"fc.weight") * 2**32 + 5 * 0x9E3779B97F4A7C15
    found = np.concatenate([bucket for _, bucket in buckets("fc.weight", 20_000, 10, 5)])
    assert found[:50].tolist() == [mix((start + index) % 2**64) % 10 for index in range(50)]
    counts = np.bincount(found, minlength=10)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_numbers_that_float16_holds_take_two_bytes():
    halves = np.random.default_rng(0).standard_normal(1000).astype(np.float16).astype(np.float32)
    assert len(encode_weights({"w": halves})) < 2040
    assert same(decode_weights(encode_weights({"w": halves})), {"w": halves})
