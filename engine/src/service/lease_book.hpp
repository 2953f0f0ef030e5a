#pragma once
/// Leases that clients hold by a name. Each ends: when it is released, at its end of time, or with the book.
///
/// A lease's id is 128 random bits: who was not told it cannot release it.
/// Threads: any; one of its own ends what is due. Cost: O(log leases) a call.
/// Errors: kBusy (leases_max are out), kCancelled (the book is closed), kNotFound (no such lease: never
/// given, released or expired), kIo (no random bits).

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/engine/engine.hpp"
#include "service/capture.hpp"

namespace loracle::service {

enum class LeaseEnd : std::uint8_t { kReleased, kExpired, kClosed };

/// What was leased, and when; told when it ends.
struct LeaseRecord {
  std::vector<std::string> names;
  std::vector<CapturedAdapter> adapters;           // of the names, as they were when they were leased
  std::vector<std::shared_ptr<const void>> files;  // keep on this machine what the lease was told lies here
  std::string tenant;
  std::uint64_t arrived_ns = 0;  // of the request
  std::uint64_t granted_ns = 0;
};

class LeaseBook {
 public:
  using OnEnd = std::function<void(const std::string& id, const LeaseRecord& record, LeaseEnd how)>;

  LeaseBook(TimeSource& clock, std::size_t leases_max, OnEnd on_end);
  LeaseBook(const LeaseBook&) = delete;
  LeaseBook& operator=(const LeaseBook&) = delete;
  ~LeaseBook();

  [[nodiscard]] Result<std::string> add(Lease lease, LeaseRecord record, double ttl_s);
  /// `name`: an adapter the lease must be of; empty: any.
  [[nodiscard]] Result<Unit> release(const std::string& id, std::string_view name);
  [[nodiscard]] Result<Unit> renew(const std::string& id, std::string_view name, double ttl_s);
  /// Ends all of them and takes no more.
  void close();

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] std::uint64_t expired() const;

 private:
  struct Entry {
    Lease lease;
    LeaseRecord record;
    std::uint64_t ends_ns = 0;
  };
  void run();
  [[nodiscard]] Result<Entry*> find(const std::string& id, std::string_view name);

  TimeSource& clock_;
  std::size_t leases_max_;
  OnEnd on_end_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::string, Entry> entries_;
  std::set<std::pair<std::uint64_t, std::string>> by_end_;
  std::uint64_t expired_ = 0;
  bool closed_ = false;
  bool ending_ = false;
  std::thread thread_;
};

/// `bytes` random ones as hex; empty if there are none to be had.
[[nodiscard]] std::string random_hex(std::size_t bytes);

}  // namespace loracle::service
