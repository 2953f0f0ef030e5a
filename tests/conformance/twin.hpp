#pragma once
/// A naive twin of every policy, written from the formula in the policy's header and from the paper, never
/// from the code: lists, vectors and scans, no cleverness. A policy that decides otherwise has a bug, or its
/// header has.
///
/// Threads: one owner.

#include <algorithm>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loracle/core/adapter_table.hpp"
#include "loracle/core/units.hpp"
#include "loracle/policy/capacity.hpp"

namespace loracle::testing {

/// Who may not go.
class Held {
 public:
  explicit Held(std::span<const std::uint32_t> holds) : holds_(holds) {}
  [[nodiscard]] bool operator()(Row row) const { return !holds_.empty() && holds_[index_of(row)] != 0; }

 private:
  std::span<const std::uint32_t> holds_;
};

/// What a twin is asked to make room for, and what the policy under test answered.
struct Plea {
  Row incoming = kNoRow;
  Tick now;
  Row answer = kNoRow;  // a twin whose formula leaves a choice takes this one if it is among the choices
};

class Twin {
 public:
  virtual ~Twin() = default;
  [[nodiscard]] virtual bool contains(Row row) const = 0;
  [[nodiscard]] virtual bool admit(Row, Tick, const AdapterTable&) { return true; }
  virtual void on_insert(Row row, Tick now, const AdapterTable& table) = 0;
  virtual void on_access(Row row, Tick now, const AdapterTable& table) = 0;
  virtual void on_remove(Row row) = 0;
  [[nodiscard]] virtual Row evict(const Plea& plea, const AdapterTable& table, const Held& held) = 0;
  [[nodiscard]] virtual Row shed(const Held&) { return kNoRow; }
};

struct TwinSetup {
  std::string policy;  // as on a command line
  std::uint32_t rows = 0;
  Capacity capacity;

  [[nodiscard]] std::string_view name() const { return std::string_view(policy).substr(0, policy.find(':')); }
  /// The value of `:key=`, or the default.
  [[nodiscard]] double parameter(const std::string& key, double fallback) const;
};

/// Rows in order, the newest first, with the sum of their weights.
class Queue {
 public:
  [[nodiscard]] bool has(Row row) const { return std::find(rows.begin(), rows.end(), row) != rows.end(); }
  [[nodiscard]] bool empty() const { return rows.empty(); }
  [[nodiscard]] Row oldest() const { return rows.back(); }
  void push(Row row) { rows.push_front(row); }
  void take(Row row) { rows.remove(row); }
  Row take_oldest() {
    const Row row = rows.back();
    rows.pop_back();
    return row;
  }
  /// The oldest that may go, or kNoRow.
  [[nodiscard]] Row oldest_free(const Held& held) const {
    const auto found = std::find_if(rows.rbegin(), rows.rend(), [&](Row row) { return !held(row); });
    return found == rows.rend() ? kNoRow : *found;
  }

  std::list<Row> rows;
};

/// What "|queue|" and "share" mean: bytes where bytes are limited, else entries.
class Scale {
 public:
  explicit Scale(const Capacity& capacity)
      : by_bytes_(capacity.bytes.value != kUnlimited),
        total(by_bytes_ ? capacity.bytes.value : capacity.entries) {}
  [[nodiscard]] std::uint64_t of(Row row, const AdapterTable& table) const {
    return by_bytes_ ? table.size_of(row).value : 1;
  }
  [[nodiscard]] std::uint64_t of(const Queue& queue, const AdapterTable& table) const {
    std::uint64_t sum = 0;
    for (const Row row : queue.rows) sum += of(row, table);
    return sum;
  }
  /// A part of the capacity, rounded down.
  [[nodiscard]] std::uint64_t share(double fraction) const {
    return static_cast<std::uint64_t>(static_cast<double>(total) * fraction);
  }

 private:
  bool by_bytes_;

 public:
  std::uint64_t total;
};

/// Each answers nothing for a policy it has no twin of.
[[nodiscard]] std::unique_ptr<Twin> make_order_twin(
    const TwinSetup& setup);  // lru fifo clock sieve slru size random
[[nodiscard]] std::unique_ptr<Twin> make_value_twin(
    const TwinSetup& setup);  // lfu gdsf belady hyperbolic ...
[[nodiscard]] std::unique_ptr<Twin> make_queue_twin(
    const TwinSetup& setup);  // 2q arc car lirs s3fifo wtinylfu

}  // namespace loracle::testing
