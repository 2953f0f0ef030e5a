#include "loracle/traces/adapter_directory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_map>
#include <utility>

namespace loracle {
namespace {

namespace fs = std::filesystem;

struct Facts {
  std::uint64_t bytes = 0;
  std::uint16_t rank = 0;
};

constexpr std::uintmax_t kConfigBytesMax = 1U << 20U;

Result<Facts> read_adapter(const fs::path& folder) {
  std::error_code error;
  const fs::path config = folder / "adapter_config.json";
  if (fs::file_size(config, error) > kConfigBytesMax || error)
    return fail(Errc::kCorrupt, "adapter_config.json is unreadable or larger than 1 MiB");
  std::ifstream in(config, std::ios::binary);
  const auto json = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  const auto rank = json.is_object() ? json.find("r") : json.end();
  if (!json.is_object() || rank == json.end() || !rank->is_number_unsigned())
    return fail(Errc::kCorrupt, "adapter_config.json has no rank `r`");
  const auto value = rank->get<std::uint64_t>();
  if (value < 1 || value > 65535)
    return fail(Errc::kCorrupt, fmt::format("rank {} is not 1 .. 65535", value));
  for (const char* weights : {"adapter_model.safetensors", "adapter_model.bin"}) {
    const std::uintmax_t size = fs::file_size(folder / weights, error);
    if (!error) return Facts{size, static_cast<std::uint16_t>(value)};
  }
  return fail(Errc::kCorrupt, "no adapter_model.safetensors or adapter_model.bin");
}

template <class T>
std::vector<T> owned(const Column<T>& column, std::size_t rows) {
  std::vector<T> values(column.view().begin(), column.view().end());
  values.resize(rows, 0);
  return values;
}

}  // namespace

Result<AdapterDirectoryReport> add_adapter_facts(Trace& trace, const std::string& directory) {
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  if (error)
    return fail(error == std::errc::no_such_file_or_directory ? Errc::kNotFound : Errc::kIo,
                fmt::format("{}: cannot list the adapters: {}: give a directory with one folder an adapter",
                            directory, error.message()),
                error.value());
  AdapterDirectoryReport report;
  std::unordered_map<std::string, Facts> found;
  for (; entries != fs::directory_iterator(); entries.increment(error)) {
    if (error) return fail(Errc::kIo, fmt::format("{}: {}", directory, error.message()), error.value());
    const fs::path& folder = entries->path();
    std::error_code ignored;
    if (!fs::exists(folder / "adapter_config.json", ignored)) continue;
    Result<Facts> facts = read_adapter(folder);
    if (facts)
      found.emplace(folder.filename().string(), *facts);
    else
      report.rejected.push_back(fmt::format("{}: {}", folder.filename().string(), facts.error().message));
  }
  std::sort(report.rejected.begin(), report.rejected.end());
  report.found = found.size();

  const std::size_t rows = trace.adapters.name.size();
  std::vector<std::uint64_t> bytes = owned(trace.adapters.bytes, rows);
  std::vector<std::uint16_t> rank = owned(trace.adapters.rank, rows);
  for (std::size_t row = 0; row < rows; ++row) {
    const auto facts = found.find(std::string(trace.adapters.name[row]));
    if (facts == found.end()) continue;
    bytes[row] = facts->second.bytes;
    rank[row] = facts->second.rank;
    ++report.matched;
  }
  trace.adapters.bytes = Column<std::uint64_t>(std::move(bytes));
  trace.adapters.rank = Column<std::uint16_t>(std::move(rank));
  return report;
}

}  // namespace loracle
