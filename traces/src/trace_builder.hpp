#pragma once
/// Collects requests one by one and makes a Trace of them: interns names, keeps columns lazily, and at the
/// end sorts by arrival and numbers rows by first use.
/// NameTable: names end to end in one array, found through an open-addressing table of 8-byte cells kept at
/// most half full; a name costs its bytes + 8 + 16..32. TraceBuilder: a column exists from the first request
/// that fills it; requests before that get "unknown" (tokens and duration 0, tenant kNoTenant). Arrival is
/// all or nothing, which the reader checks through `expects_arrival`.
/// A request's uses are distinct: a repeated adapter counts once, at its first place.
/// Cost: O(1) a request and use; `finish` is O(n), O(n log n) when requests are out of order.
/// Errors: kTooLarge when there are more than 2^32 - 2 different names. Threads: one owner.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/core/units.hpp"
#include "loracle/traces/trace.hpp"

namespace loracle {

class NameTable {
 public:
  NameTable();
  /// The name's number: dense, by first appearance. The text is copied.
  [[nodiscard]] std::uint32_t intern(std::string_view name);
  [[nodiscard]] std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(begin_.size() - 1); }
  [[nodiscard]] std::string_view operator[](std::uint32_t id) const noexcept {
    return {text_.data() + begin_[id], static_cast<std::size_t>(begin_[id + 1] - begin_[id])};
  }
  /// Empties the table into a column. With `order`, name order[i] becomes the i-th.
  [[nodiscard]] NameColumn take();
  [[nodiscard]] NameColumn take(const std::vector<std::uint32_t>& order);

 private:
  struct Cell {  // read together on every probe
    std::uint32_t tag = 0;
    std::uint32_t id = kEmpty;
  };
  static constexpr std::uint32_t kEmpty = 0xFFFF'FFFFU;
  void grow();

  std::vector<char> text_;
  std::vector<std::uint64_t> begin_;  // [names + 1]
  std::vector<Cell> cells_;           // [power of two]
};

/// One request as a reader found it. Views must live until `add` returns. Reused from line to line.
struct RequestDraft {
  std::vector<std::string_view> adapters;  // empty: the base model
  std::string_view tenant;                 // empty: unknown
  std::optional<double> arrival_s;
  std::optional<std::uint32_t> input_tokens;
  std::optional<std::uint32_t> output_tokens;
  std::optional<float> duration_s;

  void clear() noexcept;
};

class TraceBuilder {
 public:
  void add(const RequestDraft& request);
  /// A request that uses one adapter and has no other fact.
  void add_use(std::string_view adapter);
  /// Facts about an adapter; 0 = unknown, which leaves what is known. The last word counts.
  void describe(std::string_view adapter, std::uint64_t bytes, std::uint16_t rank);

  [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }
  /// True or false once a request has been added: all have an arrival, or none has.
  [[nodiscard]] std::optional<bool> expects_arrival() const noexcept {
    return requests_ == 0 ? std::nullopt : std::optional<bool>(!arrival_s_.empty());
  }
  /// Arrivals are counted from the earliest one (for logs whose clock is the calendar's).
  void count_from_earliest() noexcept { from_earliest_ = true; }

  /// Requests, uses and columns; source, format, mapping and skipped_lines are the caller's to fill. Leaves
  /// the builder empty.
  [[nodiscard]] Result<Trace> finish();

 private:
  void add_uses_of_request(std::size_t first_use);
  void sort_by_arrival();

  NameTable adapters_;
  NameTable tenants_;
  std::uint64_t requests_ = 0;
  std::uint64_t reordered_ = 0;
  double latest_arrival_s_ = 0;
  bool from_earliest_ = false;
  std::vector<Row> uses_;                 // numbers of adapters_ until `finish`
  std::vector<std::uint64_t> use_begin_;  // [requests + 1], or empty while every request has one use
  std::vector<double> arrival_s_;         // these: [requests], or empty
  std::vector<std::uint32_t> input_tokens_;
  std::vector<std::uint32_t> output_tokens_;
  std::vector<std::uint32_t> tenant_;
  std::vector<float> duration_s_;
  std::vector<std::uint64_t> bytes_;  // [up to adapters_.size()]: facts described so far
  std::vector<std::uint16_t> rank_;
};

}  // namespace loracle
