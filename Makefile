# Two doors for a newcomer, on Debian 12 as root or with sudo: `make demo` shows what loracle does,
# `make test` proves that it does it. Both install what is missing first.

JOBS ?= $(shell nproc)
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(JOBS)
export CTEST_PARALLEL_LEVEL ?= $(JOBS)

DEMO = loracle-demo
LORACLE = build/release/engine/app/loracle

PACKAGES = cmake ninja-build g++ pkg-config make git python3 libfmt-dev nlohmann-json3-dev libeigen3-dev \
           libcli11-dev libgtest-dev libbenchmark-dev libzstd-dev liblzma-dev zlib1g-dev libxxhash-dev \
           libexpected-dev libjs-vega libsqlite3-dev libssl-dev libzip-dev libcurl4-openssl-dev \
           libpugixml-dev libcpp-httplib-dev prometheus-cpp-dev libtomlplusplus-dev libspdlog-dev \
           python3-venv curl
# Chromium opens the reports that the tests make, and draws charts for `plan --svg` and `--png`; clang
# compiles what sanitizers run on, in a third of g++'s time, and llvm names the lines in their reports.
TEST_PACKAGES = chromium clang-14 libclang-rt-14-dev llvm
CLANG_PACKAGES = clang-tidy-14 clang-format-14

.PHONY: help demo test check-all bench format clean deps test-deps clang-deps torch

help:
	@echo 'make demo       plan a made-up service of 200 adapters and write a report about it'
	@echo 'make test       build and run the tests: release, then the fast ones under sanitizers'
	@echo 'make check-all  every preset: also soak tests, thread sanitizer, clang-tidy, fuzzing, GPU'
	@echo 'make bench      run the benchmarks'
	@echo 'make format     clang-format every source file'
	@echo 'make clean      delete what these made'

deps:
	@.ci/deps $(PACKAGES)

test-deps: deps
	@.ci/deps $(TEST_PACKAGES)

clang-deps:
	@.ci/deps $(CLANG_PACKAGES)

torch: deps
	@.ci/torch build/torch

demo: deps
	cmake --preset release
	cmake --build --preset release --target loracle
	@mkdir -p $(DEMO)
	$(LORACLE) trace gen zipf --rate 4 --adapters 200 --alpha 0.9 --duration-mean 6 --requests 100000 --seed 7 \
	  -o $(DEMO)/trace.jsonl
	$(LORACLE) plan $(DEMO)/trace.jsonl --model llama-3.1-8b --gpu-memory-for-loras 16GiB \
	  --html $(DEMO)/report.html --json $(DEMO)/plan.json
	@echo
	@echo 'The report: $(CURDIR)/$(DEMO)/report.html (open it in a browser)'
	@echo 'The plan:   $(CURDIR)/$(DEMO)/plan.json'

# The sanitizers come first, so that the closing lines are those of the whole suite. Afresh: where a cache is
# of another compiler, CMake drops what the preset sets, the sanitizers among it.
test: test-deps
	cmake --fresh --preset checked
	cmake --build --preset checked
	ctest --preset checked
	cmake --preset release
	cmake --build --preset release
	ctest --preset release

check-all: test-deps clang-deps torch test
	cmake --build --preset checked-all
	ctest --preset checked-all
	ctest --preset release-soak
	cmake --workflow --fresh --preset tsan
	cmake --workflow --preset tidy
	cmake --workflow --preset fuzz
	@if command -v nvcc >/dev/null 2>&1 || [ -x /usr/local/cuda/bin/nvcc ]; then \
	  cmake --workflow --preset gpu; \
	else \
	  echo 'check-all: no nvcc on this machine: preset gpu is skipped, the CUDA code was not compiled'; \
	fi

bench: deps
	cmake --preset release
	cmake --build --preset release
	@find build/release/bench -maxdepth 1 -type f -perm -u+x -name 'bench_*' | sort | while read -r binary; do \
	  echo "$$binary"; "$$binary" --benchmark_context=commit=$$(git describe --always --dirty) || exit 1; \
	done

format: clang-deps
	find policy traces sim kernels engine tests bench \
	  \( -name '*.hpp' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) \
	  -exec clang-format-14 -i {} +

clean:
	rm -rf build $(DEMO)
