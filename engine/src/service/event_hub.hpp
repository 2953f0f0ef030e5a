#pragma once
/// What happens, as server-sent events: `id`, `event` and one line of JSON as `data`.
///
/// Events: loaded, unloaded, pinned, unpinned, leased, released, expired, policy, discovery, shutdown; and
/// residency, whenever an adapter has come to another tier: looked for every kLookMs while anybody listens,
/// so that what came and went in between is not told.
/// The last kKept events are kept: a client that comes back with Last-Event-ID gets what it missed of them,
/// and, if that is not all, first the event gap.
/// Threads: any; one of its own looks and sends.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "loracle/engine/engine.hpp"

namespace loracle::service {

class HttpConnection;

class EventHub {
 public:
  static constexpr std::size_t kStreamsMax = 64;
  static constexpr std::size_t kKept = 1024;
  static constexpr std::uint32_t kLookMs = 200;
  static constexpr std::uint32_t kHeartbeatMs = 15'000;

  /// Sends bytes to a client; false when it is gone.
  using Push = std::function<bool(const std::shared_ptr<HttpConnection>&, std::string)>;

  EventHub(Engine& engine, TimeSource& clock)
      : engine_(engine), last_id_(static_cast<std::uint64_t>(clock.unix_s()) * 1'000'000) {}
  EventHub(const EventHub&) = delete;
  EventHub& operator=(const EventHub&) = delete;
  ~EventHub() { stop(); }

  void start(Push push);
  /// `data`: JSON.
  void publish(std::string_view event, std::string_view data);
  /// Takes a place; false when kStreamsMax listen. The events after `last_id` that are kept are sent first.
  [[nodiscard]] bool add(const std::shared_ptr<HttpConnection>& connection, std::uint64_t last_id);
  /// Its answer has begun, so events may follow. REQUIRES: added.
  void begin(const std::shared_ptr<HttpConnection>& connection);
  /// Ends the thread; the streams it had.
  std::vector<std::shared_ptr<HttpConnection>> stop();
  [[nodiscard]] std::size_t streams() const;

 private:
  struct Event {
    std::uint64_t id = 0;
    std::string text;
  };
  struct Stream {
    std::shared_ptr<HttpConnection> connection;
    std::uint64_t sent_id = 0;
    bool has_head = false;
  };
  void run();
  /// Tells what has moved since the last look; of a first one, nothing. REQUIRES: looking_ is held.
  void look();
  bool look_if_anybody_listens();

  Engine& engine_;
  Push push_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> kept_;
  /// Later than any of an earlier run, so that who comes back after a restart misses nothing.
  std::uint64_t last_id_;
  std::vector<Stream> streams_;
  std::uint64_t begun_ = 0;  // streams, ever
  bool ending_ = false;
  std::mutex looking_;                                            // before mutex_
  std::optional<std::map<std::string, std::string_view>> tiers_;  // at the last look; under looking_
  std::thread thread_;
};

}  // namespace loracle::service
