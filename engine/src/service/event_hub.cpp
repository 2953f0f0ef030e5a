#include "service/event_hub.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

namespace loracle::service {

void EventHub::start(Push push) {
  push_ = std::move(push);
  thread_ = std::thread([this] { run(); });
}

void EventHub::publish(std::string_view event, std::string_view data) {
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t id = ++last_id_;
    kept_.push_back({id, fmt::format("id: {}\nevent: {}\ndata: {}\n\n", id, event, data)});
    if (kept_.size() > kKept) kept_.pop_front();
    if (streams_.empty()) return;
  }
  changed_.notify_all();
}

bool EventHub::add(const std::shared_ptr<HttpConnection>& connection, std::uint64_t last_id) {
  {
    // Where everything is, is known before the client is: whatever moves from now on will be told.
    const std::lock_guard looking(looking_);
    if (streams() == 0) {
      tiers_.reset();
      look();
    }
    const std::lock_guard lock(mutex_);
    if (ending_ || streams_.size() >= kStreamsMax) return false;
    // An id from the future is none of ours: such a client begins anew.
    streams_.push_back({connection, last_id == 0 || last_id > last_id_ ? last_id_ : last_id});
  }
  changed_.notify_all();
  return true;
}

void EventHub::begin(const std::shared_ptr<HttpConnection>& connection) {
  {
    const std::lock_guard lock(mutex_);
    for (Stream& stream : streams_)
      if (stream.connection == connection) stream.has_head = true;
    ++begun_;
  }
  changed_.notify_all();
}

std::vector<std::shared_ptr<HttpConnection>> EventHub::stop() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<HttpConnection>> connections;
  for (Stream& stream : streams_) connections.push_back(std::move(stream.connection));
  streams_.clear();
  return connections;
}

std::size_t EventHub::streams() const {
  const std::lock_guard lock(mutex_);
  return streams_.size();
}

void EventHub::look() {
  std::map<std::string, std::string_view> tiers;
  for (const AdapterStatus& adapter : engine_.list())
    if (adapter.on_device || adapter.on_host)
      tiers.emplace(adapter.name, adapter.on_device ? "device" : "host");
  const auto tell = [&](const std::string& name, std::string_view from, std::string_view to) {
    const nlohmann::ordered_json json = {{"name", name}, {"from", from}, {"to", to}};
    publish("residency", json.dump());
  };
  if (tiers_) {
    for (const auto& [name, tier] : *tiers_)
      if (!tiers.contains(name)) tell(name, tier, "storage");
    for (const auto& [name, tier] : tiers) {
      const auto before = tiers_->find(name);
      if (before == tiers_->end())
        tell(name, "storage", tier);
      else if (before->second != tier)
        tell(name, before->second, tier);
    }
  }
  tiers_ = std::move(tiers);
}

bool EventHub::look_if_anybody_listens() {
  const std::lock_guard looking(looking_);
  const bool anybody = streams() > 0;
  if (anybody) look();
  return anybody;
}

void EventHub::run() {
  using std::chrono::milliseconds;
  using Clock = std::chrono::steady_clock;  // of the machine: nothing that is told depends on it
  std::uint32_t quiet_ms = 0;
  Clock::time_point next_look;
  std::unique_lock lock(mutex_);
  for (;;) {
    const bool is_last = ending_;  // what was published before `stop` is still sent
    lock.unlock();
    if (!is_last && Clock::now() >= next_look && look_if_anybody_listens())
      next_look = Clock::now() + milliseconds(kLookMs);
    lock.lock();
    std::vector<std::pair<Stream*, std::string>> due;
    for (Stream& stream : streams_) {
      if (!stream.has_head) continue;  // what came before its head would be lost
      std::string text;
      const std::uint64_t first_kept = kept_.empty() ? last_id_ + 1 : kept_.front().id;
      if (stream.sent_id + 1 < first_kept) text = "event: gap\ndata: {}\n\n";
      for (const Event& event : kept_)
        if (event.id > stream.sent_id) text += event.text;
      stream.sent_id = last_id_;
      if (text.empty() && quiet_ms >= kHeartbeatMs) text = ": still here\n\n";
      if (!text.empty()) due.emplace_back(&stream, std::move(text));
    }
    if (!due.empty() || quiet_ms >= kHeartbeatMs) quiet_ms = 0;
    // push_ hands over to the front and takes no lock of ours.
    for (auto& [stream, text] : due)
      if (!push_(stream->connection, std::move(text))) stream->connection = nullptr;
    std::erase_if(streams_, [](const Stream& stream) { return stream.connection == nullptr; });
    if (is_last) return;
    const std::uint64_t seen = last_id_;
    const std::size_t count = streams_.size();
    const std::uint64_t begun = begun_;
    const bool woken = changed_.wait_for(lock, milliseconds(count == 0 ? 60'000 : kLookMs), [&] {
      return ending_ || streams_.size() != count || begun_ != begun || (count > 0 && last_id_ != seen);
    });
    if (!woken) quiet_ms += kLookMs;
  }
}

}  // namespace loracle::service
