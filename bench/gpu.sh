#!/bin/sh
# bench/gpu.sh [JSON]: builds the kernels, checks them and times them on this machine's GPU, in under eight
# minutes. Needs nvcc; torch and triton for the times (PYTHON names the interpreter, python3 if unset). No
# CMake, no other library. JSON (build/gpu-bench/kernels.json if not given) gets everything that was measured.
# Exit code: 0 all right; 1 something is wrong; 77 no GPU: everything was built, nothing was run.
set -u
cd "$(dirname "$0")/.." || exit 1
out=build/gpu-bench
json=${1:-$out/kernels.json}
python=${PYTHON:-python3}
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
if [ ! -x "$nvcc" ]; then
  echo "gpu.sh: no nvcc on the PATH or in /usr/local/cuda/bin: install the CUDA toolkit"
  exit 1
fi
mkdir -p "$out" || exit 1

# This machine's architecture, or, where there is none, all that are shipped.
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
case $arch in
  [0-9]*) code="-gencode arch=compute_$arch,code=sm_$arch" ;;
  *) code="-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]" ;;
esac
flags="-std=c++20 -O3 -Ikernels/include -Xcompiler=-fPIC $code"

compile() {  # compile SOURCE [FLAG...]: into $out, in the background
  source=$1
  shift
  # shellcheck disable=SC2086  # flags are several words
  "$nvcc" $flags "$@" -c "$source" -o "$out/$(basename "$source").o" >"$out/$(basename "$source").log" 2>&1 ||
    { echo "FAILED to compile $source"; cat "$out/$(basename "$source").log"; : >"$out/failed"; }
}

cublas=
cublas_link=
if echo '#include <cublas_v2.h>' | "$nvcc" -x cu -E - >/dev/null 2>&1; then
  cublas=-DLORACLE_BENCH_CUBLAS
  cublas_link=-lcublas
fi

rm -f "$out/failed"
jobs=$(nproc)
running=0
kernels="lora.cu device_info.cu kv_blocks.cu lora_on_device.cu slot_gather.cu slot_scatter.cu kv_planes.cpp
         lora_tokens.cpp slot_scatter_reference.cpp"
tests="device_info slot_scatter slot_gather kv_blocks lora"
sources=
for name in $kernels; do sources="$sources kernels/src/$name"; done  # the slowest is the first
for name in $tests; do sources="$sources tests/kernels/${name}_test.cu"; done
for source in $sources; do
  compile "$source" &
  running=$((running + 1))
  [ $((running % jobs)) -ne 0 ] || wait
done
compile bench/bench_kernels_gpu.cu $cublas &
wait
[ ! -e "$out/failed" ] || exit 1

objects=
for name in $kernels; do objects="$objects $out/$name.o"; done
# shellcheck disable=SC2086
"$nvcc" $code -shared $objects "$out/bench_kernels_gpu.cu.o" $cublas_link -o "$out/libloracle_kernels.so" ||
  exit 1

status=0
skipped=0
for test in $tests; do
  # shellcheck disable=SC2086
  "$nvcc" $code "$out/${test}_test.cu.o" $objects -o "$out/${test}_test" || exit 1
  printf '%s: ' "$test"
  "$out/${test}_test"
  case $? in
    0) ;;
    77) skipped=$((skipped + 1)) ;;
    *) status=1 ;;
  esac
done
[ "$status" -eq 0 ] || { echo "gpu.sh: a check failed: no times are taken"; exit 1; }
[ "$skipped" -eq 0 ] || { echo "gpu.sh: SKIPPED: no GPU: $skipped programs were built and not run"; exit 77; }

if ! "$python" -c 'import torch, triton' 2>/dev/null; then
  echo "gpu.sh: checks passed; no times: $python has no torch and triton (PYTHON=... names another)"
  exit 0
fi
"$python" bench/kernels_against_triton.py "$out/libloracle_kernels.so" --json "$json" || status=1
echo "gpu.sh: $json"
exit $status
