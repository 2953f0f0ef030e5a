#pragma once
/// A growable array for columns of millions: an anonymous mapping that asks for huge pages.
/// Against std::vector it saves the zeroing pass (fresh pages are zero already), most page faults (2 MiB
/// pages) and the copy on growth (the kernel moves page tables instead). New elements read as all zero bytes.
/// Memory is committed as it is touched, so a generous capacity is free. Threads: one owner. No memory left
/// is a failed check, as bad_alloc would be.

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include "loracle/core/check.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

template <class T>
class HugeArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  HugeArray() = default;
  explicit HugeArray(std::size_t capacity) { reserve(capacity); }
  HugeArray(HugeArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}
  HugeArray& operator=(HugeArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~HugeArray() {
    if (data_ != nullptr) ::munmap(data_, capacity_ * sizeof(T));
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] T& operator[](std::size_t i) noexcept { return data_[i]; }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data_[i]; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

  /// Makes room for `capacity` elements; at least doubles when it must grow. Addresses may change.
  void reserve(std::size_t capacity) {
    if (capacity <= capacity_) return;
    const std::size_t elements = std::max({capacity, 2 * capacity_, kPage / sizeof(T)});
    const std::size_t bytes = elements * sizeof(T);
    void* base = data_ == nullptr ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                                  : ::mremap(data_, capacity_ * sizeof(T), bytes, MREMAP_MAYMOVE);
    LORACLE_CHECK(base != MAP_FAILED);
    if (bytes >= kHugePage) ::madvise(base, bytes, MADV_HUGEPAGE);  // advice: may be refused, costs only time
    data_ = static_cast<T*>(base);
    capacity_ = elements;
  }

  /// The first `size` elements as a column that owns them; the rest goes back to the system.
  [[nodiscard]] Column<T> take(std::size_t size) && {
    if (size == 0) return {};
    LORACLE_CHECK(size <= capacity_);
    const std::size_t mapped = capacity_ * sizeof(T);
    const std::size_t kept = (size * sizeof(T) + kPage - 1) / kPage * kPage;
    T* base = std::exchange(data_, nullptr);
    capacity_ = 0;
    const std::size_t pages = (mapped + kPage - 1) / kPage * kPage;
    if (kept < pages) ::munmap(reinterpret_cast<char*>(base) + kept, pages - kept);
    std::shared_ptr<const void> owner(base,
                                      [kept](const void* at) { ::munmap(const_cast<void*>(at), kept); });
    return Column<T>(std::move(owner), std::span<const T>(base, size));
  }

 private:
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kHugePage = std::size_t{2} << 20U;
  T* data_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace loracle
