#pragma once
/// What caches and fetches ask of the system, with errors that say what to do. Threads: any.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "io_failed.hpp"
#include "loracle/core/result.hpp"
#include "storage/unique_fd.hpp"

namespace loracle {

/// Gives the open file its size, and its blocks where the file system can: a full disk says so now.
[[nodiscard]] Result<Unit> allocate(int fd, const std::string& path, std::uint64_t size);
[[nodiscard]] Result<Unit> write_at(int fd, const std::string& path, std::uint64_t offset,
                                    std::span<const std::byte> bytes);
/// Some of the bytes from `offset` on, as many as there were at once; 0 at the end of the file.
[[nodiscard]] Result<std::size_t> read_at(int fd, const std::string& path, std::uint64_t offset,
                                          std::span<std::byte> into);
/// Lets the disk begin with what was written there, so that a flush later has less to wait for. A hint.
void begin_flush(int fd, std::uint64_t offset, std::uint64_t length) noexcept;
/// Until all that was written is on the disk.
[[nodiscard]] Result<Unit> flush(int fd, const std::string& path);
[[nodiscard]] Result<UniqueFd> open_directory(const std::string& path);
/// A new file, for reading and writing.
[[nodiscard]] Result<UniqueFd> create_file(const std::string& path);
/// The folder and all that is in it.
[[nodiscard]] Result<Unit> remove_tree(const std::string& path);

}  // namespace loracle
