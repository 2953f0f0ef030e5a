#pragma once
/// Records the service's requests as a trace (our JSONL, traces/README.md), so that `loracle plan` and
/// `loracle replay` run on real traffic.
///
/// A request is written when its lease ends, with the time it arrived and how long it held its adapters;
/// readers put requests into the order of their arrival. Seconds count from the start of the recording.
/// Before a file's first use of an adapter comes the line with its bytes and rank: each file can be read
/// alone. Files: `path`, and older ones as path.1, path.2, ...; never more than `files_max`, nor more than
/// `max_size` together. What an earlier run left at `path` is rotated, not overwritten.
/// Cost: a request is one line into a buffer of at most kBufferBytes, which a thread writes out; when it is
/// full, lines are dropped and counted. A disk that fails costs lines, never requests.
/// Threads: any.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "loracle/core/result.hpp"
#include "loracle/service/config.hpp"

namespace loracle::service {

struct CapturedAdapter {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint32_t rank = 0;
};

struct CapturedRequest {
  std::vector<CapturedAdapter> adapters;
  std::string tenant;
  std::uint64_t arrived_ns = 0;
  std::uint64_t held_ns = 0;  // 0: it was never served
};

struct CaptureCounts {
  std::uint64_t requests = 0;
  std::uint64_t dropped = 0;
  std::uint64_t bytes = 0;
  std::uint64_t failed_writes = 0;
};

class Capture {
 public:
  static constexpr std::size_t kBufferBytes = 4U << 20U;

  /// Errors: kInvalid (sizes), kIo (`path` cannot be written).
  [[nodiscard]] static Result<std::unique_ptr<Capture>> open(const CaptureConfig& config,
                                                             std::uint64_t now_ns,
                                                             std::function<void(const Error&)> on_error);
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  /// Writes what is buffered.
  ~Capture();

  void add(const CapturedRequest& request);
  [[nodiscard]] CaptureCounts counts() const;

 private:
  Capture(const CaptureConfig& config, std::uint64_t now_ns, std::function<void(const Error&)> on_error);
  void run();
  [[nodiscard]] Result<Unit> open_file();
  [[nodiscard]] Result<Unit> rotate() const;
  [[nodiscard]] Result<Unit> write(std::string_view lines);

  CaptureConfig config_;
  std::uint64_t file_bytes_max_;
  std::uint64_t begun_ns_;
  std::function<void(const Error&)> on_error_;

  mutable std::mutex mutex_;  // guards the rest of this group
  std::condition_variable changed_;
  std::string buffer_;
  std::set<std::string> described_;     // in the file the buffer will go to
  std::uint64_t file_bytes_ = 0;        // of that file, buffer included
  std::vector<std::size_t> new_files_;  // offsets in the buffer at which a new file begins
  CaptureCounts counts_;
  bool ending_ = false;

  int file_ = -1;                       // the thread's only
  std::uint64_t file_whole_bytes_ = 0;  // likewise: written, to the end of a line
  bool has_failed_ = false;             // likewise: an error is told once, until a write succeeds again
  std::thread thread_;
};

}  // namespace loracle::service
