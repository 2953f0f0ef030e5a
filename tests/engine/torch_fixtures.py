#!/usr/bin/env python3
"""The engine's loader against PyTorch, PEFT and safetensors themselves.

    torch_fixtures.py <loader_probe> <loracle>

Saves adapters the way people do (PEFT's save_pretrained, torch.save in both containers, every dtype), loads
them with the engine, and compares each image with the product of PyTorch, bit by bit. Exits with 77 where
torch, peft or safetensors cannot be imported. Prints one line a case; the last says how many there were.
"""

import collections
import random
import re
import string
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

try:
    import peft
    import safetensors
    import safetensors.torch
    import torch
    import transformers
except ImportError as error:
    print(f"SKIPPED: {error}; needs torch, peft, transformers and safetensors")
    sys.exit(77)

PROBE, LORACLE = sys.argv[1:3]
SERVING = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
cases = 0
failures = []


def case(name, good, detail=""):
    global cases
    cases += 1
    print(f"{'ok' if good else 'FAILED'}: {name} {'' if good else detail}")
    if not good:
        failures.append(name)


def run(*arguments, text=None):
    return subprocess.run([str(a) for a in arguments], input=text, capture_output=True, text=True)


def compare(name, directory, tensors, scaling, dtypes=SERVING):
    """The image of the adapter in `directory` against {module: (A, B)} and {module: scaling}."""
    for dtype_name, dtype in dtypes.items():
        image_path = directory / "image"
        answer = run(PROBE, "image", directory, dtype_name, image_path)
        if answer.returncode != 0:
            case(f"{name} as {dtype_name}", False, answer.stderr)
            continue
        image = torch.frombuffer(bytearray(image_path.read_bytes()), dtype=dtype)
        seen = 0
        good = True
        for line in answer.stdout.splitlines():
            module, *numbers = line.split()
            rank, columns, rows, a_at, b_at = map(int, numbers)
            a, b = tensors[module]
            scale = torch.tensor(scaling[module], dtype=torch.float32)
            a = a.float().to(dtype).flatten()
            b = (b.float() * scale).to(dtype).flatten()
            good &= torch.equal(image[a_at:a_at + rank * columns], a)
            good &= torch.equal(image[b_at:b_at + rank * rows], b)
            seen += 1
        case(f"{name} as {dtype_name}", good and seen == len(tensors), "bits differ or a module is missing")


def modules_of(state):
    """{module: (A, B)} of a PEFT state dict."""
    modules = {}
    for name, tensor in state.items():
        module, kind = re.fullmatch(r"base_model\.model\.(.*)\.lora_([AB])\.weight", name).groups()
        modules.setdefault(module, {})[kind] = tensor
    return {module: (both["A"], both["B"]) for module, both in modules.items()}


def llama():
    config = transformers.LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=3,
                                      num_attention_heads=4, num_key_value_heads=2, vocab_size=64)
    return transformers.LlamaForCausalLM(config)


