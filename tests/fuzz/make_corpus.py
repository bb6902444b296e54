"""Writes the corpora of the fuzz targets:  python3 make_corpus.py  (beside this file; the same bytes every time)."""
import json
import struct
from pathlib import Path

HERE = Path(__file__).parent / "corpus"


def save(topic, name, data):
    (HERE / topic).mkdir(parents=True, exist_ok=True)
    (HERE / topic / name).write_bytes(data)


# ---- GGUF ----

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALAR = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144),
         13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
         23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66),
         39: (32, 17), 40: (64, 36)}  # number: values and bytes of a block


def text(s):
    s = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(s)) + s


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        item, items = v
        return struct.pack("<IQ", item, len(items)) + b"".join(value(item, x) for x in items)
    return struct.pack("<" + SCALAR[kind], v)


def key(name, kind, v):
    return text(name) + struct.pack("<I", kind) + value(kind, v)


def tensor(name, dims, kind, offset):
    return text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims) + struct.pack("<IQ", kind, offset)


def gguf(keys=(), tensors=(), data=b"", version=3, n_keys=None, n_tensors=None, alignment=32):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(keys) if n_keys is None else n_keys)
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


def make_gguf():
    every = [key("u8", U8, 1), key("i8", I8, -1), key("u16", U16, 2), key("i16", I16, -2), key("u32", U32, 3), key("i32", I32, -3), key("f32", F32, 0.5),
             key("bool", BOOL, True), key("text", STRING, "a\0b"), key("u64", U64, 4), key("i64", I64, -4), key("f64", F64, 1e300),
             key("words", ARRAY, (STRING, ["one", "", "three"])), key("numbers", ARRAY, (F32, [1, 2])), key("none", ARRAY, (U8, []))]
    valid = gguf(every, [tensor("a", [3, 2], 0, 0), tensor("b", [32], 2, 32)], bytes(range(24)) + bytes(8) + bytes(18))
    save("gguf", "valid_every_kind", valid)
    save("gguf", "valid_v2", valid[:4] + b"\2" + valid[5:])
    save("gguf", "valid_empty", gguf())
    save("gguf", "valid_alignment_64", gguf([key("general.alignment", U32, 64)], [tensor("a", [1], 24, 0), tensor("b", [1], 24, 64)], b"\1" + bytes(63) + b"\2", alignment=64))
    save("gguf", "valid_no_dimensions", gguf((), [tensor("a", [], 0, 0)], bytes(4)))
    save("gguf", "valid_four_dimensions", gguf((), [tensor("a", [2, 1, 3, 1], 1, 0)], bytes(12)))
    blocks, data = [], b""
    for number, (values, size) in TYPES.items():
        blocks.append(tensor(f"t{number}", [values], number, len(data)))
        data += bytes(i * 37 % 256 for i in range(size)) + bytes(-size % 32)
    save("gguf", "valid_every_type", gguf((), blocks, data))
    for n in (0, 3, 4, 8, 20, 24, 40, len(valid) - 60, len(valid) - 1):
        save("gguf", f"cut_at_{n}", valid[:n])
    save("gguf", "lies_version_1", valid[:4] + b"\1" + valid[5:])
    save("gguf", "lies_big_endian", b"GGUF" + struct.pack(">IQQ", 3, 1, 1))
    save("gguf", "lies_tensor_count", gguf(n_tensors=2 ** 63 - 1))
    save("gguf", "lies_key_count", gguf(n_keys=2 ** 61))
    save("gguf", "lies_string_length", gguf([text("k") + struct.pack("<IQ", STRING, 2 ** 64 - 1)]))
    save("gguf", "lies_array_length", gguf([text("k") + struct.pack("<IIQ", ARRAY, U8, 2 ** 40)]))
    save("gguf", "lies_array_of_strings", gguf([text("k") + struct.pack("<IIQ", ARRAY, STRING, 4)]))
    save("gguf", "lies_nested_array", gguf([text("k") + struct.pack("<IIQIQ", ARRAY, ARRAY, 1, U8, 0)]))
    save("gguf", "lies_alignment", gguf([key("general.alignment", U32, 3)], [tensor("a", [1], 24, 0)], b"\1"))
    save("gguf", "lies_alignment_huge", gguf([key("general.alignment", U32, 2 ** 31)], [tensor("a", [1], 24, 0)], b"\1"))
    save("gguf", "lies_split", gguf([key("split.count", U16, 3), key("split.no", U16, 1)]))
    save("gguf", "lies_dimensions", gguf((), [tensor("a", [1] * 5, 24, 0)], b"\1"))
    save("gguf", "lies_shape_overflow", gguf((), [tensor("a", [2 ** 62, 4], 0, 0)], bytes(32)))
    save("gguf", "lies_shape_negative", gguf((), [tensor("a", [2 ** 64 - 1], 0, 0)], bytes(32)))
    save("gguf", "lies_rows_not_whole", gguf((), [tensor("a", [16, 2], 2, 0)], bytes(32)))
    save("gguf", "lies_offset", gguf((), [tensor("a", [1], 24, 2 ** 63 - 32)], bytes(32)))
    save("gguf", "lies_overlap", gguf((), [tensor("a", [1], 24, 0), tensor("b", [1], 24, 0)], bytes(64)))
    save("gguf", "lies_type", gguf((), [tensor("a", [1], 4, 0)], bytes(32)))
    save("gguf", "lies_twice", gguf([key("k", U8, 1), key("k", U8, 1)]))


