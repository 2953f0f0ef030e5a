#pragma once
/// An EngineCore over made-up adapters of one small layer: names "a0", "a1", ..., each with bytes of its own,
/// which every lease is checked for.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/engine_core.hpp"
#include "support/sim_env.hpp"

namespace loracle::testing {

constexpr std::uint32_t kWidth = 4;  // in and out of the one slice; also the largest rank

inline SlotLayout one_slice() {
  SlotLayout layout;
  layout.slices = {{"layers.0.q_proj", kWidth, kWidth}};
  layout.max_rank = kWidth;
  layout.dtype = Dtype::kF32;
  return layout;
}

class CoreScene {
 public:
  explicit CoreScene(EngineConfig config, std::uint64_t seed = 1, std::uint32_t rows_max = 64)
      : workers(time, seed) {
    Env env{&time, &posix_files(), &workers, &device};
    Result<std::unique_ptr<EngineCore>> made =
        EngineCore::make(config, one_slice(), rows_max, env,
                         [this](const std::string& name, const AdapterSource& source,
                                std::span<std::byte> image) { return read(name, source, image); });
    if (!made) {
      ADD_FAILURE() << made.error().message;
      return;
    }
    core = std::move(*made);
  }

  /// Makes adapter `name` known at rank 1 .. kWidth; each call is a new version.
  void know(const std::string& name, std::uint32_t rank) {
    AdapterSource source;
    std::uint32_t& id = ids_[name];
    if (id == 0) id = static_cast<std::uint32_t>(ids_.size());
    source.id = id;
    source.rank = rank;
    source.bytes = std::uint64_t{2} * rank * kWidth * sizeof(float);
    source.directory = std::to_string(++versions_);
    core->know(name, source);
    current_[name] = source;
    known_as_[id].insert(static_cast<float>(versions_));
  }
  /// Whether the slot holds some version of that adapter, and of no other.
  [[nodiscard]] bool was_ever(std::uint32_t id, float version) const {
    const auto found = known_as_.find(id);
    return found != known_as_.end() && found->second.count(version) != 0;
  }
  [[nodiscard]] std::uint32_t id_of(const std::string& name) const { return ids_.at(name); }
  [[nodiscard]] const AdapterSource& source(const std::string& name) const { return current_.at(name); }

  [[nodiscard]] Result<Lease> acquire(const std::vector<std::string>& names,
                                      std::uint64_t timeout_ns = kNoDeadline) {
    const std::vector<std::string_view> views(names.begin(), names.end());
    return core->acquire(views, {timeout_ns});
  }
  /// The first float of the adapter that a slot holds: its version.
  [[nodiscard]] float version_in(std::uint32_t slot) {
    std::vector<float> a(std::size_t{kWidth} * kWidth);
    EXPECT_TRUE(device.read_slot(slot, 0, SlotSide::kA, std::as_writable_bytes(std::span(a))));
    return a[0];
  }
  /// Whether each slot of the lease holds its adapter whole: A and B of that version, zero beyond the rank.
  void expect_whole(const Lease& lease, const std::vector<float>& versions) {
    std::vector<float> a(std::size_t{kWidth} * kWidth);
    std::vector<float> b(a.size());
    for (std::size_t i = 0; i < lease.adapters().size(); ++i) {
      const LeasedAdapter& adapter = lease.adapters()[i];
      ASSERT_TRUE(device.read_slot(adapter.slot, 0, SlotSide::kA, std::as_writable_bytes(std::span(a))));
      ASSERT_TRUE(device.read_slot(adapter.slot, 0, SlotSide::kB, std::as_writable_bytes(std::span(b))));
      for (std::uint32_t r = 0; r < kWidth; ++r) {
        for (std::uint32_t c = 0; c < kWidth; ++c) {
          ASSERT_EQ(a[std::size_t{r} * kWidth + c], r < adapter.rank ? versions[i] : 0.0F);
          ASSERT_EQ(b[std::size_t{r} * kWidth + c], c < adapter.rank ? -versions[i] : 0.0F);
        }
      }
    }
  }
  [[nodiscard]] float version_of(const std::string& name) const {
    return std::stof(current_.at(name).directory);
  }

  SimTime time;
  SimDevice device;
  SimWorkers workers;
  std::set<std::string> broken;  // names whose loads fail
  std::uint64_t reads = 0;
  std::map<std::string, int> reads_of;
  std::function<bool()> read_fails;  // asked at each read
  std::unique_ptr<EngineCore> core;  // goes first

 private:
  [[nodiscard]] Result<std::shared_ptr<const ImageManifest>> read(const std::string& name,
                                                                  const AdapterSource& source,
                                                                  std::span<std::byte> image) {
    ++reads;
    ++reads_of[name];
    if (broken.contains(name) || (read_fails && read_fails()))
      return fail(Errc::kCorrupt, name + ": does not load");
    const float version = std::stof(source.directory);
    const std::size_t half = std::size_t{source.rank} * kWidth;
    std::vector<float> values(2 * half, version);
    std::fill(values.begin() + static_cast<std::ptrdiff_t>(half), values.end(), -version);
    EXPECT_EQ(image.size(), values.size() * sizeof(float));
    std::memcpy(image.data(), values.data(), image.size());
    ImageManifest manifest;
    manifest.tensors = {{0, source.rank, 0, half}};
    manifest.elements = values.size();
    return std::make_shared<const ImageManifest>(std::move(manifest));
  }

  std::map<std::string, std::uint32_t> ids_;
  std::map<std::uint32_t, std::set<float>> known_as_;
  std::map<std::string, AdapterSource> current_;
  std::uint64_t versions_ = 0;
};

}  // namespace loracle::testing
