#!/bin/sh
# bench/gpu.sh [JSON]: builds the kernels, checks them and times them on this machine's GPU, in under eight
# minutes. Needs nvcc; torch and triton for the times beside others (PYTHON names the interpreter, python3 if
# unset). No CMake, no other library. JSON (build/gpu-bench/kernels.json if not given) gets everything that
# was measured; without torch and triton only the activation, as a list.
# Exit code: 0 all right; 1 something is wrong; 77 no GPU: everything was built, nothing was run.
set -u
begun=$(date +%s)
limit=470  # seconds in all
case ${1:-} in
  "" | /*) json=${1:-} ;;
  *) json=$PWD/$1 ;;  # the caller's directory, not the repository's
esac
cd "$(dirname "$0")/.." || exit 1
out=build/gpu-bench
json=${json:-$PWD/$out/kernels.json}
python=${PYTHON:-python3}
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
if [ ! -x "$nvcc" ]; then
  echo "gpu.sh: no nvcc on the PATH or in /usr/local/cuda/bin: install the CUDA toolkit"
  exit 1
fi
mkdir -p "$out" || exit 1
rm -f "$out/failed" "$out/activation.json" "$out/libloracle_cublas.so"

left() {  # seconds that are left, at least one
  now=$(date +%s)
  [ $((limit - now + begun)) -gt 1 ] && echo $((limit - now + begun)) || echo 1
}

# This machine's architecture, or, where there is none, all that are shipped.
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
case $arch in
  [0-9]*) code="-gencode arch=compute_$arch,code=sm_$arch" ;;
  *) code="-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]" ;;
esac
flags="-std=c++20 -O3 -Ikernels/include -Xcompiler=-fPIC $code"

compile() {  # compile SOURCE [FLAG...]: into $out
  source=$1
  shift
  # shellcheck disable=SC2086  # flags are several words
  "$nvcc" $flags "$@" -c "$source" -o "$out/$(basename "$source").o" >"$out/$(basename "$source").log" 2>&1 ||
    { echo "FAILED to compile $source"; cat "$out/$(basename "$source").log"; : >"$out/failed"; }
}

# cuBLAS is a peer and no more: in a library of its own, and what is wrong with it is a note in the JSON.
cublas_peer() {
  log=$out/cublas.log
  toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  rpath=
  for folder in lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib; do
    [ ! -d "$toolkit/$folder" ] || rpath="$rpath -L$toolkit/$folder -Xlinker -rpath -Xlinker $toolkit/$folder"
  done
  # shellcheck disable=SC2086
  "$nvcc" $flags -shared bench/bench_kernels_cublas.cu $rpath -lcublas -o "$out/libloracle_cublas.so" \
    >"$log" 2>&1 || echo "gpu.sh: no cuBLAS to compare with: $(grep -m 1 -i error "$log" || tail -n 1 "$log")"
}

jobs=$(nproc)
running=0
kernels="lora.cu device_info.cu kv_blocks.cu lora_on_device.cu slot_gather.cu slot_scatter.cu kv_planes.cpp
         lora_tokens.cpp slot_scatter_reference.cpp"
tests="device_info slot_scatter slot_gather kv_blocks lora"
sources=
for name in $kernels; do sources="$sources kernels/src/$name"; done  # the slowest is the first
for name in $tests; do sources="$sources tests/kernels/${name}_test.cu"; done
for source in $sources bench/bench_kernels_gpu.cu bench/bench_kernels_activation.cu; do
  compile "$source" &
  running=$((running + 1))
  [ $((running % jobs)) -ne 0 ] || wait
done
cublas_peer &
wait
[ ! -e "$out/failed" ] || exit 1

objects=
for name in $kernels; do objects="$objects $out/$name.o"; done
# shellcheck disable=SC2086
"$nvcc" $code -shared $objects "$out/bench_kernels_gpu.cu.o" -o "$out/libloracle_kernels.so" || exit 1
# shellcheck disable=SC2086
"$nvcc" $code "$out/bench_kernels_activation.cu.o" $objects -o "$out/bench_kernels_activation" || exit 1

status=0
skipped=0
count() {  # count STATUS NAME: a check's verdict
  case $1 in
    0) ;;
    77) skipped=$((skipped + 1)) ;;
    124) echo "$2: took too long"; status=1 ;;
    *) status=1 ;;
  esac
}
for test in $tests; do
  # shellcheck disable=SC2086
  "$nvcc" $code "$out/${test}_test.cu.o" $objects -o "$out/${test}_test" || exit 1
done
for test in $tests; do
  printf '%s: ' "$test"
  timeout 60 "$out/${test}_test"
  count $? "$test"
done
[ "$status" -eq 0 ] || { echo "gpu.sh: a check failed: no times are taken"; exit 1; }
[ "$skipped" -eq 0 ] || { echo "gpu.sh: SKIPPED: no GPU: $skipped programs were built and not run"; exit 77; }

# What a sanitizer finds fails the run and costs no times. lora_test is cut to its first shapes; racecheck
# and synccheck look at shared memory and barriers, which are in no other kernel.
sanitizer() {  # sanitizer TOOL TEST [ARGUMENT...]
  tool=$1
  name=$2
  shift 2
  [ "$(left)" -gt 240 ] || { echo "$name under $tool: left out for time"; return; }
  timeout 60 sh tests/kernels/under_sanitizer.sh "$tool" "$(dirname "$nvcc")" "$out/${name}_test" "$@" \
    >"$out/$name.$tool.log" 2>&1
  code_of=$?
  case $code_of in
    0) echo "$name under $tool: clean" ;;
    77) echo "$name under $tool: $(tail -n 1 "$out/$name.$tool.log")" ;;
    124) echo "$name under $tool: not done within a minute" ;;
    *) echo "$name under $tool: FAILED"; tail -n 30 "$out/$name.$tool.log"; status=1 ;;
  esac
}
for tool in racecheck synccheck memcheck initcheck; do sanitizer "$tool" lora 13; done
for name in kv_blocks slot_gather slot_scatter; do sanitizer memcheck "$name"; done

timeout 60 "$out/bench_kernels_activation" "$out/activation.json" || { echo "activation: FAILED"; status=1; }

if ! "$python" -c 'import torch, triton' 2>/dev/null; then
  echo "gpu.sh: no times beside others: $python has no torch and triton (PYTHON=... names another)"
  [ ! -s "$out/activation.json" ] || { cp "$out/activation.json" "$json" && echo "gpu.sh: $json"; }
  exit $status
fi
seconds=$(($(left) - 30))
[ "$seconds" -gt 30 ] || seconds=30
rm -f "$json"
timeout -k 20 $((seconds + 25)) "$python" bench/kernels_against_triton.py "$out/libloracle_kernels.so" \
  --cublas "$out/libloracle_cublas.so" --activation "$out/activation.json" --json "$json" \
  --commit "$(git rev-parse HEAD 2>/dev/null || echo unknown)" --seconds "$seconds"
case $? in
  0) ;;
  77) echo "gpu.sh: no times: torch sees no GPU" ;;
  *) status=1 ;;
esac
[ -s "$json" ] || [ ! -s "$out/activation.json" ] || cp "$out/activation.json" "$json"
[ ! -s "$json" ] || echo "gpu.sh: $json"
exit $status
