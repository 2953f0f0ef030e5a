#include "service/lease_book.hpp"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <algorithm>
#include <chrono>

namespace loracle::service {
namespace {

constexpr double kNsPerSecond = 1e9;

std::uint64_t after(std::uint64_t now_ns, double seconds) noexcept {
  return now_ns + static_cast<std::uint64_t>(seconds * kNsPerSecond);
}

}  // namespace

std::string random_hex(std::size_t bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::vector<unsigned char> random(bytes);
  if (::RAND_bytes(random.data(), static_cast<int>(bytes)) != 1) return {};
  std::string hex;
  hex.reserve(2 * bytes);
  for (const unsigned char byte : random) {
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 15U];
  }
  return hex;
}

LeaseBook::LeaseBook(TimeSource& clock, std::size_t leases_max, OnEnd on_end)
    : clock_(clock), leases_max_(leases_max), on_end_(std::move(on_end)) {
  thread_ = std::thread([this] { run(); });
}

LeaseBook::~LeaseBook() {
  close();
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<std::string> LeaseBook::add(Lease lease, LeaseRecord record, double ttl_s) {
  std::string id = random_hex(16);
  if (id.empty()) return fail(Errc::kIo, "no random numbers to be had for a lease's id");
  record.granted_ns = clock_.now_ns();
  bool ends_first = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(Errc::kCancelled, "the service is shutting down");
    if (entries_.size() >= leases_max_)
      return fail(Errc::kBusy, fmt::format("{} leases are out already, which is the limit", leases_max_));
    Entry entry;
    entry.lease = std::move(lease);
    entry.ends_ns = after(record.granted_ns, ttl_s);
    entry.record = std::move(record);
    const auto place = by_end_.emplace(entry.ends_ns, id).first;
    ends_first = place == by_end_.begin();
    entries_.emplace(id, std::move(entry));
  }
  if (ends_first) changed_.notify_all();
  return id;
}

Result<LeaseBook::Entry*> LeaseBook::find(const std::string& id, std::string_view name) {
  const auto found = entries_.find(id);
  if (found == entries_.end())
    return fail(Errc::kNotFound,
                "there is no such lease: it was never given, or was released, or has expired");
  const std::vector<std::string>& names = found->second.record.names;
  if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end())
    return fail(Errc::kNotFound, "there is no such lease of this adapter");
  return &found->second;
}

Result<Unit> LeaseBook::release(const std::string& id, std::string_view name) {
  Entry ended;
  {
    const std::lock_guard lock(mutex_);
    const Result<Entry*> entry = find(id, name);
    if (!entry) return fail(entry.error());
    ended = std::move(**entry);
    by_end_.erase({ended.ends_ns, id});
    entries_.erase(id);
  }
  ended.lease.let_go();
  on_end_(id, ended.record, LeaseEnd::kReleased);
  return Unit{};
}

Result<Unit> LeaseBook::renew(const std::string& id, std::string_view name, double ttl_s) {
  {
    const std::lock_guard lock(mutex_);
    const Result<Entry*> entry = find(id, name);
    if (!entry) return fail(entry.error());
    by_end_.erase({(*entry)->ends_ns, id});
    (*entry)->ends_ns = after(clock_.now_ns(), ttl_s);
    by_end_.emplace((*entry)->ends_ns, id);
  }
  changed_.notify_all();
  return Unit{};
}

void LeaseBook::close() {
  std::unordered_map<std::string, Entry> ended;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    ended.swap(entries_);
    by_end_.clear();
  }
  for (auto& [id, entry] : ended) {
    entry.lease.let_go();
    on_end_(id, entry.record, LeaseEnd::kClosed);
  }
}

std::size_t LeaseBook::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

std::uint64_t LeaseBook::expired() const {
  const std::lock_guard lock(mutex_);
  return expired_;
}

void LeaseBook::run() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    if (by_end_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const std::uint64_t now_ns = clock_.now_ns();
    const auto [ends_ns, id] = *by_end_.begin();
    if (ends_ns > now_ns) {
      changed_.wait_for(lock, std::chrono::nanoseconds(ends_ns - now_ns));
      continue;
    }
    Entry ended = std::move(entries_.at(id));
    entries_.erase(id);
    by_end_.erase(by_end_.begin());
    ++expired_;
    lock.unlock();
    ended.lease.let_go();
    on_end_(id, ended.record, LeaseEnd::kExpired);
    ended = {};
    lock.lock();
  }
}

}  // namespace loracle::service