# ---- safetensors ----

def safetensors(header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def make_safetensors():
    def put(name, *args, **kwargs):
        save("safetensors", name, safetensors(*args, **kwargs))

    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
    header, at = {"__metadata__": {"format": "pt", "note": "\u00e9"}}, 0
    for dtype, size in sizes.items():
        header[dtype] = entry(dtype, [2, 3], at, at + 6 * size)
        at += 6 * size
    put("valid_every_type", header, bytes(i * 37 % 256 for i in range(at)))
    valid = safetensors({"b": entry("U8", [2], 1, 3), "a": entry("F8_E4M3", [], 0, 1), "none": entry("F32", [0, 4], 3, 3)}, b"123")
    save("safetensors", "valid_small", valid)
    put("valid_empty", {})
    for n in (0, 7, 8, 9, 60, len(valid) - 1):
        save("safetensors", f"cut_at_{n}", valid[:n])
    put("lies_length_huge", {}, length=2 ** 62)
    put("lies_length_past_end", {}, length=3)
    put("lies_length_short", {"a": entry("U8", [1], 0, 1)}, b"1", length=10)
    put("lies_not_json", b"{'a': 1}")
    put("lies_deep", b'{"a":' + b"[" * 3000)
    put("lies_array", [1])
    put("lies_twice", b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}')
    put("lies_trailing", {"a": entry("U8", [1], 0, 1)}, b"12")
    put("lies_hole", {"a": entry("U8", [1], 1, 2)}, b"12")
    put("lies_overlap", {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"123")
    put("lies_reversed", {"a": entry("U8", [1], 1, 0)}, b"1")
    put("lies_negative", {"a": entry("U8", [1], -1, 0)}, b"1")
    put("lies_past_end", {"a": entry("U8", [9], 0, 9)}, b"1")
    put("lies_shape_overflow", {"a": entry("F32", [2 ** 33, 2 ** 31, 2], 0, 0)})
    put("lies_shape_negative", {"a": entry("F32", [-2, -2], 0, 16)}, bytes(16))
    put("lies_dtype", {"a": entry("F24", [1], 0, 3)}, bytes(3))
    put("lies_dimensions", {"a": entry("U8", [1] * 9, 0, 1)}, b"1")
    put("lies_fields", {"a": {"dtype": 1, "shape": "x", "data_offsets": None}, "b": 2})
    put("lies_metadata", {"__metadata__": {"a": [1]}})


if __name__ == "__main__":
    make_gguf()
    make_safetensors()
