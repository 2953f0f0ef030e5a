#pragma once
/// What was decided, in order: the record by which a simulator and an engine are compared.
///
/// The hash covers every field of every decision but the sequence, which the order implies, little-endian,
/// with 64-bit FNV-1a; it is the same on every platform and in every driver. It is a fingerprint, not a
/// defence. No allocation. Threads: one owner.

#include <cstdint>
#include <string_view>

#include "loracle/core/units.hpp"

namespace loracle {

/// Where an adapter is. Values reach files: never renumber.
enum class Place : std::uint8_t { kNowhere = 0, kOrigin = 1, kDisk = 2, kHost = 3, kDevice = 4 };

enum class Action : std::uint8_t {
  kHit = 1,     // was on the device already
  kLoad = 2,    // copied from `from` into slot `slot` of `to`
  kEvict = 3,   // left `from`, where it had slot `slot`; `to` is where it is offered, kNowhere if dropped
  kRefuse = 4,  // the request that needs it cannot be served
  kRemove = 5,  // taken out of `from`, where it had slot `slot`, by order: deleted, deactivated or damaged
};

struct Decision {
  std::uint64_t sequence = 0;  // 0-based
  Action action{};
  Row row = kNoRow;
  Place from = Place::kNowhere;
  Place to = Place::kNowhere;
  std::uint32_t slot = 0xFFFF'FFFFU;

  friend bool operator==(const Decision&, const Decision&) = default;
};

[[nodiscard]] std::string_view name_of(Place place) noexcept;
[[nodiscard]] std::string_view name_of(Action action) noexcept;

/// Receives every decision as it is made; for files and tests.
class DecisionSink {
 public:
  virtual ~DecisionSink() = default;
  virtual void on_decision(const Decision& decision) noexcept = 0;
};

class DecisionLog {
 public:
  explicit DecisionLog(DecisionSink* sink = nullptr) : sink_(sink) {}

  void add(Action action, Row row, Place from, Place to, std::uint32_t slot) noexcept {
    const Decision decision{count_++, action, row, from, to, slot};
    mix(static_cast<std::uint64_t>(action) | static_cast<std::uint64_t>(from) << 8U |
        static_cast<std::uint64_t>(to) << 16U);
    mix(static_cast<std::uint64_t>(row) | std::uint64_t{slot} << 32U);
    if (sink_ != nullptr) sink_->on_decision(decision);
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }

 private:
  void mix(std::uint64_t word) noexcept {
    for (unsigned shift = 0; shift < 64; shift += 8) {
      hash_ ^= (word >> shift) & 0xFFU;
      hash_ *= 0x0000'0100'0000'01B3ULL;
    }
  }

  std::uint64_t hash_ = 0xCBF2'9CE4'8422'2325ULL;
  std::uint64_t count_ = 0;
  DecisionSink* sink_;
};

}  // namespace loracle