def peft_model(dtype, **options):
    options = {"r": 8, "lora_alpha": 12, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options}
    model = peft.get_peft_model(llama(), peft.LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = torch.randn_like(parameter).to(dtype)  # PEFT starts B at zero
    return model


def scaling_of(model):
    return {name.removeprefix("base_model.model."): module.scaling["default"]
            for name, module in model.named_modules()
            if hasattr(module, "scaling") and hasattr(module, "lora_A")}


def check_peft(root):
    variants = {
        "plain": {},
        "rslora": {"use_rslora": True},
        "scale 1": {"lora_alpha": 8},
        "rank 64": {"r": 64, "target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    }
    # Older ones look rank and alpha up under one key.
    if hasattr(peft.utils.other, "get_pattern_key"):
        variants["patterns"] = {
            "rank_pattern": {"layers.1.self_attn.q_proj": 3, r"layers\.[02]\.mlp\..*": 5, "v_proj": 16},
            "alpha_pattern": {r"(q|k)_proj": 7, "model.layers.0.mlp.up_proj": 4}}
    for name, options in variants.items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            model = peft_model(dtype, **options)
            state = peft.get_peft_model_state_dict(model)
            for safe in (True, False):
                directory = root / f"{name} {dtype} {safe}".replace(" ", "-")
                model.save_pretrained(directory, safe_serialization=safe)
                compare(f"PEFT {name}, {dtype}, {'safetensors' if safe else 'bin'}", directory,
                        modules_of(state), scaling_of(model))


def save_config(directory, rank, alpha):
    directory.mkdir()
    peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=["q_proj"]).save_pretrained(directory)


def check_torch_save(root):
    """What torch.save can do with a dict of LoRA tensors."""
    all_dtypes = [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
    for dtype in all_dtypes:
        tensors = {f"m.{i}.q_proj": (torch.randn(4, 10 + i).to(dtype), torch.randn(7, 4).to(dtype))
                   for i in range(3)}
        state = {}
        for module, (a, b) in tensors.items():
            state[f"base_model.model.{module}.lora_A.weight"] = a
            state[f"base_model.model.{module}.lora_B.weight"] = b
        scaling = dict.fromkeys(tensors, 6 / 4)
        ordered = collections.OrderedDict(state)
        ordered._metadata = {"": {"version": 1}}
        joined = torch.cat([t.float().flatten() for t in state.values()]).to(dtype)
        views, at = {}, 0
        for key, tensor in state.items():
            views[key] = joined[at:at + tensor.numel()].view(tensor.shape)
            at += tensor.numel()
        forms = {"dict": state, "state_dict with metadata": ordered, "views of one storage": views}
        if dtype.is_floating_point and dtype.itemsize > 1:
            forms["parameters"] = {k: torch.nn.Parameter(t) for k, t in state.items()}
        for form, value in forms.items():
            for legacy in (False, True):
                for protocol in (2, 4, 5):
                    container = "legacy" if legacy else "zip"
                    directory = root / f"{dtype}-{form}-{container}-{protocol}".replace(" ", "-")
                    save_config(directory, 4, 6)
                    torch.save(value, directory / "adapter_model.bin", pickle_protocol=protocol,
                               _use_new_zipfile_serialization=not legacy)
                    compare(f"torch.save {dtype}, {form}, {container}, protocol {protocol}", directory,
                            tensors, scaling, {"bfloat16": torch.bfloat16})
        directory = root / f"{dtype}-deflated"
        save_config(directory, 4, 6)
        torch.save(state, root / "plain.bin")
        with zipfile.ZipFile(root / "plain.bin") as old, \
                zipfile.ZipFile(directory / "adapter_model.bin", "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.namelist():
                new.writestr(entry, old.read(entry))
        compare(f"{dtype}, packed anew with deflate", directory, tensors, scaling)


def check_refused(root):
    """What would change the meaning of an adapter, or run code, is refused."""
    tensor = torch.randn(4, 4)
    a_name, b_name = (f"base_model.model.m.q_proj.lora_{kind}.weight" for kind in "AB")
    good = {a_name: tensor, b_name: tensor.clone()}
    bad = {
        "transposed": {**good, a_name: tensor.t()},
        "int64": {**good, a_name: torch.ones(4, 4, dtype=torch.int64)},
        "nested": {"state_dict": good},
        "shared": {**good, b_name: tensor},
        "a module": torch.nn.Linear(2, 2),
        "a config": {**good, "config": peft.LoraConfig()},
        "numpy": {**good, a_name: tensor.numpy()},
    }
    for name, value in bad.items():
        for legacy in (False, True):
            directory = root / f"bad-{name}-{legacy}".replace(" ", "-")
            save_config(directory, 4, 4)
            torch.save(value, directory / "adapter_model.bin", _use_new_zipfile_serialization=not legacy)
            answer = run(PROBE, "image", directory, "bfloat16", directory / "image")
            case(f"refused: {name}, {'legacy' if legacy else 'zip'}", answer.returncode == 1, answer.stderr)
            print("   ", answer.stderr.strip().replace(str(root), "..."))


def check_made(root):
    """What make-adapters writes, read by torch and by safetensors."""
    for dtype in ("bf16", "fp16", "fp32"):
        for form in ("bin", "safetensors"):
            made = run(LORACLE, "make-adapters", root / form / dtype, "--model", "tiny", "--count", "2",
                       "--dtype", dtype, "--format", form, "--ranks", "4,8")
            case(f"make-adapters {form} {dtype}", made.returncode == 0, made.stderr)
        for name in ("adapter-0000", "adapter-0001"):
            weights = f"{dtype}/{name}/adapter_model"
            pickled = torch.load(root / f"bin/{weights}.bin", weights_only=True)
            plain = safetensors.torch.load_file(root / f"safetensors/{weights}.safetensors")
            same = pickled.keys() == plain.keys() and all(torch.equal(pickled[k], plain[k]) for k in plain)
            case(f"make-adapters {dtype} {name}: both formats hold the same", same and len(plain) == 28)
            for form in ("bin", "safetensors"):
                modules = modules_of(plain)
                compare(f"make-adapters {form} {dtype} {name}", root / form / dtype / name, modules,
                        dict.fromkeys(modules, 2.0))
    config = transformers.LlamaConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                      num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                                      vocab_size=256)
    model = peft.PeftModel.from_pretrained(transformers.LlamaForCausalLM(config),
                                           root / "safetensors" / "bf16" / "adapter-0000")
    loaded = modules_of(peft.get_peft_model_state_dict(model))
    plain = modules_of(safetensors.torch.load_file(
        root / "safetensors" / "bf16" / "adapter-0000" / "adapter_model.safetensors"))
    case("make-adapters: PEFT itself loads it", all(torch.equal(loaded[m][i].float(), plain[m][i].float())
                                                     for m in plain for i in (0, 1)))


def mutated(header):
    alphabet = b'{}[]",:0123456789eE.- \n\t\x80FBd'
    header = bytearray(header)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(header))
        what = random.randrange(3)
        if what == 0:
            header[at] = random.choice(alphabet)
        elif what == 1:
            header.insert(at, random.choice(alphabet))
        else:
            del header[at:at + random.randrange(1, 3)]
    return bytes(header)


def check_headers(root):
    """Headers, whole and damaged: the same ones are accepted as by the safetensors package."""
    tensors = {f"layer.{i}.weight": torch.randn(i, 3).to(dtype)
               for i, dtype in enumerate((torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn))}
    whole = safetensors.torch.save(tensors, {"format": "pt"})
    length = int.from_bytes(whole[:8], "little")
    paths, expected = [], []
    for i in range(3000):
        header = whole[8:8 + length] if i == 0 else mutated(whole[8:8 + length])
        path = root / f"{i}.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length:])
        paths.append(path)
        try:
            with safetensors.safe_open(path, "pt") as file:
                dtypes = {file.get_slice(k).get_dtype() for k in file.keys()}
            expected.append(dtypes <= {"F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
        except Exception:
            expected.append(False)
    answers = run(PROBE, "headers", text="\n".join(map(str, paths)) + "\n").stdout.splitlines()
    wrong = [(p, e, a) for p, e, a in zip(paths, expected, answers) if e != (a == "ok")]
    for path, _, answer in wrong[:10]:
        print(path.read_bytes()[8:400], answer)
    case(f"{len(paths)} headers, {sum(expected)} sound", not wrong and len(answers) == len(paths),
         f"{len(wrong)} differ")


def check_patterns():
    """Keys of rank_pattern: the same modules match as by Python's re, unless the key is refused."""
    pieces = ["q_proj", "k_proj", "layers", ".", r"\.", ".*", r"\d+", "[0-9]", "(q|k)", "1", "0", "^", "$",
              "a?", "[^.]+", "(?:x|layers)", r"\w", "_proj", "|", "*", "+", "?", "{2}", "(", ")", "[", "]",
              "model"]
    modules = ["q_proj", "model.layers.0.self_attn.q_proj", "model.layers.10.mlp.k_proj", "layers.1",
               "1.q_proj", "", "a.", "".join(random.choices(string.ascii_letters + "._01", k=20))]
    lines, expected = [], []
    for _ in range(20000):
        key = "".join(random.choices(pieces, k=random.randrange(1, 7)))
        for module in modules:
            lines.append(f"{key}\t{module}")
            try:
                expected.append("1" if re.match(rf"(.*\.)?({key})$", module) else "0")
            except re.error:
                expected.append("refused")
    answers = run(PROBE, "patterns", text="\n".join(lines) + "\n").stdout.splitlines()
    wrong = [(l, e, a) for l, e, a in zip(lines, expected, answers) if e != a and a != "refused"]
    for line in wrong[:10]:
        print(line)
    understood = sum(a != "refused" for a in answers)
    case(f"{len(lines)} pattern matches, {understood} understood", not wrong and len(answers) == len(lines))


def main():
    random.seed(1)
    torch.manual_seed(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for check in (check_peft, check_torch_save, check_refused, check_made, check_headers):
            root = Path(folder) / check.__name__
            root.mkdir()
            check(root)
    check_patterns()
    print(f"torch {torch.__version__}, peft {peft.__version__}, safetensors {safetensors.__version__}: "
          f"{cases - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
