"""Writes the corpora of the fuzz targets:  python3 make_corpus.py  (beside this file; the same bytes every time)."""
import io
import json
import struct
import zipfile
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


# ---- NumPy ----

def npy(header, data=b"", version=1, length=None):
    header = (header if isinstance(header, bytes) else header.encode()) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header) if length is None else length) + header + data


def npy_header(descr="<f4", fortran=False, shape="(2, 3)"):
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"


def make_npy():
    six = bytes(range(24))
    save("npy", "valid", npy(npy_header(), six))
    save("npy", "valid_v2", npy(npy_header(), six, version=2))
    save("npy", "valid_fortran", npy(npy_header(fortran=True), six))
    save("npy", "valid_fortran_4d", npy(npy_header("|u1", True, "(2, 3, 2, 2)"), six))
    save("npy", "valid_scalar", npy(npy_header(shape="()"), six[:4]))
    save("npy", "valid_vector", npy(npy_header("<i8", shape="(3,)"), six))
    save("npy", "valid_empty", npy(npy_header(shape="(0, 5)")))
    for n in (5, 9, 40, 90):
        save("npy", f"cut_at_{n}", npy(npy_header(), six)[:n])
    save("npy", "lies_big_endian", npy(npy_header(">f4"), six))
    save("npy", "lies_objects", npy(npy_header("|O"), six))
    save("npy", "lies_shape", npy(npy_header(shape="(24000, 64)"), six))
    save("npy", "lies_shape_overflow", npy(npy_header(shape="(4294967296, 4294967296)"), six))
    save("npy", "lies_shape_number", npy(npy_header(shape="(99999999999999999999,)"), six))
    save("npy", "lies_shape_negative", npy(npy_header(shape="(-2, -3)"), six))
    save("npy", "lies_dimensions", npy(npy_header(shape="(1, 1, 1, 1, 6)"), six))
    save("npy", "lies_header_length", npy(npy_header(), six, length=65535))
    save("npy", "lies_header_twice", npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", six))
    save("npy", "lies_header_missing", npy("{'descr': '<f4', 'shape': (6,)}", six))
    save("npy", "lies_header_code", npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': (6,)}", six))
    save("npy", "lies_version", npy(npy_header(), six, version=9))


# ---- pickles ----

def uni(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def num(n):
    return b"K" + bytes([n]) if 0 <= n < 256 else b"\x8a\x08" + struct.pack("<q", n)


def tup(*items):
    return b"(" + b"".join(items) + b"t"


def storage(key="0", cls="FloatStorage", n=64):
    return tup(uni("storage"), b"ctorch\n" + cls.encode() + b"\n", uni(key), uni("cpu"), num(n)) + b"Q"


def view(shape, strides, offset=0, **kwargs):
    return (b"ctorch._utils\n_rebuild_tensor_v2\n" + tup(storage(**kwargs), num(offset), tup(*map(num, shape)), tup(*map(num, strides)), b"\x89",
            b"ccollections\nOrderedDict\n)R") + b"R")


def program(body):
    return b"\x80\2" + body + b"."


def state(**items):
    return program(b"}(" + b"".join(uni(k.replace("__", ".")) + v for k, v in items.items()) + b"u")


PICKLES = {
    "valid": state(a__weight=view([2, 3], [3, 1]), b=view([4], [1], 2, key="1", cls="ShortStorage"), k=num(32), lr=b"G" + struct.pack(">d", 1e-3), name=uni("relu"),
                   none=b"N", yes=b"\x88", dtype=b"ctorch\nbfloat16\n", dims=b"](" + num(1) + num(2) + b"e", config=b"}" + uni("inner") + num(1) + b"s"),
    "valid_strided": state(a=view([3, 2], [1, 3]), b=view([2, 2, 2, 2], [1, 2, 4, 8], 5), c=view([4], [3])),
    "valid_parameter": state(a=b"ctorch._utils\n_rebuild_parameter\n" + tup(view([2], [1]), b"\x88", b"N") + b"R"),
    "valid_ordered": program(b"ccollections\nOrderedDict\n)R(" + uni("a") + view([], []) + b"u}" + uni("_metadata") + b"}sb"),
    "valid_memo": program(b"}q\0" + uni("a") + b"q\1" + view([2], [1]) + b"q\2s" + uni("b") + b"h\2s"),
    "valid_protocol_4": b"\x80\4\x95" + bytes(8) + b"}\x94(\x8c\1a\x94K\5\x8c\1b\x8c\5torch\x8c\7float32\x93u.",
    "valid_empty": state(a=view([0, 3], [3, 1])),
    "lies_calls_system": program(b"cposix\nsystem\n" + uni("true") + b"\x85R"),
    "lies_calls_eval": b"\x80\4\x8c\x08builtins\x8c\4eval\x93\x8c\5print\x85R.",
    "lies_calls_storage": program(b"ctorch\nFloatStorage\n)R"),
    "lies_stride_escape": state(a=view([8, 8], [60, 1])),
    "lies_stride_overflow": state(a=view([2, 2], [2 ** 62, 2 ** 62])),
    "lies_stride_negative": state(a=view([2], [-1], 4)),
    "lies_stride_zero": state(a=view([2 ** 40], [0])),
    "lies_offset": state(a=view([2], [1], 2 ** 62)),
    "lies_shape_negative": state(a=view([-2], [1])),
    "lies_dimensions": state(a=view([1] * 5, [1] * 5)),
    "lies_dimensions_differ": state(a=view([2], [1, 1])),
    "lies_storage": state(a=view([2], [1], key="9")),
    "lies_storage_short": state(a=view([8], [1], key="1")),
    "lies_storage_class": program(tup(uni("storage"), num(1), uni("0"), uni("cpu"), num(1)) + b"Q"),
    "lies_not_a_dict": program(b"](K\1e"),
    "lies_contains_itself": program(b"}q\0" + uni("a") + b"h\0s"),
    "lies_many_paths": program(b"}q\0" + b"".join(b"}q" + bytes([i + 1]) + b"(" + b"".join(num(j) + b"h" + bytes([i]) for j in range(9)) + b"u\x86" for i in range(12))
                               + b"0h\x0c"),
    "lies_twice": program(b"}" + uni("a") + num(1) + b"s" + uni("a") + num(2) + b"s"),
    "lies_key": program(b"}N" + num(1) + b"s"),
    "lies_memo": program(b"h\7"),
    "lies_memo_huge": program(b"}r\xff\xff\xff\xff"),
    "lies_stack_empty": program(b"s"),
    "lies_no_mark": program(b"}u"),
    "lies_mark_in_between": program(b"}(" + uni("a") + b"(s"),
    "lies_odd_items": program(b"}(" + uni("a") + b"u"),
    "lies_string_length": b"\x80\2X\xff\xff\xff\xffa",
    "lies_string_length_64": b"\x80\4\x8d" + b"\xff" * 8 + b"a",
    "lies_opcode": program(b"i"),
    "lies_no_end": b"\x80\2}",
}


def make_pickle():
    for name, data in PICKLES.items():
        save("pickle", name, data)
    for n in (0, 1, 40, 120, 300):
        save("pickle", f"cut_at_{n}", PICKLES["valid"][:n])


# ---- zip ----

def zipped(members, deflated=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as z:
        for name, data in members.items():
            z.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED)
    return out.getvalue()


def changed(data, at, new):
    return data[:at] + new + data[at + len(new):]


def make_zip():
    model = {"a/data.pkl": PICKLES["valid"], "a/byteorder": b"little", "a/data/0": bytes(256), "a/data/1": bytes(16)}
    arrays = {"W.npy": npy(npy_header(), bytes(24)), "b.npy": npy(npy_header(fortran=True), bytes(24))}
    torch, deflated, numpy = zipped(model), zipped(model, True), zipped(arrays)
    end = torch.rindex(b"PK\5\6")
    first = torch.index(b"PK\1\2")
    save("zip", "valid_torch", torch)
    save("zip", "valid_torch_deflated", deflated)
    save("zip", "valid_numpy", numpy)
    save("zip", "valid_numpy_deflated", zipped(arrays, True))
    save("zip", "valid_comment", changed(torch, end + 20, b"\5\0") + b"hello")
    directory = torch[first:end]
    end64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 4, 4, len(directory), first)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, end, 1)
    save("zip", "valid_zip64", torch[:end] + end64 + locator + changed(torch[end:], 10, b"\xff" * 10))
    wide = changed(changed(changed(directory, 20, b"\xff" * 8), 42, b"\xff" * 4), 30, b"\x1c\0")
    at = 46 + len("a/data.pkl")
    wide = wide[:at] + struct.pack("<HHQQQ", 1, 24, len(PICKLES["valid"]), len(PICKLES["valid"]), 0) + wide[at:]
    save("zip", "valid_zip64_member", torch[:first] + wide + changed(torch[end:], 12, struct.pack("<I", len(wide))))
    save("zip", "lies_zip64_offset", torch[:end] + end64 + changed(locator, 8, b"\xff" * 8) + torch[end:])
    save("zip", "lies_zip64_count", torch[:end] + changed(end64, 32, b"\xff" * 8) + locator + torch[end:])
    save("zip", "lies_zip64_size", torch[:end] + changed(end64, 40, b"\xff" * 16) + locator + torch[end:])
    save("zip", "lies_zip64_member_missing", changed(torch, first + 20, b"\xff" * 8))
    for n in (3, 21, 100, end, len(torch) - 1):
        save("zip", f"cut_at_{n}", torch[:n])
    save("zip", "lies_directory_offset", changed(torch, end + 16, b"\xf0\xff\xff\x7f"))
    save("zip", "lies_directory_size", changed(torch, end + 12, b"\1\0\0\0"))
    save("zip", "lies_count", changed(torch, end + 10, b"\xff\x7f"))
    save("zip", "lies_volumes", changed(torch, end + 4, b"\1\0"))
    save("zip", "lies_encrypted", changed(torch, first + 8, b"\1\0"))
    save("zip", "lies_method", changed(torch, first + 10, b"\x5d\0"))
    save("zip", "lies_stored_size", changed(torch, first + 24, b"\xff\0\0\0"))
    save("zip", "lies_packed_size", changed(torch, first + 20, b"\xff\xff\xff\x7f"))
    save("zip", "lies_member_offset", changed(torch, first + 42, b"\xff\xff\xff\x7f"))
    save("zip", "lies_name_length", changed(torch, first + 28, b"\xff\xff"))
    save("zip", "lies_checksum", changed(deflated, deflated.index(b"PK\1\2") + 16, b"\0\0\0\0"))
    save("zip", "lies_deflate_bomb", changed(deflated, deflated.index(b"PK\1\2") + 24, b"\xff\xff\xff\x7f"))
    save("zip", "lies_deflate_size", changed(deflated, deflated.index(b"PK\1\2") + 24, b"\xff\xff\0\0"))
    save("zip", "lies_twice", changed(torch, torch.rindex(b"a/data/1"), b"a/data/0"))
    save("zip", "lies_byteorder", zipped({**model, "a/byteorder": b"big"}))
    save("zip", "lies_no_tensors", zipped({"readme": b"hello"}))
    save("zip", "lies_mixed", zipped({**arrays, "c.txt": b"hello"}))
    save("zip", "lies_bare_pickle", PICKLES["valid"])


# ---- configurations of autoencoders ----

GOLDEN = HERE.parent.parent / "golden" / "sae_formats"
CONFIGURED = {"s": "saelens_standard/cfg.json", "g": "saelens_gated/cfg.json", "j": "saelens_jumprelu/cfg.json",
              "b": "saelens_checkpoint_batchtopk/cfg.json", "t": "saelens_skip_transcoder/cfg.json",
              "p": "sparsify_transcode_skip/layers.16.mlp/cfg.json", "d": "dictlearn_batch_topk/config.json",
              "2": "gemma_scope2_transcoder_affine/transcoder/layer_16_width_16k_l0_small_affine/config.json",
              "l": "llama_scope/hyperparams.json", "r": "llama_scope_r1_distill/config.json"}
WRONG = [None, -1, 0, 1, 0.5, 1e308, 2**62, True, False, "", "layer_norm", "topk", [], {}, {"k": 6}]


def make_sae_cfg():
    for letter, name in CONFIGURED.items():
        valid = json.loads((GOLDEN / name).read_text())
        inner = valid["trainer"] if letter == "d" else valid

        def put(title, cfg):
            save("sae_cfg", f"{letter}_{title}", letter.encode() + json.dumps(cfg).encode())
        put("valid", valid)
        for i, key in enumerate(inner):  # each key with another wrong value
            changed = {**inner, key: WRONG[i % len(WRONG)]}
            put(f"wrong_{key}", {**valid, "trainer": changed} if letter == "d" else changed)
        put("without_half", dict(list(valid.items())[::2]))
        put("nothing", {})
    save("sae_cfg", "s_cut", b's{"d_in": 24, "d_s')
    save("sae_cfg", "s_twice", b's{"d_in": 24, "d_in": 25, "d_sae": 64}')
    save("sae_cfg", "s_deep", b"s" + b"[" * 5000)
    save("sae_cfg", "s_legacy", b's{"d_in": 24, "d_sae": 64, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 6}}')
    save("sae_cfg", "s_white", b's{"d_in": 24, "d_sae": 64, "normalize_activations": "covariance_whitening"}')


# ---- tokenizer.json, and behind a NUL a text for it ----

def make_tokenizer_json():
    golden = HERE.parent.parent / "golden" / "tokenizers"
    letters = {c: i for i, c in enumerate(["<s>", "</s>", "<unk>", "\u2581", *"abcdehlors'", "ab", "he", "\u2581a", "\u0120", "\u010a", "<0x41>", "<0xFF>"])}
    bpe = {"type": "BPE", "vocab": letters, "merges": [["a", "b"], ["h", "e"], ["\u2581", "a"]], "unk_token": "<unk>"}
    unigram = {"type": "Unigram", "vocab": [[p, -float(i)] for p, i in letters.items()], "unk_id": 2}
    added = [{"id": 0, "content": "<s>", "special": True, "lstrip": True, "rstrip": True}, {"id": 1, "content": "</s>", "special": True},
             {"id": 30, "content": "cat", "single_word": True, "normalized": True}]

    def put(name, behind=None, **parts):
        file = json.dumps({"model": bpe, **parts}).encode()
        save("tokenizer_json", name, file + (b"" if behind is None else b"\0" + behind))
    for case in json.loads((golden / "variants.json").read_text()):  # the links that exist, on a small vocabulary
        if "tokenizer" not in case:
            continue
        file = case["tokenizer"]
        model = unigram if file["model"]["type"] == "Unigram" else {**bpe, **{k: file["model"].get(k) for k in ("byte_fallback", "fuse_unk", "ignore_merges")}}
        normal = file["normalizer"]
        if "Precompiled" in json.dumps(normal):
            normal = None
        put("valid_" + "".join(c if c.isalnum() else "_" for c in case["name"]), " a\u3000bab <s> cat 12\n".encode(), model=model, added_tokens=added, normalizer=normal,
            pre_tokenizer=file["pre_tokenizer"], decoder=file["decoder"], post_processor=file["post_processor"])
    whole = json.dumps({"model": bpe, "added_tokens": added}).encode()
    for n in (1, 20, len(whole) // 2, len(whole) - 1):
        save("tokenizer_json", f"cut_at_{n}", whole[:n])
    put("lies_no_model", model=None)
    put("lies_merge", model={**bpe, "merges": [["a", "zz"]]})
    put("lies_merge_text", model={**bpe, "merges": ["a b c", " ", ""]})
    put("lies_ids", model={**bpe, "vocab": {"a": 0, "b": 2 ** 40, "c": -1}})
    put("lies_same_id", model={**bpe, "vocab": {"a": 0, "b": 0}})
    put("lies_unknown", model={**bpe, "unk_token": "nowhere"})
    put("lies_score", model={**unigram, "vocab": [["a", 1e999], ["b", None], [1, 2]]})
    put("lies_unk_id", model={**unigram, "unk_id": 2 ** 62})
    put("lies_empty_pieces", model={**bpe, "vocab": {"": 0, "a": 1}}, added_tokens=[{"id": 2, "content": ""}])
    put("lies_added_id", added_tokens=[{"id": 2 ** 31, "content": "x"}])
    put("lies_pattern", pre_tokenizer={"type": "Split", "pattern": {"Regex": "(?<a>x)\\g<a>*[[:alpha:]"}, "behavior": "Isolated"})
    put("lies_pattern_recursive", b"aaaa", pre_tokenizer={"type": "Split", "pattern": {"Regex": "(?<a>a\\g<a>?)+$"}, "behavior": "Isolated"})
    put("lies_pattern_explodes", b"a" * 40, pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Removed"})
    put("lies_grows", b"aaaa", normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 60})
    put("lies_deep_sequence", pre_tokenizer=json.loads('{"type":"Sequence","pretokenizers":[' * 20 + "]}" * 20))
    put("lies_charsmap", b"abc", normalizer={"type": "Precompiled", "precompiled_charsmap": "AAQAAAAAAABhBQAAAAAAgP////8AAAAA"})
    put("lies_base64", normalizer={"type": "Precompiled", "precompiled_charsmap": "?"})
    put("lies_types", normalizer=[], pre_tokenizer={"type": 1}, decoder="x")
    save("tokenizer_json", "lies_deep", b'{"model":' + b"[" * 5000)
    save("tokenizer_json", "lies_nul", b'{"model": {"type": "BPE", "vocab": {"\\u0000": 0}, "merges": []}}\0a')


# ---- SentencePiece's tokenizer.model, a protocol buffer ----

def varint(v):
    return bytes([v]) if v < 128 else bytes([v & 127 | 128]) + varint(v >> 7)


def field(number, v):
    if isinstance(v, float):
        return varint(number << 3 | 5) + struct.pack("<f", v)
    return varint(number << 3) + varint(v) if isinstance(v, int) else varint(number << 3 | 2) + varint(len(v)) + v


def piece(text, score=0.0, kind=1):
    return field(1, field(1, text.encode()) + field(2, score) + field(3, kind))


def make_tokenizer_model():
    controls = piece("<unk>", kind=2) + piece("<s>", kind=3) + piece("</s>", kind=3) + piece("<mask>", kind=4) + piece("unused", kind=5)
    letters = b"".join(piece(p, -float(i)) for i, p in enumerate(["\u2581", "a", "b", "\u2581a", "ab", "it", "\u2581\u2581", "\u674e"]))
    tokens = b"".join(piece(f"<0x{b:02X}>", kind=6) for b in range(256))
    units = [0] * 98
    units[ord("a")] = ord("a") | 1 << 8 | 1 << 10

    def put(name, pieces=controls + letters, trainer=b"", normalizer=b""):
        save("tokenizer_model", name, pieces + field(2, trainer) + field(3, normalizer))

    def charsmap(replacements, units=units, lie=0):
        return field(2, struct.pack(f"<I{len(units)}I", 4 * len(units) + lie, *units) + replacements)
    put("valid_unigram", trainer=field(3, 1))
    put("valid_bpe", trainer=field(3, 2))
    put("valid_bytes", controls + letters + tokens, field(3, 2) + field(35, 1))
    put("valid_unigram_bytes", controls + letters + tokens, field(3, 1) + field(35, 1))
    put("valid_no_prefix", trainer=field(3, 2), normalizer=field(3, 0) + field(4, 0))
    put("valid_map", normalizer=charsmap(b"b\0"))
    put("lies_map_bytes", normalizer=charsmap(b"\xff\0"))
    put("lies_map_empty", normalizer=charsmap(b""))
    put("lies_map_size", normalizer=charsmap(b"b\0", lie=2 ** 31))
    put("lies_map_offsets", normalizer=charsmap(b"b\0", [0xffffffff] * 98))
    put("lies_no_pieces", b"")
    put("lies_twice", controls + controls)
    put("lies_score", piece("a", float("nan")))
    put("lies_type", piece("a", kind=9))
    put("lies_model_type", trainer=field(3, 4))
    put("lies_suffix", trainer=field(24, 1))
    put("lies_ids", trainer=field(3, 2) + field(40, 99) + field(41, 2 ** 64 - 1) + field(42, 2 ** 40))
    save("tokenizer_model", "lies_length", varint(1 << 3 | 2) + varint(2 ** 63) + b"a")
    save("tokenizer_model", "lies_varint", b"\xff" * 20)
    save("tokenizer_model", "lies_wire", varint(1 << 3 | 3))
    save("tokenizer_model", "cut_in_piece", (controls + letters)[:50])


# ---- chat templates ----

def make_chat_template():
    golden = HERE.parent.parent / "golden" / "chat" / "templates.json"
    seen = set()
    for case in json.loads(golden.read_text()):
        name = "".join(c if c.isalnum() else "_" for c in case["name"])
        if case["template"] not in seen and len(case["template"]) < 4000:
            save("chat_template", name, case["template"].encode())
        seen.add(case["template"])
    deep = {"parentheses": "{{ " + "(" * 5000, "lists": "{{ " + "[" * 5000, "ifs": "{% if true %}" * 5000, "attributes": "{{ a" + ".a" * 5000, "nots": "{{ " + "not " * 5000, "signs": "{{ " + "-" * 5000}
    for name, template in deep.items():
        save("chat_template", "lies_deep_" + name, template.encode())
    loops = {"loops": "{% set l = range(9999) %}{% for a in l %}{% for b in l %}{% endfor %}{% endfor %}", "range": "{{ range(9223372036854775807) }}",
             "doubles": "{% set n = namespace(x='xxxxxxxx') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
             "lists": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == n.x }}{{ n.x | tojson }}",
             "itself": "{% set n = namespace() %}{% set n.n = n %}{{ n.n.n == n }}{{ n | tojson }}", "numbers": "{{ 9223372036854775807 + 1 }}{{ -9223372036854775807 - 2 }}"}
    for name, template in loops.items():
        save("chat_template", "lies_" + name, template.encode())
    save("chat_template", "lies_list_as_text", b"{{ [1] | replace('a', 'b') }}{{ {} | trim }}")
    save("chat_template", "cut_in_tag", b"{% for m in messages ")
    save("chat_template", "cut_in_text", b"{{ 'abc")
    save("chat_template", "cut_in_comment", b"{# a")
    save("chat_template", "cut_after_open", b"{{")
    save("chat_template", "cut_backslash", b"{{ 'a\\")
    save("chat_template", "lies_no_text", b"{{ '\xff\xfe' | upper | length }}\xc0\x80{{ '\\ud800' }}\0{{ 'a\0b' }}")


if __name__ == "__main__":
    make_tokenizer_json()
    make_tokenizer_model()
    make_chat_template()
    make_sae_cfg()
    make_gguf()
    make_safetensors()
    make_npy()
    make_pickle()
    make_zip()
