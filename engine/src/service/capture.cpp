#include "service/capture.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "service/json_string.hpp"

namespace loracle::service {
namespace {

constexpr std::uint64_t kFileBytesMin = 64U << 10U;
constexpr std::size_t kFlushBytes = 64U << 10U;
constexpr std::chrono::milliseconds kFlushEvery(500);

std::string line_of(const CapturedAdapter& adapter) {
  std::string line = fmt::format(R"({{"type":"adapter","adapter":{})", json_string(adapter.name));
  if (adapter.bytes > 0) line += fmt::format(R"(,"bytes":{})", adapter.bytes);
  if (adapter.rank > 0) line += fmt::format(R"(,"rank":{})", adapter.rank);
  return line + "}\n";
}

std::string line_of(const CapturedRequest& request, std::uint64_t begun_ns) {
  const std::uint64_t since_ns = request.arrived_ns > begun_ns ? request.arrived_ns - begun_ns : 0;
  std::string line =
      fmt::format(R"({{"arrival_s":{}.{:09},"adapter":)", since_ns / 1'000'000'000, since_ns % 1'000'000'000);
  if (request.adapters.size() == 1) {
    line += json_string(request.adapters[0].name);
  } else {
    char before = '[';
    for (const CapturedAdapter& adapter : request.adapters) {
      line += std::exchange(before, ',');
      line += json_string(adapter.name);
    }
    line += ']';
  }
  if (!request.tenant.empty()) line += fmt::format(R"(,"tenant":{})", json_string(request.tenant));
  if (request.held_ns > 0)
    line += fmt::format(R"(,"duration_s":{:.6f})", static_cast<double>(request.held_ns) / 1e9);
  return line + "}\n";
}

}  // namespace

Capture::Capture(const CaptureConfig& config, std::uint64_t now_ns,
                 std::function<void(const Error&)> on_error)
    : config_(config),
      file_bytes_max_(config.max_size.value / config.files_max),
      begun_ns_(now_ns),
      on_error_(std::move(on_error)) {}

Result<std::unique_ptr<Capture>> Capture::open(const CaptureConfig& config, std::uint64_t now_ns,
                                               std::function<void(const Error&)> on_error) {
  if (config.files_max == 0) return fail(Errc::kInvalid, "capture.files_max 0: give 1 or more");
  if (config.max_size.value / config.files_max < kFileBytesMin) {
    return fail(Errc::kInvalid, fmt::format("capture.max_size {} in {} files: give at least {} bytes a file",
                                            config.max_size.value, config.files_max, kFileBytesMin));
  }
  auto capture = std::unique_ptr<Capture>(new Capture(config, now_ns, std::move(on_error)));
  if (Result<Unit> opened = capture->open_file(); !opened) return fail(std::move(opened.error()));
  capture->thread_ = std::thread([raw = capture.get()] { raw->run(); });
  return capture;
}

Capture::~Capture() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (file_ >= 0) ::close(file_);
}

void Capture::add(const CapturedRequest& request) {
  {
    const std::lock_guard lock(mutex_);
    const auto lines_of = [&] {
      std::string lines;
      for (const CapturedAdapter& adapter : request.adapters)
        if (!described_.contains(adapter.name)) lines += line_of(adapter);
      return lines + line_of(request, begun_ns_);
    };
    std::string lines = lines_of();
    const bool begins_file = file_bytes_ > 0 && file_bytes_ + lines.size() > file_bytes_max_;
    if (begins_file) {  // where nothing has been described yet
      described_.clear();
      lines = lines_of();
    }
    if (buffer_.size() + lines.size() > kBufferBytes) {
      ++counts_.dropped;
      return;
    }
    if (begins_file) {
      new_files_.push_back(buffer_.size());
      file_bytes_ = 0;
    }
    for (const CapturedAdapter& adapter : request.adapters) described_.insert(adapter.name);
    file_bytes_ += lines.size();
    buffer_ += lines;
    ++counts_.requests;
    counts_.bytes += lines.size();
    if (buffer_.size() < kFlushBytes) return;
  }
  changed_.notify_all();
}

CaptureCounts Capture::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

