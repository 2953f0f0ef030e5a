#pragma once
/// A random play for one policy: adapters with sizes and costs, a tier's capacity, uses, and between them
/// pins, leases and removals; and the player that acts it out on a policy as a tier would, keeping its own
/// books.
///
/// All of it comes from one seed, which failures print. Ticks are the uses' indices, as in a replay.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "conformance/subject.hpp"
#include "loracle/core/rng.hpp"
#include "loracle/policy/make_room.hpp"

namespace loracle::testing {

enum class Limit : std::uint8_t { kEntries, kBytes, kBoth };

struct SceneOptions {
  std::uint32_t rows_max = 40;
  std::uint32_t entries_max = 12;  // with bytes: about as many adapters of mean size
  std::uint32_t uses = 400;
  bool holds = true;     // pins and leases come and go
  bool removals = true;  // rows leave from outside
  bool sheds = false;    // surplus is evicted at once
};

struct Scene {
  std::uint64_t seed = 0;
  SceneOptions options;
  std::uint32_t rows = 0;
  Capacity capacity;
  AdapterTable table;  // next_use is kept by the player
  std::vector<Row> uses;
  std::vector<std::uint32_t> next;  // [uses]

  [[nodiscard]] Future future() const { return {uses, next}; }
  [[nodiscard]] std::string describe() const;
};

[[nodiscard]] Scene make_scene(std::uint64_t seed, Limit limit, const SceneOptions& options);

/// What a test looks at while a scene is played. Any of them may be empty.
struct Observer {
  std::function<void(Row incoming, Row answer)> on_evict;  // after each evict; books are as before it
  std::function<void(Row row)> on_shed;                    // after each shed that gave a row; as above
  std::function<void()> on_operation;                      // after each operation, books up to date
};

class Player {
 public:
  Player(const Scene& scene, Subject& subject, Observer observer);

  /// Plays to the end, or to the first failure of the running test.
  void play();
  /// One use and what comes before it; false when the scene is over.
  bool step();

  [[nodiscard]] bool tracked(Row row) const { return tracked_[index_of(row)]; }
  [[nodiscard]] bool held(Row row) const { return !holds_.empty() && holds_[index_of(row)] != 0; }
  [[nodiscard]] const std::vector<std::uint32_t>& holds() const { return holds_; }
  [[nodiscard]] const Occupancy& used() const { return used_; }
  [[nodiscard]] const AdapterTable& table() const { return table_; }
  [[nodiscard]] Tick now() const { return Tick{at_}; }
  [[nodiscard]] std::uint64_t evictions() const { return evictions_; }
  [[nodiscard]] std::uint64_t hits() const { return hits_; }
  void forget(Row victim);  // takes it off the books

 private:
  void change_holds();
  void use(Row row);
  void shed();
  void told() const;

  const Scene& scene_;
  Subject& subject_;
  Observer observer_;
  AdapterTable table_;
  Rng rng_;
  std::vector<bool> tracked_;
  std::vector<std::uint32_t> holds_;
  Occupancy used_;
  std::uint64_t at_ = 0;
  std::uint64_t evictions_ = 0;
  std::uint64_t hits_ = 0;
};

/// LORACLE_SOAK is set: run many more scenes.
[[nodiscard]] bool soaking();
/// How many scenes to play where `count` is usual: fewer under a sanitizer and with lhd,
/// whose learning is slow; many more when soaking.
[[nodiscard]] std::uint64_t scenes(const SubjectSpec& spec, std::uint64_t count);

}  // namespace loracle::testing
