#!/bin/sh
# under_sanitizer.sh TOOL CUDA_BIN PROGRAM...: runs a GPU test under a tool of compute-sanitizer. Exits with
# 77, "skipped", where the sanitizer, a device, or the sanitizer's support of the device is missing; with 99
# where it found an error.
set -u
tool=$1
cuda_bin=$2
shift 2

sanitizer=$(command -v compute-sanitizer || true)
[ -n "$sanitizer" ] || sanitizer="$cuda_bin/compute-sanitizer"
if [ ! -x "$sanitizer" ]; then
  echo "SKIPPED: compute-sanitizer is neither on the PATH nor in $cuda_bin"
  exit 77
fi

# The sanitizer calls a program that finds no device a failure; without it the program says that it is
# skipped.
"$@" >/dev/null
status=$?
if [ "$status" -ne 0 ]; then
  [ "$status" -ne 77 ] || echo "SKIPPED: no CUDA device"
  exit "$status"
fi

# Calls that fail on purpose are part of the tests.
log=$("$sanitizer" --tool "$tool" --error-exitcode 99 --report-api-errors no "$@" 2>&1)
status=$?
printf '%s\n' "$log"
case $log in
  *"Device not supported"*)
    echo "SKIPPED: compute-sanitizer does not support this device or this virtual machine"
    exit 77
    ;;
esac
exit "$status"