/// Older files step back by one, the oldest goes, and an empty one takes `path`. What cannot be replaced is
/// not moved: the new file is there before anything else happens.
Result<Unit> Capture::open_file() {
  if (file_ >= 0) ::close(std::exchange(file_, -1));
  file_whole_bytes_ = 0;
  const std::string& path = config_.path;
  const auto failed = [&path](const char* what) {
    const int error = errno;
    return fail(Errc::kIo, fmt::format("{}: cannot {}: {}", path, what, std::strerror(error)), error);
  };
  const std::string fresh = path + ".new";
  static_cast<void>(::unlink(fresh.c_str()));
  file_ = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (file_ < 0) return failed("record requests");
  if (Result<Unit> rotated = rotate(); !rotated) {
    ::close(std::exchange(file_, -1));
    static_cast<void>(::unlink(fresh.c_str()));
    return rotated;
  }
  if (::rename(fresh.c_str(), path.c_str()) == 0) return Unit{};
  auto error = failed("record requests");
  ::close(std::exchange(file_, -1));
  return error;
}

Result<Unit> Capture::rotate() const {
  const std::string& path = config_.path;
  struct stat last {};
  if (::lstat(path.c_str(), &last) != 0 && errno == ENOENT) return Unit{};
  if (S_ISREG(last.st_mode) && last.st_size == 0) return Unit{};  // nothing was recorded: it is written over
  for (std::uint32_t i = config_.files_max; i-- > 0;) {
    const std::string from = i == 0 ? path : fmt::format("{}.{}", path, i);
    const std::string to = fmt::format("{}.{}", path, i + 1);
    const bool is_oldest = i + 1 == config_.files_max;
    const int done = is_oldest ? ::unlink(from.c_str()) : ::rename(from.c_str(), to.c_str());
    if (done == 0 || errno == ENOENT) continue;
    const int error = errno;
    return fail(Errc::kIo, fmt::format("{}: cannot rotate the recording: {}", from, std::strerror(error)),
                error);
  }
  return Unit{};
}

Result<Unit> Capture::write(std::string_view lines) {
  const std::size_t whole = lines.size();
  while (!lines.empty()) {
    const ssize_t count = ::write(file_, lines.data(), lines.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const int error = errno;
      // Half a line would make the whole file unreadable.
      static_cast<void>(!::ftruncate(file_, static_cast<::off_t>(file_whole_bytes_)));
      static_cast<void>(::lseek(file_, static_cast<::off_t>(file_whole_bytes_), SEEK_SET));
      return fail(Errc::kIo,
                  fmt::format("{}: cannot record requests: {}", config_.path, std::strerror(error)), error);
    }
    lines.remove_prefix(static_cast<std::size_t>(count));
  }
  file_whole_bytes_ += whole;
  return Unit{};
}

void Capture::run() {
  std::unique_lock lock(mutex_);
  for (bool is_last = false; !is_last;) {
    changed_.wait_for(lock, kFlushEvery, [&] { return ending_ || buffer_.size() >= kFlushBytes; });
    is_last = ending_;
    std::string lines = std::exchange(buffer_, {});
    const std::vector<std::size_t> new_files = std::exchange(new_files_, {});
    lock.unlock();
    Result<Unit> done = file_ >= 0 || lines.empty() ? Result<Unit>(Unit{}) : open_file();  // it failed before
    std::size_t begin = 0;
    for (std::size_t i = 0; done && i <= new_files.size(); ++i) {
      const std::size_t end = i < new_files.size() ? new_files[i] : lines.size();
      done = write(std::string_view(lines).substr(begin, end - begin));
      if (done && i < new_files.size()) done = open_file();
      begin = end;
    }
    if (!done && !std::exchange(has_failed_, true)) on_error_(done.error());
    if (done && !lines.empty()) has_failed_ = false;
    lock.lock();
    if (!done) {
      ++counts_.failed_writes;
      described_.clear();  // what was lost may have been what described them
      file_bytes_ = (file_ >= 0 ? file_whole_bytes_ : 0) + buffer_.size();
      new_files_.clear();
    }
  }
}

}  // namespace loracle::service
