// cuBLAS's products as a shared library of C functions, for bench/kernels_peers.py: a library of its own, so
// that one that does not fit this machine costs a peer and nothing else. All matrices are row-major, of
// bfloat16 (type 3) or float16; sums are binary32; `a`, `b` and `c` are device arrays of device pointers.
// A call answers 0, or cuBLAS's status.

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <vector>

namespace {

constexpr int kBf16 = 3;  // as ElementType has it

/// The handle, ready for the stream; nullptr if there is none to be had.
cublasHandle_t handle_on(cudaStream_t stream) {
  static const cublasHandle_t handle = [] {
    cublasHandle_t made = nullptr;
    return cublasCreate(&made) == CUBLAS_STATUS_SUCCESS ? made : nullptr;
  }();
  return handle != nullptr && cublasSetStream(handle, stream) == CUBLAS_STATUS_SUCCESS ? handle : nullptr;
}

}  // namespace

extern "C" {

int cublas_version() { return CUBLAS_VERSION; }

/// count products c (m, n) = a (m, k) b (n, k)^T + beta c, all of one shape; rows of c lie c_pitch apart.
int cublas_batched(int type, int m, int n, int k, const void* const* a, const void* const* b, void* const* c,
                   int c_pitch, float beta, int count, cudaStream_t stream) {
  const cublasHandle_t handle = handle_on(stream);
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const float alpha = 1;
  const cudaDataType_t element = type == kBf16 ? CUDA_R_16BF : CUDA_R_16F;
  // Column-major: c^T (n, m) = b (k, n)^T x a^T (k, m).
  return cublasGemmBatchedEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, n, m, k, &alpha, b, element, k, a, element, k,
                             &beta, c, element, c_pitch, count, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}

#if CUBLAS_VERSION >= 120500
/// The same for products of different shapes, one a group: arrays of this machine, [groups]. Rows of a, b and
/// c lie as many elements apart as the pitches say.
int cublas_grouped(int type, int groups, const int* m, const int* n, const int* k, const void* const* a,
                   const int* a_pitch, const void* const* b, const int* b_pitch, void* const* c,
                   const int* c_pitch, float beta, cudaStream_t stream) {
  const cublasHandle_t handle = handle_on(stream);
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const auto count = static_cast<std::size_t>(groups);
  const std::vector<cublasOperation_t> transposed(count, CUBLAS_OP_T);
  const std::vector<cublasOperation_t> as_it_is(count, CUBLAS_OP_N);
  const std::vector<float> alphas(count, 1);
  const std::vector<float> betas(count, beta);
  const std::vector<int> ones(count, 1);
  const cudaDataType_t element = type == kBf16 ? CUDA_R_16BF : CUDA_R_16F;
  return cublasGemmGroupedBatchedEx(handle, transposed.data(), as_it_is.data(), n, m, k, alphas.data(), b,
                                    element, b_pitch, a, element, a_pitch, betas.data(), c, element, c_pitch,
                                    groups, ones.data(), CUBLAS_COMPUTE_32F);
}
#endif

}  // extern "C"
